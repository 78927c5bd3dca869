#include "ui/model/hypercall_log.h"

#include <algorithm>
#include <cstddef>

#include "hv/hypercall.h"
#include "hv/spec/hypercall.h"
#include "hv/spec/partition.h"
#include "hv/spec/port.h"
#include "hv/spec/system.h"
#include "hv/spec/vp_state.h"
#include "ui/model/vmbus_decode.h"

namespace vg::model {

namespace {

using namespace hv;

struct FieldRow {
    u16 code;
    std::string_view name;
    std::size_t at, size;
};
constexpr FieldRow kFields[] = {
#define HYPERCALL_FIELD(code, type, member) {code, #member, offsetof(type, member), sizeof(type::member)},
#include "ui/model/hypercall_fields.def"
#undef HYPERCALL_FIELD
};
static_assert(std::ranges::is_sorted(kFields, {}, &FieldRow::code));

u64 field(ByteReader& in, const FieldRow& row) {
    switch (row.size) {
        case 1:
            return in.byte(row.at);
        case 2:
            return in.half(row.at);
        case 4:
            return in.word(row.at);
        default:
            return in.quad(row.at);
    }
}

/// A channel message that is posted.
void posted(ByteReader& in, Decoded& out) {
    constexpr u64 kAt = offsetof(PostMessageIn, payload);
    if (in.word(offsetof(PostMessageIn, message_type)) != vmbus::kMessageTypeChannel) return;
    const u64 size = in.word(offsetof(PostMessageIn, payload_size));
    const ByteReader rest = in.from(kAt);
    if (in.is_short() || in.is_cut() || size > rest.size()) return;
    const Decoded message = decode_vmbus_message(rest.bytes().first(std::min<u64>(size, rest.bytes().size())), size);
    out.add("message", message.title);
    out.cut |= message.cut;
    out.title += fmt::format(", {}", message.title);
}

}  // namespace

std::string hypercall_status_name(u16 status) {
    switch (static_cast<HvStatus>(status)) {
#define STATUS(name)     \
    case HvStatus::name: \
        return #name;
        STATUS(Success)
        STATUS(InvalidHypercallCode)
        STATUS(InvalidHypercallInput)
        STATUS(InvalidAlignment)
        STATUS(InvalidParameter)
        STATUS(AccessDenied)
        STATUS(InvalidPartitionState)
        STATUS(OperationDenied)
        STATUS(UnknownProperty)
        STATUS(PropertyValueOutOfRange)
        STATUS(InsufficientMemory)
        STATUS(PartitionTooDeep)
        STATUS(InvalidPartitionId)
        STATUS(InvalidVpIndex)
        STATUS(NotFound)
        STATUS(InvalidPortId)
        STATUS(InvalidConnectionId)
        STATUS(InsufficientBuffers)
        STATUS(NotAcknowledged)
        STATUS(InvalidVpState)
        STATUS(Acknowledged)
        STATUS(InvalidSaveRestoreState)
        STATUS(InvalidSynicState)
        STATUS(ObjectInUse)
        STATUS(InvalidProximityDomainInfo)
        STATUS(NoData)
        STATUS(Inactive)
        STATUS(NoResources)
        STATUS(FeatureUnavailable)
        STATUS(PartialPacket)
        STATUS(ProcessorFeatureNotSupported)
        STATUS(InsufficientBuffer)
        STATUS(InvalidLpIndex)
        STATUS(InvalidRegisterValue)
        STATUS(InvalidVtlState)
        STATUS(InvalidDeviceId)
        STATUS(InvalidDeviceState)
        STATUS(OperationFailed)
        STATUS(InsufficientRootMemory)
        STATUS(InsufficientContiguousMemory)
        STATUS(TimeOut)
        STATUS(CallPending)
        STATUS(InsufficientContiguousRootMemory)
        STATUS(UnknownRegisterName)
#undef STATUS
    }
    return fmt::format("{:#x}", status);
}

Decoded decode_hypercall(const EventRecord& event) {
    Decoded out;
    const HypercallControl control{event.values[0]};
    const u16 code = control.code(), status = static_cast<u16>(event.values[3]);
    out.title = hypercall_name(code);
    if (out.title == "unknown") out.title = fmt::format("hypercall {:#06x}", code);
    out.add_hex("code", code);
    out.add("fast", control.fast() ? 1 : 0);
    if (control.rep_count() != 0) out.add("reps", fmt::format("{}..{}", control.rep_start(), control.rep_count()));
    if (control.variable_qwords() != 0) out.add("variable_qwords", control.variable_qwords());
    if (!control.fast()) {
        out.add_hex("input", event.values[1]);
        out.add_hex("output", event.values[2]);
    }
    ByteReader in(event.payload, event.payload_size);
    if (event.payload_size != 0) {
        std::string arguments;
        for (const FieldRow& row : kFields) {
            if (row.code != code) continue;
            const u64 value = field(in, row);
            out.add_hex(std::string(row.name), value);
            arguments += fmt::format("{}{} {:#x}", arguments.empty() ? " " : ", ", row.name, value);
        }
        out.title += arguments;
        constexpr u16 kPostMessage = 0x5c;
        if (code == kPostMessage) posted(in, out);
    }
    in.judge(out);
    out.add("status", hypercall_status_name(status));
    out.title += fmt::format(": {}", hypercall_status_name(status));
    if (control.rep_count() != 0) {
        const u64 done = event.values[3] >> 32 & 0xfff;
        out.add("done", done);
        out.title += fmt::format(", {} of {} done", done, control.rep_count());
    }
    return out;
}

const HypercallLog::Entry* HypercallLog::add(EventRecord event) {
    if (event.kind != TapKind::Hypercall) return nullptr;
    const u16 code = static_cast<u16>(event.values[0]), status = static_cast<u16>(event.values[3]);
    Count& count = counts_[{event.partition, code}];  // at most the 65536 codes of each partition
    if (count.calls == 0) count.first = event.time;
    ++count.calls;
    count.last = event.time;
    if (status != 0) {
        ++count.failures;
        ++count.statuses[status];
    }
    Decoded decoded = decode_hypercall(event);
    entries_.push_back({next_++, std::move(event), std::move(decoded)});
    while (entries_.size() > std::max<std::size_t>(capacity_, 1)) entries_.pop_front();
    return &entries_.back();
}

Json hypercall_json(const HypercallLog::Entry& entry) {
    Json out = {{"number", entry.number},
                {"time", entry.event.time},
                {"instructions", entry.event.instructions},
                {"partition", entry.event.partition},
                {"vp", entry.event.vp},
                {"code", static_cast<u16>(entry.event.values[0])},
                {"name", std::string(hypercall_name(static_cast<u16>(entry.event.values[0])))},
                {"status", hypercall_status_name(static_cast<u16>(entry.event.values[3]))},
                {"title", entry.decoded.title}};
    Json fields = Json::array();
    for (const auto& [name, value] : entry.decoded.fields) fields.push_back({{"name", name}, {"value", value}});
    out["fields"] = std::move(fields);
    return out;
}

}  // namespace vg::model
