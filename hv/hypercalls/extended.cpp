// Extended hypercalls (codes from 8001). K-076, K-078, K-081.
#include <algorithm>

#include "hv/hypercalls/bodies.h"
#include "hv/partition.h"
#include "hv/vp.h"

namespace vg::hv::hypercalls {
namespace {

/// What one element of a hint gives back at most; the rest of a larger one is ignored, as any hint may be. So a call
/// takes a bounded time.
constexpr u64 kMostHintBytes = u64{64} << 20;
constexpr u64 kGpaLimit = u64{1} << 48;

}  // namespace

HvStatus query_capabilities(Vp& caller, u64& out) {
    out = caller.partition().config().free_page_hints ? ext_capability::kColdDiscardHint : 0;
    return HvStatus::Success;
}

/// Cold discard: the guest needs these pages' content no more. They read as zero until they are written.
HvStatus memory_heat_hint(Vp& caller, const HeatHintHeader& in, const u64& range) {
    if (!caller.partition().config().free_page_hints) return HvStatus::InvalidHypercallCode;
    if (in.type != heat_hint::kColdDiscard) return HvStatus::InvalidParameter;
    const bool large = (range & heat_hint::kLargePages) != 0, huge = large && (range & heat_hint::kHugePages) != 0;
    if (large && (range & heat_hint::kLargeReserved) != 0) return HvStatus::InvalidParameter;
    const unsigned page_bits = huge ? 30 : large ? 21 : 12;
    const u64 first = large ? range >> 21 << 21 : range >> 12 << 12;
    const u64 size = ((range & heat_hint::kAdditionalPages) + 1) << page_bits;
    if (first >= kGpaLimit || size > kGpaLimit - first) return HvStatus::InvalidParameter;
    caller.partition().discard_memory(Gpa(first), std::min(size, kMostHintBytes));
    return HvStatus::Success;
}

}  // namespace vg::hv::hypercalls
