// Fault recording and the unit's two event interrupts. VT-d 4.1 "Fault Logging", "Fault Event Control Register".
#include "base/bits.h"
#include "iommu/views.h"

namespace vg::iommu {

void Vtd::dma_fault(u16 rid, FaultReason reason, u64 iova, bool write, bool recorded) {
    history_.faults.push({rid, reason, write, recorded, iova});
    if (fault_log_.pass()) log_.info(Area::Iommu, "{}: {}", config_.name, describe(history_.faults.last()));
    if (!recorded) return;
    record(iova & ~kPageMask,
           (write ? 0 : reg::frcd::kRead) | u64{static_cast<u8>(reason)} << reg::frcd::kReasonLow | rid);
}

void Vtd::interrupt_fault(u16 rid, FaultReason reason, u32 index, bool recorded) {
    history_.faults.push({rid, reason, true, recorded, index});
    if (fault_log_.pass()) log_.info(Area::Iommu, "{}: {}", config_.name, describe(history_.faults.last()));
    if (!recorded) return;
    record(u64{index} << reg::frcd::kInterruptIndexLow, u64{static_cast<u8>(reason)} << reg::frcd::kReasonLow | rid);
}

/// "Primary Fault Logging": the next register in turn; if that one still holds a fault, the overflow bit, and from then
/// on nothing until software clears it.
void Vtd::record(u64 low, u64 high) {
    State& s = state_;
    if ((s.fault_status & reg::fsts::kOverflow) != 0) return;
    const u32 before = fault_status();
    FaultRecord& next = s.records[s.next_record];
    if ((next.high & reg::frcd::kFault) != 0) {
        s.fault_status |= reg::fsts::kOverflow;
    } else {
        next = {low, high | reg::frcd::kFault};
        if ((before & reg::fsts::kPending) == 0) s.first_record = s.next_record;
        s.next_record = static_cast<u8>((s.next_record + 1) % kFaultRecords);
    }
    fault_event(before);
}

/// PPF "is computed as the logical OR of the Fault fields across all the fault recording registers".
u32 Vtd::fault_status() const {
    bool pending = false;
    for (const FaultRecord& record : state_.records) pending = pending || (record.high & reg::frcd::kFault) != 0;
    if (!pending) return state_.fault_status;
    return state_.fault_status | reg::fsts::kPending | u32{state_.first_record} << reg::fsts::kRecordLow;
}

/// A status bit was set. "If any of the status fields in the Fault Status Register was already Set at the time of
/// setting any of these fields, it is not treated as a new interrupt condition."
void Vtd::fault_event(u32 status_before) {
    constexpr u32 kAny = reg::fsts::kOverflow | reg::fsts::kPending | reg::fsts::kQueueError;
    if ((status_before & kAny) != 0) return;
    state_.fault_event.control |= reg::event::kPending;
    deliver(state_.fault_event);
}

/// Sends a pending event unless it is masked. The unit's own messages are not remapped.
void Vtd::deliver(Event& event) {
    if ((event.control & reg::event::kMask) != 0) return;
    event.control &= ~reg::event::kPending;
    devices::MessageSink& sink = event_sink_ != nullptr ? *event_sink_ : out_;
    sink.send(u64{event.upper} << 32 | event.address, event.data);
}

void Vtd::write_fault_status(u32 value) {
    state_.fault_status &= ~(value & (reg::fsts::kOverflow | reg::fsts::kQueueError));
    if (fault_status() == 0) state_.fault_event.control &= ~reg::event::kPending;
    if ((value & reg::fsts::kQueueError) != 0) {
        state_.queue_error = reg::kNoError;
        run_queue();
    }
}

/// Only the fault bit, which writing 1 clears.
void Vtd::write_record(u32 index, u32 dword, u32 value) {
    constexpr u32 kTop = 3;
    if (dword != kTop || (u64{value} << 32 & reg::frcd::kFault) == 0) return;
    state_.records[index].high &= ~reg::frcd::kFault;
    if (fault_status() == 0) state_.fault_event.control &= ~reg::event::kPending;
}

}  // namespace vg::iommu
