#include "hv/ic/time_sync.h"

namespace vg::hv::ic {

namespace {

constexpr Version kFrameworks[] = {{1, 0}, {3, 0}};
constexpr Version kVersions[] = {{1, 0}, {3, 0}, {4, 0}};

}  // namespace

TimeSyncService::TimeSyncService(const HostTime& time)
    : IcService(MessageType::TimeSync, kFrameworks, kVersions), time_(time) {}

u64 TimeSyncService::tick_after_ns() const { return state() == State::Ready && !waiting() ? kPeriodNs : 0; }

void TimeSyncService::tick() {
    due_ = true;
    if (told_start_ != time_.start_seconds()) sync_ = true;
}

u32 TimeSyncService::request(std::span<u8> body) {
    if (!due_) return 0;
    const u8 flags = sync_ ? kTimeSync : kTimeSample;
    if (version().major >= 4) {
        vsp::put_message(body, TimeSync4{time_.now_100ns(), time_.reference(), flags, 0, 1, {}});
        return sizeof(TimeSync4);
    }
    vsp::put_message(body, TimeSync{time_.now_100ns(), 0, 0, flags});
    return sizeof(TimeSync);
}

void TimeSyncService::requested() {
    ++(sync_ ? synchronizations_ : samples_);
    if (sync_) told_start_ = time_.start_seconds();
    sync_ = due_ = false;
}

}  // namespace vg::hv::ic
