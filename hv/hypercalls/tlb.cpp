// Remote TLB flushes. TLFS 6.0b "Virtual MMU"; K-102..K-104.
#include "hv/cpuid.h"
#include "hv/hypercalls/vp_set.h"

namespace vg::hv::hypercalls {
namespace {

void flush(Vp& vp) { vp.processor().tlb().flush_all(); }

}  // namespace

HvStatus flush_space(Vp& caller, const FlushSpaceIn& in) {
    // A mask of 0 without the flag means all processors, as other implementations have it.
    if ((in.flags & flush_flag::kAllProcessors) != 0 || in.processor_mask == 0)
        for_all(caller.partition(), flush);
    else
        for_mask(caller.partition(), in.processor_mask, flush);
    return HvStatus::Success;
}

HvStatus flush_list(Vp& caller, const FlushSpaceIn& in, const u64&) { return flush_space(caller, in); }

HvStatus flush_space_ex(Vp& caller, const FlushSpaceExIn& in, VariableHeader banks) {
    if ((in.flags & flush_flag::kAllProcessors) != 0) {
        for_all(caller.partition(), flush);
        return HvStatus::Success;
    }
    return for_set(caller.partition(), in.format, in.valid_bank_mask, banks, flush);
}

HvStatus flush_list_ex(Vp& caller, const FlushSpaceExIn& in, VariableHeader banks, const u64&) {
    return flush_space_ex(caller, in, banks);
}

/// What a guest of the partition's processors may have cached of the caller's own second-level tables, on all of them.
HvStatus flush_guest_space(Vp& caller, const FlushGuestSpaceIn& in) {
    if (!offers_enlightened_vmcs(caller.partition(), caller.processor().model())) return HvStatus::AccessDenied;
    if (in.flags != 0) return HvStatus::InvalidParameter;
    if ((in.address_space & ~kPageMask) == 0) return HvStatus::Success;  // 0 would mean every table
    for_all(caller.partition(), [&in](Vp& vp) { vp.processor().tlb().flush_slat(in.address_space); });
    return HvStatus::Success;
}

HvStatus flush_guest_list(Vp& caller, const FlushGuestSpaceIn& in, const u64&) { return flush_guest_space(caller, in); }

}  // namespace vg::hv::hypercalls
