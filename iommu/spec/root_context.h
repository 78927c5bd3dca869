// Root and context entries of legacy mode. VT-d 4.1 "Root Entry", "Context Entry". Layouts only.
#pragma once

#include "base/types.h"

namespace vg::iommu {

/// One per bus; a table of 256.
struct RootEntry {
    u64 low = 0, high = 0;

    static constexpr u64 kPresent = 1;
    static constexpr u64 kReservedLow = 0xffe, kReservedHigh = ~u64{0};
};
static_assert(sizeof(RootEntry) == 16);

/// One per device and function of a bus; a table of 256.
struct ContextEntry {
    u64 low = 0, high = 0;

    static constexpr u64 kPresent = 1;
    static constexpr u64 kFaultDisable = 2;  ///< evaluated whether present or not
    static constexpr unsigned kTypeLow = 2, kTypeHigh = 3;
    static constexpr u64 kReservedLow = 0xff0;
    static constexpr unsigned kWidthLow = 0, kWidthHigh = 2;  ///< in the high half: AW
    static constexpr unsigned kDomainLow = 8, kDomainHigh = 23;
    static constexpr u64 kReservedHigh = 0xffff'ffff'ff00'0080;
    static constexpr u64 kPointer = ~u64{0xfff};  ///< SSPTPTR, and the root entry's CTP
};
static_assert(sizeof(ContextEntry) == 16);

/// Both entries hold addresses below the host address width; what is above is reserved.
/// ContextEntry.TT.
enum class TranslationType : u8 { Untranslated = 0, DeviceTlb = 1, PassThrough = 2, Reserved = 3 };

/// ContextEntry.AW: 1 is 39 bits in 3 levels, 2 is 48 bits in 4 levels.
constexpr unsigned levels_of_width(u64 aw) { return static_cast<unsigned>(aw) + 2; }
constexpr unsigned bits_of_width(u64 aw) { return 30 + 9 * static_cast<unsigned>(aw); }

}  // namespace vg::iommu
