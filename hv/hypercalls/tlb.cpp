// Remote TLB flushes. TLFS 6.0b "Virtual MMU"; K-102..K-104.
#include "hv/cpuid.h"
#include "hv/hypercalls/vp_set.h"

namespace vg::hv::hypercalls {
namespace {

/// A guest's own translations, not those of a guest of its own. A guest names address spaces by their tables, and
/// processors cache by PCID: all of them are flushed.
constexpr u16 kOwnTag = 0;
/// More pages of one list element than this cost more than they save.
constexpr u64 kMostPages = 64;

auto flush_spaces(u64 flags) {
    return [with_global = (flags & flush_flag::kNonGlobalOnly) == 0](Vp& vp) {
        vp.processor().hold_off();
        vp.processor().tlb().flush_tag(kOwnTag, with_global);
    };
}

/// One element of a list (K-103): a page and how many follow it, or, with kExtendedRanges, a range of large pages.
auto flush_range(u64 flags, u64 gva) {
    const u64 pages = (gva & kPageMask) + 1;
    const bool all = (flags & flush_flag::kExtendedRanges) != 0 || pages > kMostPages;
    return [=](Vp& vp) {
        vp.processor().hold_off();
        mmu::Tlb& tlb = vp.processor().tlb();
        if (all) return tlb.flush_tag(kOwnTag, true);
        for (u64 i = 0; i < pages; ++i) tlb.flush_page_tag((gva & ~kPageMask) + i * kPageSize, kOwnTag);
    };
}

template <class F>
HvStatus at_mask(Partition& partition, const FlushSpaceIn& in, F&& flush) {
    // A mask of 0 without the flag means all processors, as other implementations have it.
    if ((in.flags & flush_flag::kAllProcessors) != 0 || in.processor_mask == 0)
        for_all(partition, flush);
    else
        for_mask(partition, in.processor_mask, flush);
    return HvStatus::Success;
}

template <class F>
HvStatus at_set(Partition& partition, const FlushSpaceExIn& in, VariableHeader banks, F&& flush) {
    if ((in.flags & flush_flag::kAllProcessors) == 0)
        return for_set(partition, in.format, in.valid_bank_mask, banks, flush);
    for_all(partition, flush);
    return HvStatus::Success;
}

}  // namespace

HvStatus flush_space(Vp& caller, const FlushSpaceIn& in) {
    return at_mask(caller.partition(), in, flush_spaces(in.flags));
}

HvStatus flush_list(Vp& caller, const FlushSpaceIn& in, const u64& gva) {
    return at_mask(caller.partition(), in, flush_range(in.flags, gva));
}

HvStatus flush_space_ex(Vp& caller, const FlushSpaceExIn& in, VariableHeader banks) {
    return at_set(caller.partition(), in, banks, flush_spaces(in.flags));
}

HvStatus flush_list_ex(Vp& caller, const FlushSpaceExIn& in, VariableHeader banks, const u64& gva) {
    return at_set(caller.partition(), in, banks, flush_range(in.flags, gva));
}

/// What a guest of the partition's processors may have cached of the caller's own second-level tables, on all of them.
HvStatus flush_guest_space(Vp& caller, const FlushGuestSpaceIn& in) {
    if (!offers_enlightened_vmcs(caller.partition(), caller.processor().model())) return HvStatus::AccessDenied;
    if (in.flags != 0) return HvStatus::InvalidParameter;
    if ((in.address_space & ~kPageMask) == 0) return HvStatus::Success;  // 0 would mean every table
    for_all(caller.partition(), [&in](Vp& vp) {
        vp.processor().hold_off();
        vp.processor().tlb().flush_slat(in.address_space);
    });
    return HvStatus::Success;
}

HvStatus flush_guest_list(Vp& caller, const FlushGuestSpaceIn& in, const u64&) { return flush_guest_space(caller, in); }

}  // namespace vg::hv::hypercalls
