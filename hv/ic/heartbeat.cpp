#include "hv/ic/heartbeat.h"

namespace vg::hv::ic {

namespace {

constexpr Version kFrameworks[] = {{1, 0}, {3, 0}};
constexpr Version kVersions[] = {{1, 0}, {3, 0}};

}  // namespace

HeartbeatService::HeartbeatService() : IcService(MessageType::Heartbeat, kFrameworks, kVersions) {}

void HeartbeatService::ready() {
    due_ = true;
    missed_ = 0;
}

void HeartbeatService::lost() {
    health_ = Health::Unknown;
    due_ = false;
    missed_ = 0;
}

u64 HeartbeatService::tick_after_ns() const {
    return state() == State::Ready && health_ != Health::Lost ? kPeriodNs : 0;
}

void HeartbeatService::tick() {
    if (!waiting()) {
        due_ = true;
        return;
    }
    ++missed_;
    health_ = missed_ < kMissesUntilLost ? Health::Late : Health::Lost;
}

u32 HeartbeatService::request(std::span<u8> body) {
    if (!due_) return 0;
    vsp::put_message(body, Heartbeat{sequence_, {}});
    return sizeof(Heartbeat);
}

/// The guest counts one on.
void HeartbeatService::answered(u32, std::span<const u8> body) {
    bool whole = false;
    const auto answer = vsp::read_message<Heartbeat>(body, whole);
    missed_ = 0;
    health_ = whole && answer.sequence == sequence_ + 1 ? Health::Alive : Health::Late;
    ++sequence_;
}

}  // namespace vg::hv::ic
