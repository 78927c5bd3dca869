// The second-level walk and its cache. SDM 3C "The Extended Page Table Mechanism (EPT)", AMD APM 2 "Nested Paging".
#pragma once

#include <array>

#include "base/types.h"
#include "mmu/physical_memory.h"
#include "mmu/walk.h"

namespace vg::mmu {

/// Permission bits of a second-level mapping, as in an EPT entry.
namespace slat_right {
inline constexpr u8 kRead = 1, kWrite = 2, kExecute = 4, kAll = 7;
inline constexpr u8 kUserExecute = 8;  ///< of its own with SlatMode::user_execute, otherwise not there
}

/// What the second level says about one GPA.
struct SlatResult {
    bool ok = false;             ///< present, well formed and the access is permitted
    bool misconfigured = false;
    bool present = false;        ///< there is a mapping, whatever it grants
    u8 permissions = 0;          ///< granted by the tables
    u8 cacheable = 0;            ///< permissions that need no further walk: write only once the dirty bit is set
    u8 page_bits = 12;
    bool convertible = false, log_full = false, below = false;  ///< as in SlatFault
    u64 spa = 0;                 ///< of the byte asked for; with `below`, the address that the level below refused
    /// The fault that a refused access to `gpa` is.
    [[nodiscard]] SlatFault fault(u64 gpa, Access access, bool during_walk) const {
        return {Gpa(below ? spa : gpa), access, misconfigured, during_walk, permissions, present, convertible, log_full, below};
    }
};

/// The bit that `access` needs. SDM 3C "EPT Violations".
[[nodiscard]] constexpr u8 slat_needs(Access access) {
    return access == Access::Read ? slat_right::kRead : access == Access::Write ? slat_right::kWrite : slat_right::kExecute;
}

/// How the second level sees a read of a guest paging structure: a write under NPT ("host table walks for guest page
/// tables are always treated as data writes") and under EPT with accessed and dirty flags enabled.
[[nodiscard]] constexpr Access slat_walk_access(const SlatMode& slat) {
    return slat.kind == SlatMode::Kind::Npt || slat.accessed_dirty ? Access::Write : Access::Read;
}

/// Guest-physical mappings that were used lately. Depends on the second-level tables only, so nothing a guest does to
/// its own tables invalidates it: only `clear` (INVEPT, map changes) and another root do.
class SlatCache {
  public:
    /// A hit that permits what the access needs. Entries of another mode never hit.
    /// @param needs  slat_right bits
    [[nodiscard]] const SlatResult* find(const SlatMode& slat, u64 gpa, u8 needs);
    void insert(const SlatMode& slat, u64 gpa, const SlatResult& result);
    /// Everything derived from this root (0: any).
    void clear(u64 root);

  private:
    struct Entry {
        u64 tag = 0;  ///< page-aligned GPA with bit 0 set: valid
        u64 generation = 0;
        u64 spa = 0;  ///< of the page
        u8 permissions = 0, cacheable = 0;
    };
    static constexpr u32 kSmall = 1024, kLarge = 256, kModes = 8;
    /// One generation per recently used mode; an entry belongs to the mode whose generation it carries.
    struct Mode {
        SlatMode slat;
        u64 generation = 0;
    };
    [[nodiscard]] u64 generation_of(const SlatMode& slat);

    std::array<Entry, kSmall> small_{};
    std::array<Entry, kLarge> large_{};
    std::array<Mode, kModes> modes_{};
    u64 next_generation_ = 1;
    u32 current_ = 0, victim_ = 0;
    SlatResult hit_;
};

/// The same where fetches from user-mode addresses have a right of their own.
[[nodiscard]] constexpr u8 slat_needs(const SlatMode& slat, Access access, bool user_page) {
    return slat.user_execute && user_page && access == Access::Fetch ? slat_right::kUserExecute : slat_needs(access);
}

/// The rights of a mapping for a page of the guest's: without the one that does not concern it.
[[nodiscard]] constexpr u8 slat_rights_of(const SlatMode& slat, u8 rights, bool user_page) {
    if (!slat.user_execute || !user_page) return rights & slat_right::kAll;
    const unsigned execute = (rights & slat_right::kUserExecute) != 0 ? slat_right::kExecute : 0u;
    return static_cast<u8>((rights & (slat_right::kRead | slat_right::kWrite)) | execute);
}

/// The table below another, as a mode of its own.
[[nodiscard]] constexpr SlatMode slat_below(const SlatMode& slat) {
    return {.kind = slat.below != 0 ? SlatMode::Kind::Ept : SlatMode::Kind::None, .root = slat.below,
            .physical_bits = slat.below_bits};
}

/// Walks the second-level tables for one GPA, and the level below them if there is one. With `touch`, sets accessed and dirty
/// bits where the mode has them.
/// @param cache      may be null
/// @param user_page  a fetch is from a user-mode address (SlatMode::user_execute)
[[nodiscard]] SlatResult slat_walk(PhysicalMemory& memory, const SlatMode& slat, u64 gpa, Access access, bool touch,
                                   SlatCache* cache, bool user_page = false);

}  // namespace vg::mmu
