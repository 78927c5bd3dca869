// Builds and edits real EPT-format tables in emulated memory, for hv's partitions.
#pragma once

#include <functional>

#include "base/result.h"
#include "base/types.h"
#include "mmu/physical_memory.h"
#include "mmu/walk.h"

namespace vg::mmu {

/// Permissions of a second-level mapping.
struct SlatPermissions {
    bool read = true, write = true, execute = true;
    bool operator==(const SlatPermissions&) const = default;
};

/// Owns one EPT hierarchy whose pages come from `allocate_page` (zeroed RAM pages, SPA) and go back through
/// `free_page`. Uses 2 MiB and 1 GiB entries where alignment allows, and splits them when a part changes.
/// The caller flushes TLBs after a change that removes or narrows a mapping.
class SlatBuilder {
  public:
    using AllocatePage = std::function<Result<Spa>()>;
    using FreePage = std::function<void(Spa)>;

    /// Allocates the root at once: check `root()` after construction is non-zero.
    SlatBuilder(PhysicalMemory& memory, AllocatePage allocate_page, FreePage free_page);
    ~SlatBuilder();
    SlatBuilder(const SlatBuilder&) = delete;
    SlatBuilder& operator=(const SlatBuilder&) = delete;

    /// Maps [gpa, gpa+size) to [spa, spa+size), replacing what was there. Multiples of 4 KiB; GPAs below 2^48, SPAs
    /// below 2^46. Error Usage: a bad range, or write permission without read (EPT forbids it); else what
    /// `allocate_page` said: a part may be mapped then, and the same call can be repeated with more pages.
    Result<void> map(Gpa gpa, Spa spa, u64 size, SlatPermissions permissions);
    /// Removes mappings; holes are fine.
    Result<void> unmap(Gpa gpa, u64 size);
    /// What one page maps to now.
    struct Entry {
        bool present = false;
        Spa spa;
        SlatPermissions permissions;
        u8 page_bits = 12;
    };
    [[nodiscard]] Entry find(Gpa gpa) const;

    [[nodiscard]] u64 root() const { return root_; }  ///< EPTP value
    [[nodiscard]] SlatMode mode() const;
    /// Pages that the tables occupy.
    [[nodiscard]] u64 table_pages() const { return table_pages_; }

  private:
    [[nodiscard]] u64 load(u64 table, u64 gpa, unsigned level) const;
    void store(u64 table, u64 gpa, unsigned level, u64 entry);
    Result<u64> new_table();
    void free_table(u64 table, unsigned level);
    /// Puts `entry` (a leaf, or 0) at `level`, splitting and creating tables above it.
    Result<void> set(Gpa gpa, unsigned level, u64 entry);
    /// The table below the entry for `gpa` at `level`, made if absent or large.
    Result<u64> table_below(u64 table, u64 gpa, unsigned level);

    PhysicalMemory& memory_;
    AllocatePage allocate_page_;
    FreePage free_page_;
    u64 root_ = 0;
    u64 table_pages_ = 0;
};

}  // namespace vg::mmu
