// Guest page-table entry formats. SDM 3A "Paging" (edition 085), AMD APM 2 "Page Translation and Protection".
#pragma once

#include "base/bits.h"
#include "base/types.h"

namespace vg::mmu {

/// Bits of a 64-bit (PAE and 4-level) entry; the low byte is the same in 32-bit entries.
namespace pte {
inline constexpr u64 kPresent = 1 << 0;
inline constexpr u64 kWrite = 1 << 1;
inline constexpr u64 kUser = 1 << 2;
inline constexpr u64 kWriteThrough = 1 << 3;
inline constexpr u64 kCacheDisable = 1 << 4;
inline constexpr u64 kAccessed = 1 << 5;
inline constexpr u64 kDirty = 1 << 6;
inline constexpr u64 kLarge = 1 << 7;  ///< PS: this entry maps a large page
inline constexpr u64 kGlobal = 1 << 8;
inline constexpr u64 kNoExecute = u64{1} << 63;
inline constexpr unsigned kPkeyLow = 59, kPkeyHigh = 62;
}  // namespace pte

/// Page-fault error code. SDM 3A "Page-Fault Exceptions".
namespace pf {
inline constexpr u32 kPresent = 1 << 0;   ///< a permission was violated (clear: not present)
inline constexpr u32 kWrite = 1 << 1;
inline constexpr u32 kUser = 1 << 2;
inline constexpr u32 kReserved = 1 << 3;  ///< a reserved bit was set
inline constexpr u32 kFetch = 1 << 4;
inline constexpr u32 kPkey = 1 << 5;
}  // namespace pf

}  // namespace vg::mmu
