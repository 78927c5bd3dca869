// Second-stage paging entries. VT-d 4.1 "Second-Stage Paging Entries". Layouts only.
//
// An EPT entry (SDM 3C "The Extended Page Table Mechanism (EPT)") is one of these as far as this unit looks at it: bits
// 0 and 1 are read and write in both, bit 7 is the large page, the address is at the same place. EPT's execute (2),
// memory type and IPAT (6:3), accessed and dirty (9:8), user execute (10) and 63:52 except 62 are ignored here in
// legacy mode. What differs: bit 11 is ignored by EPT and is SNP here; bit 62 must be 0; an entry with write and
// without read is legal here and a misconfiguration there; an execute-only entry is not present here. Tables that keep
// bits 11 and 62 zero, as mmu::SlatBuilder's do, can be walked by both.
#pragma once

#include "base/bits.h"
#include "base/types.h"

namespace vg::iommu::slpte {

inline constexpr u64 kRead = 1 << 0, kWrite = 1 << 1;
inline constexpr u64 kLarge = 1 << 7;
inline constexpr u64 kSnoop = 1 << 11;                  ///< leaves, with ECAP.SC
inline constexpr u64 kTransientMapping = u64{1} << 62;  ///< reserved without device TLBs
inline constexpr u64 kIgnoredHigh = 0xbff0'0000'0000'0000;

constexpr unsigned shift_of(unsigned level) { return 12 + 9 * level; }
/// Address bits that a leaf at this level may have.
constexpr u64 leaf_address(unsigned level, unsigned host_bits) {
    return low_mask(host_bits) & ~low_mask(shift_of(level));
}

}  // namespace vg::iommu::slpte
