#include "hv/parent/message_device.h"

#include <algorithm>

#include "base/state.h"

namespace vg::hv::parent {

MessageDevice::MessageDevice(const std::string& name, EventQueue& events, vsp::MessageCore& core)
    : events_(events), core_(core), timer_(events.add(name + "/tick", [this](VTime) { tick(); })) {}

MessageDevice::~MessageDevice() { events_.cancel(timer_); }

void MessageDevice::opened(vmbus::Channel& channel) {
    channel_ = &channel;
    completion_.reset();
    core_.opened();
}

void MessageDevice::closed(vmbus::Channel&) {
    channel_ = nullptr;
    completion_.reset();
    events_.cancel(timer_);
    core_.closed();
}

void MessageDevice::signalled(vmbus::Channel&) { pump(); }

void MessageDevice::poke() {
    if (channel_ != nullptr) pump();
}

/// False: no room; the guest signals when there is.
bool MessageDevice::send() {
    if (completion_ && !channel_->write_completion(*completion_, {})) return false;
    completion_.reset();
    while (true) {
        const vsp::MessageCore::Outgoing message = core_.next(buffer_);
        if (message.size == 0) return true;
        if (!channel_->write_packet(vmbus::PacketType::InBand, 0, message.transaction_id,
                                    std::span(buffer_).first(message.size))) {
            return false;
        }
        core_.sent();
    }
}

void MessageDevice::pump() {
    vmbus::Packet packet;
    while (send() && channel_->read_packet(packet)) {
        if (packet.type != vmbus::PacketType::InBand) continue;
        if (packet.completion_requested()) completion_ = packet.transaction_id;
        core_.receive(packet.payload.first(std::min<std::size_t>(packet.payload.size(), vsp::MessageCore::kMaxMessage)),
                      packet.transaction_id);
    }
    channel_->commit();
    arm();
}

void MessageDevice::arm() {
    const u64 after = core_.tick_after_ns();
    if (after == 0)
        events_.cancel(timer_);
    else if (!events_.armed(timer_))
        events_.arm(timer_, events_.now() + after);
}

void MessageDevice::tick() {
    core_.tick();
    if (channel_ != nullptr) pump();
}

void MessageDevice::fields(StateVisitor& v) {
    core_.fields(v);
    bool due = completion_.has_value();
    u64 transaction_id = completion_.value_or(0);
    v("completion_due", due);
    v("completion", transaction_id);
    if (v.loading()) completion_ = due ? std::optional(transaction_id) : std::nullopt;
}

}  // namespace vg::hv::parent
