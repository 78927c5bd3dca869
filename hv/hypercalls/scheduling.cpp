// Spin hints and synthetic IPIs. TLFS 6.0b "Virtual Processor Execution", "Virtual Interrupts"; K-005, K-105, K-106.
#include "hv/hypercalls/vp_set.h"
#include "hv/spec/synic.h"

namespace vg::hv::hypercalls {
namespace {

constexpr u32 kLastVector = 0xff;

bool legal_vector(u32 vector) { return vector >= kFirstLegalVector && vector <= kLastVector; }

}  // namespace

HvStatus notify_long_spin(Vp&, const NotifyLongSpinWaitIn&) { return HvStatus::Success; }

HvStatus send_ipi(Vp& caller, const SendIpiIn& in) {
    if (!legal_vector(in.vector)) return HvStatus::InvalidParameter;
    for_mask(caller.partition(), in.processor_mask,
             [&](Vp& vp) { vp.processor().apic().accept(static_cast<u8>(in.vector), false); });
    return HvStatus::Success;
}

HvStatus send_ipi_ex(Vp& caller, const SendIpiExIn& in, VariableHeader banks) {
    if (!legal_vector(in.vector)) return HvStatus::InvalidParameter;
    return for_set(caller.partition(), in.format, in.valid_bank_mask, banks,
                   [&](Vp& vp) { vp.processor().apic().accept(static_cast<u8>(in.vector), false); });
}

}  // namespace vg::hv::hypercalls
