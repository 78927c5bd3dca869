#include "hv/vsp/keyboard.h"

namespace vg::hv::vsp {

using keyboard::MessageType;

void Keyboard::opened() {
    state_ = State::AwaitVersion;
    reply_due_ = false;
    queued_ = 0;
    leds_ = 0;
}

void Keyboard::closed() {
    state_ = State::Closed;
    reply_due_ = false;
    queued_ = 0;
}

void Keyboard::receive(std::span<const u8> message, u64 transaction_id) {
    bool whole = false;
    const auto type = static_cast<MessageType>(read_message<u32>(message, whole));
    switch (type) {
        case MessageType::ProtocolRequest: {
            const auto request = read_message<keyboard::ProtocolRequest>(message, whole);
            if (!whole) break;
            accepted_ = request.version == keyboard::kVersion;
            state_ = accepted_ ? State::Ready : State::AwaitVersion;
            queued_ = 0;
            reply_due_ = true;
            reply_to_ = transaction_id;
            return;
        }
        case MessageType::LedIndicators: {
            const auto leds = read_message<keyboard::Leds>(message, whole);
            if (!whole || state_ != State::Ready) break;
            leds_ = leds.leds;
            return;
        }
        case MessageType::ProtocolResponse:
        case MessageType::Event:
            break;
    }
    ++invalid_;
}

MessageCore::Outgoing Keyboard::next(std::span<u8> out) {
    if (reply_due_) {
        put_message(out,
                    keyboard::ProtocolResponse{static_cast<u32>(MessageType::ProtocolResponse), accepted_ ? 1u : 0u});
        return {sizeof(keyboard::ProtocolResponse), reply_to_};
    }
    if (queued_ == 0) return {};
    const Keystroke& key = queue_[first_];
    put_message(out, keyboard::Event{static_cast<u32>(MessageType::Event), key.code, 0, key.flags});
    return {sizeof(keyboard::Event), 0};
}

void Keyboard::sent() {
    if (reply_due_) {
        reply_due_ = false;
        return;
    }
    first_ = (first_ + 1) % kMaxQueued;
    --queued_;
}

bool Keyboard::press(Keystroke key) {
    constexpr u8 kFlags = keyboard::kBreak | keyboard::kE0 | keyboard::kE1;
    if (room() == 0 || key.code == 0 || key.code >= 0x80 || (key.flags & ~kFlags) != 0) return false;
    queue_[(first_ + queued_) % kMaxQueued] = key;
    ++queued_;
    ++pressed_;
    return true;
}

}  // namespace vg::hv::vsp
