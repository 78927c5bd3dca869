// EPT entry format. SDM 3C "The Extended Page Table Mechanism (EPT)".
#pragma once

#include "base/types.h"

namespace vg::mmu::ept {

inline constexpr u64 kRead = 1 << 0;
inline constexpr u64 kWrite = 1 << 1;
inline constexpr u64 kExecute = 1 << 2;
inline constexpr unsigned kMemoryTypeLow = 3, kMemoryTypeHigh = 5;
inline constexpr u64 kTypeWriteBack = 6;
inline constexpr u64 kTypeUncached = 0;
inline constexpr u64 kLarge = 1 << 7;
inline constexpr u64 kAccessed = 1 << 8;
inline constexpr u64 kDirty = 1 << 9;
inline constexpr u64 kUserExecute = 1 << 10;              ///< with mode-based execute control
inline constexpr u64 kSuppressException = u64{1} << 63;   ///< a violation here is never a #VE
/// EPTP: [2:0] memory type, [5:3] walk length minus one, bit 6 accessed/dirty enable.
inline constexpr u64 kEptpWalkLength4 = 3 << 3;
inline constexpr u64 kEptpAccessedDirty = 1 << 6;

}  // namespace vg::mmu::ept
