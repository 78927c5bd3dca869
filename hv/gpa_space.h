// A partition's GPA space: memory ranges, overlay pages on top, and the second-level table that shows both.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "hv/page_ledger.h"
#include "mmu/slat_builder.h"

namespace vg {
class Log;
class StateVisitor;
}  // namespace vg

namespace vg::hv {

/// What one GPA page is backed by.
struct GpaBacking {
    Spa spa;  ///< of the byte asked for
    mmu::SlatPermissions permissions;
    bool overlay = false;
};

class GpaSpace {
  public:
    using Flush = std::function<void(Gpa first, u64 size)>;
    /// @param flush   drops at least what processors and devices have cached about that part of the space; called after
    ///                the table has changed and before the caller can use a page for something else
    /// @param ledger  counts the pages that are mapped here; null: nobody counts (memory that is not lent by a parent)
    GpaSpace(mmu::PhysicalMemory& memory, Log& log, PageLedger* ledger, mmu::SlatBuilder::AllocatePage allocate,
             mmu::SlatBuilder::FreePage free, Flush flush);
    ~GpaSpace();
    GpaSpace(const GpaSpace&) = delete;
    GpaSpace& operator=(const GpaSpace&) = delete;

    /// Maps memory, replacing what was there; overlays stay on top. Without any permission the range is part of the
    /// space, but nothing is behind it yet (K-128 NO_ACCESS). Error (Usage): not whole pages or out of range; (Host): no
    /// memory left for tables. A range that is one 4 KiB, 2 MiB or 1 GiB page is mapped wholly or not at all.
    Result<void> map(Gpa gpa, Spa spa, u64 size, mmu::SlatPermissions permissions);
    /// Removes memory; overlays there become invisible until memory is mapped again. Errors as map().
    Result<void> unmap(Gpa gpa, u64 size);

    /// Hides memory at the page of `gpa` behind `page`. Several overlays may share a GPA: the last one added is seen.
    /// Without memory at `gpa` the overlay is remembered, but not visible (M-07).
    void add_overlay(Gpa gpa, Spa page, mmu::SlatPermissions permissions);
    void remove_overlay(Gpa gpa, Spa page);

    /// Makes the table say again what fields() has loaded: for a space that came from another machine. The table is empty.
    /// Error as map().
    Result<void> show();

    /// What a guest access to this GPA reaches, or nothing.
    [[nodiscard]] std::optional<GpaBacking> find(Gpa gpa) const;
    /// True if the page is part of the space, with or without memory behind it.
    [[nodiscard]] bool contains(Gpa gpa) const;

    [[nodiscard]] mmu::SlatMode mode() const { return slat_.mode(); }
    [[nodiscard]] u64 table_pages() const { return slat_.table_pages(); }
    void fields(StateVisitor& v);

  private:
    struct Range {
        u64 size = 0;
        Spa spa;
        mmu::SlatPermissions permissions;
        /// Where the byte at `offset` lies; nowhere if nothing is behind the range.
        [[nodiscard]] Spa at(u64 offset) const {
            return permissions == mmu::SlatPermissions{false, false, false} ? Spa() : spa + offset;
        }
    };
    struct Overlay {
        Spa page;
        mmu::SlatPermissions permissions;
    };

    [[nodiscard]] const Range* find_range(u64 gpa, u64& start) const;
    /// Forgets what is mapped there. True if some of it was accessible.
    bool carve(u64 start, u64 end);
    /// Adds a range that meets no other, joined with a neighbour that continues it.
    void insert(u64 gpa, Range range);
    /// Makes the table say what find() says for one page.
    void show(Gpa page);
    void show_overlays(u64 start, u64 end);

    Log& log_;
    PageLedger* ledger_;
    mmu::SlatBuilder slat_;
    Flush flush_;
    std::map<u64, Range> ranges_;                   // by first GPA
    std::map<u64, std::vector<Overlay>> overlays_;  // by GPA of the page; the last is on top
};

}  // namespace vg::hv
