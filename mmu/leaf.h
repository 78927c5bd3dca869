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

/// The accesses (bits as slat_right) that may go ahead from the leaf alone: permitted by both levels, and nothing to be
/// set in any table. The same rules as `violation`, all three at once, because refills are hot.
[[nodiscard]] inline u8 rights_of(const PagingMode& mode, const Leaf& leaf, bool user, bool ac) {
    bool read = true, write = true, execute = true;
    if (mode.kind != PagingKind::None) {
        const bool binding = user || mode.wp;  // write protection binds this access
        read = leaf.user ? user || ac || !mode.smap : !user;
        write = read && (leaf.write || !binding);
        execute = leaf.execute && (leaf.user ? user || !mode.smep : !user);
        if (mode.pke && leaf.user && mode.kind == PagingKind::Level4) {
            const u32 key = mode.pkru >> (2 * leaf.pkey);
            read = read && (key & 1) == 0;
            write = write && (key & 1) == 0 && !((key & 2) != 0 && binding);
        }
    }
    const unsigned allowed = (read ? slat_right::kRead : 0u) | (write && leaf.dirty ? slat_right::kWrite : 0u) |
                             (execute ? slat_right::kExecute : 0u);
    return static_cast<u8>(allowed & leaf.slat);
}

/// The successful Translation of `gva` that a leaf with these rights stands for.
[[nodiscard]] Translation translation_of(const Leaf& leaf, u64 gva, u8 rights);

/// The walk itself. On success `leaf` is filled.
/// @param touch  set accessed and dirty bits
/// @param cache  second-level cache, or null
[[nodiscard]] Translation walk_leaf(PhysicalMemory& memory, const PagingMode& mode, const SlatMode& slat, Gva gva,
                                    Access access, bool user, bool ac, bool touch, SlatCache* cache, Leaf& leaf);

}  // namespace vg::mmu
