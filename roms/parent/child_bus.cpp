#include "roms/parent/child_bus.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "hv/spec/port.h"

namespace vg::parent {

namespace vmbus = hv::vmbus;

ChildBus::ChildBus(std::string name, u64 partition_id, Ports& ports, ChildMemory& memory, EventQueue& events, Log& log)
    : name_(std::move(name)),
      partition_id_(partition_id),
      ports_(ports),
      memory_(memory),
      events_(events),
      log_(log),
      server_(static_cast<vmbus::Notifier&>(*this), log),
      retry_timer_(events.add("vmbus-retry", [this](VTime) { retry(); })) {}

ChildBus::~ChildBus() {
    events_.cancel(retry_timer_);
    ports_.remove(*this);
}

HvStatus ChildBus::connect() {
    for (const u32 id : {vmbus::kMessageConnectionLegacy, vmbus::kMessageConnectionContact}) {
        const HvStatus status = ports_.connect_messages(partition_id_, id, *this);
        if (status != HvStatus::Success) return status;
    }
    return HvStatus::Success;
}

hv::parent::StorageController& ChildBus::add_storage_controller(const hv::Guid& instance, u16 max_sub_channels) {
    const std::string name = fmt::format("{}.scsi{}", name_, storage_.size());
    storage_.push_back(
        std::make_unique<hv::parent::StorageController>(name, instance, events_, log_, max_sub_channels));
    vmbus::Offer offer;
    offer.name = name;
    offer.type = hv::kScsiControllerClass;
    offer.instance = instance;
    offer.flags = vmbus::kOfferEnumerate;
    const u16 relid = server_.offer(std::move(offer), *storage_.back());
    VG_ASSERT(relid != 0);
    return *storage_.back();
}

// ---- from the child: queue, never act

void ChildBus::on_message(u32 type, std::span<const u8> payload) {
    if (type != vmbus::kMessageTypeChannel) return;  // nobody here knows other types
    if (queued_messages_ >= kMaxQueuedMessages) {
        if (complaints_.pass())
            log_.warn(Area::Vmbus, "{}: posts without taking its answers; a message is lost", name_);
        return;
    }
    work_.push_back({false, 0, {payload.begin(), payload.end()}});
    ++queued_messages_;
}

void ChildBus::on_signal(u32 connection_id) {
    if (queued_signals_.insert(connection_id).second) work_.push_back({true, connection_id, {}});
}

bool ChildBus::run() {
    bool any = false;
    for (std::size_t left = work_.size(); left != 0 && !work_.empty(); --left) {
        if (!work_.front().is_signal && !server_.accepting()) return any;  // retry() comes back
        const Work work = std::move(work_.front());
        work_.pop_front();
        any = true;
        if (work.is_signal) {
            queued_signals_.erase(work.connection_id);
            server_.on_signal(work.connection_id);
        } else {
            --queued_messages_;
            server_.on_message(work.message);
        }
    }
    return any;
}

void ChildBus::retry() {
    retry_delay_ = std::min(retry_delay_ * 2, kMaxRetryDelay);
    server_.flush();
    if (!server_.has_unsent()) retry_delay_ = kMinRetryDelay;
}

// ---- to the child

bool ChildBus::send_message(u32 vp_index, u8 sint, std::span<const u8> message) {
    hv::PostMessageDirectIn in{};
    in.partition_id = partition_id_;
    in.vp_index = vp_index;
    in.sint = sint;
    VG_ASSERT(message.size() <= hv::kMessagePayloadMax);
    const hv::MessageHeader header{vmbus::kMessageTypeChannel, static_cast<u8>(message.size()), 0, 0, 0};
    std::memcpy(in.message, &header, sizeof header);
    std::memcpy(in.message + sizeof header, message.data(), message.size());
    const HvStatus status = call(Call::PostMessageDirect, in);
    if (status == HvStatus::InsufficientBuffers) {
        if (!events_.armed(retry_timer_)) events_.arm(retry_timer_, events_.now() + retry_delay_);
        return false;
    }
    if (status != HvStatus::Success && complaints_.pass())
        log_.warn(Area::Vmbus, "{}: channel message to VP {} SINT {} dropped: status {:#x}", name_, vp_index, sint,
                  number(status));
    return true;
}

void ChildBus::signal_guest(u32 vp_index, u8 sint, u16 flag) {
    // Refused for a SINT that is masked or off (S-07): the child's own decision.
    u8 fresh = 0;
    (void)call(Call::SignalEventDirect, hv::SignalEventDirectIn{partition_id_, vp_index, 0, sint, flag}, fresh);
}

bool ChildBus::connect_event(u32 connection_id) {
    return ports_.connect_event(partition_id_, connection_id, *this) == HvStatus::Success;
}
void ChildBus::disconnect_event(u32 connection_id) { ports_.disconnect_event(partition_id_, connection_id); }

bool ChildBus::read_guest(u64 gpa, void* out, u64 size) {
    return memory_.read(Gpa(gpa), {static_cast<u8*>(out), size});
}
bool ChildBus::write_guest(u64 gpa, const void* data, u64 size) {
    return memory_.write(Gpa(gpa), {static_cast<const u8*>(data), size});
}

}  // namespace vg::parent
