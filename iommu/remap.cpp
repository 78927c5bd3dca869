// Interrupt remapping. VT-d 4.1 "Interrupt Remapping", "Interrupt-Remapping Fault Conditions".
#include "base/bits.h"
#include "iommu/views.h"

namespace vg::iommu {
namespace {

constexpr bool reserved_delivery(u64 mode) { return mode == 3 || mode == 6; }

/// "Interrupt Remapping Table Entry", SVT and SQ: which bits of the function number count.
bool source_matches(const Irte& irte, u16 rid) {
    constexpr u16 kCompared[] = {0xffff, 0xfffb, 0xfff9, 0xfff8};
    const u16 source = static_cast<u16>(bits(irte.high, Irte::kSourceHigh, Irte::kSourceLow));
    switch (static_cast<SourceValidation>(bits(irte.high, Irte::kValidationHigh, Irte::kValidationLow))) {
        case SourceValidation::None:
            return true;
        case SourceValidation::SourceId:
            return ((source ^ rid) & kCompared[bits(irte.high, Irte::kQualifierHigh, Irte::kQualifierLow)]) == 0;
        case SourceValidation::BusRange:
            return (rid >> 8) >= (source >> 8) && (rid >> 8) <= (source & 0xff);
        case SourceValidation::Reserved:
            return false;
    }
    return false;
}

struct Message {
    u64 address;
    u32 data;
};

Message remapped(const Irte& irte, bool x2apic) {
    const u64 destination = x2apic ? bits(irte.low, Irte::kDestinationHigh, Irte::kDestinationLow)
                                   : bits(irte.low, Irte::kShortDestinationHigh, Irte::kShortDestinationLow);
    Message message{request::kBase, 0};
    message.address |= (destination & 0xff) << request::kDestinationLow;
    message.address |= (destination >> 8) << request::kDestinationUpperLow;
    if ((irte.low & Irte::kLogical) != 0) message.address |= request::kLogical;
    if ((irte.low & Irte::kRedirectionHint) != 0) message.address |= request::kRedirectionHint;
    message.data = static_cast<u32>(bits(irte.low, Irte::kVectorHigh, Irte::kVectorLow) |
                                    bits(irte.low, Irte::kDeliveryHigh, Irte::kDeliveryLow) << request::kDeliveryLow);
    if ((irte.low & Irte::kLevel) != 0) message.data |= request::kLevel | request::kAssert;
    return message;
}

/// "Remappable Format"
u32 index_of(u64 address, u32 data) {
    u32 index = static_cast<u32>(bits(address, request::kHandleHigh, request::kHandleLow));
    if ((address & request::kHandleBit15) != 0) index |= 1u << 15;
    if ((address & request::kSubhandleValid) != 0) index += data & ~request::kReservedData;
    return index;
}

}  // namespace

/// A request to FEEx_xxxx: remapped and sent on, or refused with a fault.
void Vtd::interrupt(u16 rid, bool identified, u64 address, u32 data) {
    const State& s = state_;
    log_.trace(Area::Iommu, "{} interrupts: {:#x} to {:#x}", rid_text(rid), data, address);
    if ((s.status & reg::global::kInterruptRemapping) == 0) {
        out_.send(address, data);
        return;
    }
    const bool x2apic = (s.interrupt_table & reg::kExtendedMode) != 0;
    if ((address & request::kRemappable) == 0) {
        // "Compatibility format interrupts are blocked in extended interrupt mode", and else unless CFIS allows them.
        if (!x2apic && (s.status & reg::global::kCompatibilityFormat) != 0) {
            out_.send(address, data);
        } else {
            interrupt_fault(rid, FaultReason::CompatibilityBlocked, 0, true);
        }
        return;
    }
    if ((data & request::kReservedData) != 0) {
        interrupt_fault(rid, FaultReason::InterruptReserved, 0, true);
        return;
    }
    const u32 index = index_of(address, data);
    Irte irte;
    const FaultReason reason = find_irte(rid, identified, index, irte);
    if (reason != FaultReason::None) {
        interrupt_fault(rid, reason, index, (irte.low & Irte::kFaultDisable) == 0);
        return;
    }
    const Message message = remapped(irte, x2apic);
    out_.send(message.address, message.data);
}

/// `irte` is zero where no entry was read: those faults are not qualified by its FPD.
FaultReason Vtd::find_irte(u16 rid, bool identified, u32 index, Irte& irte) {
    const u64 table = state_.interrupt_table;
    const u32 count = 2u << bits(table, reg::kInterruptTableSizeHigh, 0);
    if (index >= count) return FaultReason::InterruptIndex;
    const u16 short_index = static_cast<u16>(index);
    if (const InterruptCache::Entry* hit = interrupts_.find(short_index)) {
        irte = hit->irte;
    } else {
        if (!load((table & reg::kTableAddress) + index * sizeof irte, irte)) {
            irte = {};
            return FaultReason::InterruptUnreadable;
        }
        const bool good = check_irte(irte, rid, false) == FaultReason::None;
        if (good || config_.caching_mode) interrupts_.insert(short_index, irte);
    }
    return check_irte(irte, rid, identified);
}

FaultReason Vtd::check_irte(const Irte& irte, u16 rid, bool identified) const {
    if ((irte.low & Irte::kPresent) == 0) return FaultReason::InterruptNotPresent;
    const bool x2apic = (state_.interrupt_table & reg::kExtendedMode) != 0;
    const u64 reserved = Irte::kReservedLow | Irte::kPosted | (x2apic ? 0 : Irte::kReservedShort);
    if ((irte.low & reserved) != 0 || (irte.high & Irte::kReservedHigh) != 0 ||
        reserved_delivery(bits(irte.low, Irte::kDeliveryHigh, Irte::kDeliveryLow))) {
        return FaultReason::InterruptEntryReserved;
    }
    return !identified || source_matches(irte, rid) ? FaultReason::None : FaultReason::SourceRefused;
}

}  // namespace vg::iommu
