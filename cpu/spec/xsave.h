// The XSAVE area. SDM 1 "Managing State Using the XSAVE Feature Set"; CPUID leaf 0DH reports the same.
#pragma once

#include "base/types.h"

namespace vg::cpu::xsave {

inline constexpr u32 kHeader = 512, kHeaderSize = 64;
inline constexpr u32 kExtended = kHeader + kHeaderSize;  ///< where extended components begin

/// State components by number: bits of XCR0, XSTATE_BV, XCOMP_BV.
inline constexpr unsigned kX87 = 0, kSse = 1, kAvx = 2, kPkru = 9;

/// An extended component. In standard format it lies at `offset`; in compacted format the chosen ones follow each other in
/// this order, none aligned.
struct Component {
    unsigned number;
    u32 size, offset;
};
inline constexpr Component kComponents[] = {{kAvx, 256, 576}, {kPkru, 8, 2688}};

/// Where a component lies in an area whose XCOMP_BV is `compacted` (0: standard format).
constexpr u32 offset_of(unsigned number, u64 compacted) {
    u32 next = kExtended;
    for (const Component& each : kComponents) {
        const bool here = ((compacted >> each.number) & 1) != 0;
        if (each.number == number) return here ? next : each.offset;
        if (here) next += each.size;
    }
    return next;
}

/// Bytes from the start of the area to the end of the last of these components.
constexpr u32 area_size(u64 components, u64 compacted) {
    u32 end = kExtended;
    for (const Component& each : kComponents)
        if (((components >> each.number) & 1) != 0) end = offset_of(each.number, compacted) + each.size;
    return end;
}

}  // namespace vg::cpu::xsave
