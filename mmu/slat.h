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
}

/// What the second level says about one GPA.
struct SlatResult {
    bool ok = false;             ///< present, well formed and the access is permitted
    bool misconfigured = false;
    bool present = false;        ///< there is a mapping, whatever it grants
    u8 permissions = 0;          ///< granted by the tables
    u8 cacheable = 0;            ///< permissions that need no further walk: write only once the dirty bit is set
    u8 page_bits = 12;
    u64 spa = 0;                 ///< of the byte asked for
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
    /// A hit that permits `access`. Entries of another mode never hit.
    [[nodiscard]] const SlatResult* find(const SlatMode& slat, u64 gpa, Access access);
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
    static constexpr u32 kSmall = 1024, kLarge = 256, kModes = 4;
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

/// Walks the second-level tables for one GPA. With `touch`, sets accessed and dirty bits where the mode has them.
/// @param cache  may be null
[[nodiscard]] SlatResult slat_walk(PhysicalMemory& memory, const SlatMode& slat, u64 gpa, Access access, bool touch,
                                   SlatCache* cache);

}  // namespace vg::mmu
