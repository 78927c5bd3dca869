#include "iommu/history.h"

#include <fmt/format.h>

#include "base/assert.h"

namespace vg::iommu {

std::string_view to_string(Verdict verdict) {
    switch (verdict) {
        case Verdict::Ok:
            return "ok";
        case Verdict::Fault:
            return "fault";
        case Verdict::Protected:
            return "protected region";
        case Verdict::NoMemory:
            return "no memory there";
        case Verdict::Interrupt:
            return "interrupt request";
        case Verdict::Refused:
            return "not an interrupt request";
    }
    VG_UNREACHABLE();
}

std::string_view to_string(FaultReason reason) {
    switch (reason) {
        case FaultReason::None:
            return "none";
        case FaultReason::RootNotPresent:
            return "root entry not present";
        case FaultReason::ContextNotPresent:
            return "context entry not present";
        case FaultReason::ContextInvalid:
            return "context entry invalid";
        case FaultReason::AddressTooHigh:
            return "address beyond the width";
        case FaultReason::NoWrite:
            return "no write permission";
        case FaultReason::NoRead:
            return "no read permission";
        case FaultReason::TableUnreadable:
            return "paging table unreadable";
        case FaultReason::RootUnreadable:
            return "root table unreadable";
        case FaultReason::ContextUnreadable:
            return "context table unreadable";
        case FaultReason::RootReserved:
            return "reserved bits in root entry";
        case FaultReason::ContextReserved:
            return "reserved bits in context entry";
        case FaultReason::EntryReserved:
            return "reserved bits in paging entry";
        case FaultReason::TranslationBlocked:
            return "translation request blocked";
        case FaultReason::InterruptRangeOutput:
            return "translated to the interrupt range";
        case FaultReason::InterruptReserved:
            return "reserved bits in interrupt request";
        case FaultReason::InterruptIndex:
            return "interrupt index beyond the table";
        case FaultReason::InterruptNotPresent:
            return "interrupt entry not present";
        case FaultReason::InterruptUnreadable:
            return "interrupt table unreadable";
        case FaultReason::InterruptEntryReserved:
            return "reserved bits in interrupt entry";
        case FaultReason::CompatibilityBlocked:
            return "compatibility format blocked";
        case FaultReason::SourceRefused:
            return "source-id refused";
        case FaultReason::RootModeUnsupported:
            return "translation table mode not supported";
    }
    return "unknown";  // a number from saved state
}

std::string rid_text(u16 rid) { return fmt::format("{:02x}:{:02x}.{}", rid >> 8, (rid >> 3) & 31, rid & 7); }

std::string describe(const Transfer& t) {
    std::string text =
        fmt::format("{} {} iova 0x{:x} size 0x{:x}", rid_text(t.rid), t.write ? "write" : "read", t.iova, t.size);
    if (t.spa != 0) text += fmt::format(" spa 0x{:x}", t.spa);
    text += fmt::format(": {}", to_string(t.verdict));
    if (t.reason != FaultReason::None)
        text += fmt::format(" 0x{:02x} {}", static_cast<u8>(t.reason), to_string(t.reason));
    return text;
}

std::string describe(const Fault& f) {
    const bool interrupt = f.reason >= FaultReason::InterruptReserved && f.reason <= FaultReason::SourceRefused;
    return fmt::format("{} {} 0x{:x}: 0x{:02x} {}{}", rid_text(f.rid),
                       interrupt ? "interrupt"
                       : f.write ? "write"
                                 : "read",
                       f.info, static_cast<u8>(f.reason), to_string(f.reason), f.recorded ? "" : " (not recorded)");
}

}  // namespace vg::iommu
