#include "ui/model/capture_file.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "ui/model/pcapng.h"

namespace vg::model {

namespace {

std::optional<CaptureHeader::Kind> record_kind(TapKind kind) {
    switch (kind) {
        case TapKind::Hypercall:
            return CaptureHeader::Hypercall;
        case TapKind::SynicMessage:
            return CaptureHeader::SynicMessage;
        case TapKind::SynicEvent:
            return CaptureHeader::SynicEvent;
        case TapKind::VmbusMessage:
            return CaptureHeader::VmbusMessage;
        case TapKind::VmbusPacket:
            return CaptureHeader::VmbusPacket;
        case TapKind::VmbusSignal:
            return CaptureHeader::VmbusSignal;
        default:
            return std::nullopt;
    }
}

bool to_guest(const EventRecord& event) {
    switch (event.kind) {
        case TapKind::Hypercall:
            return false;
        case TapKind::SynicMessage:
        case TapKind::SynicEvent:
            return true;
        default:
            return event.values[1] != 0;
    }
}

}  // namespace

CaptureFile::CaptureFile(s64 start_unix_seconds, Write write) : start_(start_unix_seconds), write_(std::move(write)) {
    write_(Pcapng::begin("Verdigris " VG_VERSION));
    write_(Pcapng::interface(Pcapng::kUser0, "hypervisor", "hypercalls, SynIC and VMBus", start_));
    interfaces_ = 1;
}

void CaptureFile::frame(const EventRecord& event) {
    auto card = cards_.find(event.values[0]);
    if (card == cards_.end()) {
        if (cards_.size() >= kMaxCards) return;
        write_(Pcapng::interface(Pcapng::kEthernet, fmt::format("nic{}", event.values[0]),
                                 fmt::format("network card {}", event.values[0]), start_));
        card = cards_.emplace(event.values[0], interfaces_++).first;
    }
    write_(Pcapng::packet(card->second, event.time, {}, event.payload, event.payload_size, !to_guest(event)));
    ++records_;
}

void CaptureFile::add(const EventRecord& event, const VmbusCapture& channels) {
    if (event.kind == TapKind::Frame) return frame(event);
    const auto kind = record_kind(event.kind);
    if (!kind) return;
    CaptureHeader header;
    header.kind = *kind;
    header.flags = to_guest(event) ? CaptureHeader::kToGuest : u8{0};
    if (event.kind == TapKind::VmbusPacket || event.kind == TapKind::VmbusSignal) {
        header.channel = static_cast<u16>(event.values[0]);
        header.service = static_cast<u8>(channels.service(event.partition, header.channel));
    }
    header.partition = event.partition;
    header.vp = event.vp;
    header.payload_size = event.payload_size;
    std::copy(std::begin(event.values), std::end(event.values), header.values);
    u8 bytes[sizeof header];
    std::memcpy(bytes, &header, sizeof header);
    write_(
        Pcapng::packet(0, event.time, bytes, event.payload, sizeof bytes + u64{event.payload_size}, !to_guest(event)));
    ++records_;
}

}  // namespace vg::model
