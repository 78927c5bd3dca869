// Names for the numbers of events.
#include <fmt/format.h>

#include <cstring>

#include "hv/spec/status.h"
#include "hv/spec/storvsc.h"
#include "hv/spec/vmbus.h"
#include "ui/model/desk/event_log.h"

namespace vg::desk {

std::string_view hypercall_name(u16 code) {
    switch (code) {
#define HYPERCALL(number, name, ...) \
    case number:                     \
        return #name;
#include "hv/hypercalls.def"
#undef HYPERCALL
    }
    return "";
}

std::string_view channel_message_name(u32 number) {
    switch (number) {
#define VMBUS_TO_GUEST(value, name, first_version) \
    case value:                                    \
        return #name;
#define VMBUS_TO_HOST(value, name, first_version) \
    case value:                                   \
        return #name;
#include "hv/vmbus/messages.def"
    }
    return "";
}

std::string status_text(u16 status) {
    using S = hv::HvStatus;
    switch (static_cast<S>(status)) {
        case S::Success:
            return "Success";
        case S::InvalidHypercallCode:
            return "InvalidHypercallCode";
        case S::InvalidHypercallInput:
            return "InvalidHypercallInput";
        case S::InvalidAlignment:
            return "InvalidAlignment";
        case S::InvalidParameter:
            return "InvalidParameter";
        case S::AccessDenied:
            return "AccessDenied";
        case S::InvalidPartitionState:
            return "InvalidPartitionState";
        case S::OperationDenied:
            return "OperationDenied";
        case S::UnknownProperty:
            return "UnknownProperty";
        case S::InsufficientMemory:
            return "InsufficientMemory";
        case S::InvalidPartitionId:
            return "InvalidPartitionId";
        case S::InvalidVpIndex:
            return "InvalidVpIndex";
        case S::InvalidPortId:
            return "InvalidPortId";
        case S::InvalidConnectionId:
            return "InvalidConnectionId";
        case S::InsufficientBuffers:
            return "InsufficientBuffers";
        case S::ObjectInUse:
            return "ObjectInUse";
        case S::NoData:
            return "NoData";
        case S::TimeOut:
            return "TimeOut";
        case S::CallPending:
            return "CallPending";
        default:
            return fmt::format("status {:#x}", status);
    }
}

std::string time_text(u64 time_ns) { return fmt::format("{}.{:09}", time_ns / 1'000'000'000, time_ns % 1'000'000'000); }

std::string duration_text(u64 time_ns) {
    const double time = static_cast<double>(time_ns);
    if (time_ns < 1'000) return fmt::format("{} ns", time_ns);
    if (time_ns < 1'000'000) return fmt::format("{:.2f} \u00b5s", time / 1e3);
    if (time_ns < 1'000'000'000) return fmt::format("{:.2f} ms", time / 1e6);
    return fmt::format("{:.3f} s", time / 1e9);
}

std::string place_text(u64 partition, u32 vp) {
    if (vp == TapEvent::kNoVp) return partition == 0 ? "" : fmt::format("p{}", partition);
    return fmt::format("p{} vp{}", partition, vp);
}

namespace {

std::string hypercall_text(const EventRow& row) {
    const u64 control = row.values[0], result = row.values[3];
    const auto code = static_cast<u16>(control & 0xffff);
    const std::string_view name = hypercall_name(code);
    std::string text = name.empty() ? fmt::format("hypercall {:#06x}", code) : std::string(name);
    if ((control >> 16 & 1) != 0) text += " fast";
    if ((control >> 32 & 0xfff) != 0) text += fmt::format(" reps {}..{}", control >> 48 & 0xfff, control >> 32 & 0xfff);
    text += fmt::format(" in {:#x} out {:#x} \u2192 {}", row.values[1], row.values[2],
                        status_text(static_cast<u16>(result & 0xffff)));
    if ((result >> 32 & 0xfff) != 0) text += fmt::format(" ({} done)", result >> 32 & 0xfff);
    return text;
}

std::string channel_message_text(const EventRow& row) {
    const std::string_view name = channel_message_name(static_cast<u32>(row.values[0]));
    return fmt::format("{} {}", row.values[1] != 0 ? "to guest" : "to host",
                       name.empty() ? fmt::format("message {}", row.values[0]) : std::string(name));
}

std::string plain_text(const EventRow& row) {
    const TapRow& kind = tap_row(row.kind);
    std::string text;
    for (std::size_t i = 0; i < row.values.size(); ++i) {
        if (kind.fields[i].empty()) continue;
        text += fmt::format("{}{} {:#x}", text.empty() ? "" : ", ", kind.fields[i], row.values[i]);
    }
    return text;
}

}  // namespace

std::string event_text(const EventRow& row) {
    const auto& v = row.values;
    switch (row.kind) {
        case TapKind::Hypercall:
            return hypercall_text(row);
        case TapKind::VmbusMessage:
            return channel_message_text(row);
        case TapKind::VmbusPacket:
            return fmt::format("channel {} {} transaction {:#x}, {} bytes", v[0], v[1] != 0 ? "to guest" : "to host",
                               v[2], row.payload.size());
        case TapKind::VmbusSignal:
            return fmt::format("channel {} {}", v[0], v[1] != 0 ? "to guest" : "to host");
        case TapKind::Port:
            return fmt::format("{} port {:#x} {} bytes: {:#x}", v[2] != 0 ? "out" : "in", v[0], v[1], v[3]);
        case TapKind::Msr:
            return fmt::format("{} msr {:#x}: {:#x}", v[1] != 0 ? "wrmsr" : "rdmsr", v[0], v[2]);
        case TapKind::Cr:
            return fmt::format("cr{} = {:#x} (was {:#x})", v[0], v[1], v[2]);
        case TapKind::Dma:
            return fmt::format("{:02x}:{:02x}.{} {} {} bytes at {:#x}", v[0] >> 8 & 0xff, v[0] >> 3 & 0x1f, v[0] & 7,
                               v[3] != 0 ? "writes" : "reads", v[2], v[1]);
        case TapKind::Msi:
            return fmt::format("{:02x}:{:02x}.{} address {:#x} data {:#x}", v[0] >> 8 & 0xff, v[0] >> 3 & 0x1f,
                               v[0] & 7, v[1], v[2]);
        default:
            return plain_text(row);
    }
}

}  // namespace vg::desk
