// What a walk finds before the permission check of one particular access: the part that may be cached. Internal to mmu/.
#pragma once

#include "base/types.h"
#include "mmu/slat.h"
#include "mmu/walk.h"

namespace vg::mmu {

/// One page as both levels see it. Independent of privilege, CR0.WP, SMEP, SMAP and PKRU.
struct Leaf {
    u64 gpa = 0;         ///< of the first byte of the page
    u64 spa = 0;
    u8 page_bits = 12;   ///< log2 of the smaller of the guest's and the second-level page: 12, 21, 22 or 30
    u8 guest_bits = 12;  ///< log2 of the guest's page
    u8 pkey = 0;
    bool user = false, write = false, execute = false, global = false;
    bool dirty = false;  ///< the guest entry's dirty bit is set
    u8 slat = slat_right::kAll;  ///< second-level rights that need no further walk
};

/// Checks the guest's permissions. 0 if the access is allowed, else the page-fault error code.
/// SDM 3A "Determination of Access Rights", "Protection Keys".
[[nodiscard]] u32 violation(const PagingMode& mode, const Leaf& leaf, Access access, bool user, bool ac);

/// True if `access` may go ahead from the leaf alone: permitted by both levels and nothing to be set in any table.
[[nodiscard]] inline bool usable(const PagingMode& mode, const Leaf& leaf, Access access, bool user, bool ac) {
    return (leaf.slat & slat_needs(access)) != 0 && (access != Access::Write || leaf.dirty) &&
           violation(mode, leaf, access, user, ac) == 0;
}

/// The successful Translation of `gva` that a usable leaf stands for.
[[nodiscard]] Translation translation_of(const PagingMode& mode, const Leaf& leaf, u64 gva, bool user, bool ac);

/// The walk itself. On success `leaf` is filled.
/// @param touch  set accessed and dirty bits
/// @param cache  second-level cache, or null
[[nodiscard]] Translation walk_leaf(PhysicalMemory& memory, const PagingMode& mode, const SlatMode& slat, Gva gva,
                                    Access access, bool user, bool ac, bool touch, SlatCache* cache, Leaf& leaf);

}  // namespace vg::mmu
