#include "hv/vsp/mouse.h"

#include <algorithm>

#include "hv/spec/vmbus.h"

namespace vg::hv::vsp {

using mouse::MessageType;
using vmbus::kPipeData;
using vmbus::PipeHeader;

namespace {

// HID 1.11 §6.2.2, Usage Tables 1.12: five buttons, X and Y absolute, a wheel that is relative.
constexpr u8 kReportDescriptor[] = {
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01,                          // Generic Desktop, Mouse: application
    0x09, 0x01, 0xa1, 0x00,                                      // Pointer: physical
    0x05, 0x09, 0x19, 0x01, 0x29, 0x05, 0x15, 0x00, 0x25, 0x01,  // buttons 1 to 5: 0 or 1
    0x75, 0x01, 0x95, 0x05, 0x81, 0x02,                          // five bits
    0x75, 0x03, 0x95, 0x01, 0x81, 0x03,                          // three bits of padding
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31,                          // X, Y
    0x15, 0x00, 0x26, 0xff, 0x7f, 0x75, 0x10, 0x95, 0x02, 0x81,
    0x02, 0x09, 0x38, 0x16, 0x01, 0x80, 0x26, 0xff, 0x7f,  // Wheel
    0x75, 0x10, 0x95, 0x01, 0x81, 0x06, 0xc0, 0xc0};

template <class Message>
u32 put_piped(std::span<u8> out, MessageType type, Message message, u32 more = 0) {
    const u32 size = static_cast<u32>(sizeof message) + more;
    message.header = {static_cast<u32>(type), size - static_cast<u32>(sizeof(mouse::Header))};
    put_message(out, PipeHeader{kPipeData, size});
    put_message(out, message, sizeof(PipeHeader));
    return static_cast<u32>(sizeof(PipeHeader)) + size;
}

}  // namespace

std::span<const u8> mouse_report_descriptor() { return kReportDescriptor; }

void Mouse::opened() {
    state_ = State::AwaitVersion;
    reply_ = Reply::None;
    queued_ = 0;
}

void Mouse::closed() {
    state_ = State::Closed;
    reply_ = Reply::None;
    queued_ = 0;
}

void Mouse::receive(std::span<const u8> message, u64 transaction_id) {
    bool whole = false;
    const auto pipe = read_message<PipeHeader>(message, whole);
    if (!whole || pipe.type != kPipeData || pipe.size > message.size() - sizeof pipe) {
        ++invalid_;
        return;
    }
    const std::span<const u8> inner = message.subspan(sizeof pipe, pipe.size);
    const auto request = read_message<mouse::ProtocolRequest>(inner, whole);
    switch (static_cast<MessageType>(request.header.type)) {
        case MessageType::ProtocolRequest:
            if (!whole) break;
            version_ = request.version;
            accepted_ = version_ == mouse::kVersion;
            state_ = accepted_ ? State::AwaitAck : State::AwaitVersion;
            reply_ = Reply::Version;
            reply_to_ = transaction_id;
            queued_ = 0;
            return;
        case MessageType::DeviceInfoAck:
            if (state_ != State::AwaitAck || reply_ != Reply::None) break;
            state_ = State::Ready;
            return;
        case MessageType::ProtocolResponse:
        case MessageType::DeviceInfo:
        case MessageType::InputReport:
            break;
    }
    ++invalid_;
}

MessageCore::Outgoing Mouse::next(std::span<u8> out) {
    if (reply_ == Reply::Version) {
        const u32 size = put_piped(out, MessageType::ProtocolResponse,
                                   mouse::ProtocolResponse{{}, version_, static_cast<u8>(accepted_ ? 1 : 0)});
        return {size, reply_to_};
    }
    if (reply_ == Reply::Info) {
        constexpr u16 kBytes = sizeof kReportDescriptor;
        mouse::DeviceInfo info{};
        info.size = 32;
        info.vendor = 0x045e;
        info.product = 0x0621;
        info.version = 1;
        info.hid = {sizeof(mouse::HidDescriptor), 0x21, 0x0111, 0, 1, 0x22, kBytes};
        const u32 size = put_piped(out, MessageType::DeviceInfo, info, kBytes);
        std::ranges::copy(kReportDescriptor, out.subspan(size - kBytes).begin());
        return {size, 0};
    }
    if (queued_ == 0) return {};
    const MouseReport& report = queue_[first_];
    return {put_piped(out, MessageType::InputReport,
                      mouse::InputReport{{}, report.buttons, report.x, report.y, report.wheel}),
            0};
}

void Mouse::sent() {
    if (reply_ != Reply::None) {
        reply_ = reply_ == Reply::Version && accepted_ ? Reply::Info : Reply::None;
        return;
    }
    first_ = (first_ + 1) % kMaxQueued;
    --queued_;
}

bool Mouse::report(const MouseReport& report) {
    if (state_ != State::Ready || report.x > mouse::kMaxPosition || report.y > mouse::kMaxPosition ||
        report.buttons >> mouse::kButtonBits != 0) {
        return false;
    }
    if (queued_ != 0) {
        MouseReport& last = queue_[(first_ + queued_ - 1) % kMaxQueued];
        if (last.buttons == report.buttons && last.wheel == 0 && report.wheel == 0) {
            last = report;
            return true;
        }
    }
    if (queued_ == kMaxQueued) return false;
    queue_[(first_ + queued_) % kMaxQueued] = report;
    ++queued_;
    ++reports_;
    return true;
}

}  // namespace vg::hv::vsp
