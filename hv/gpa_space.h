// A partition's GPA space: memory ranges, overlay pages on top, and the second-level table that shows both.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <vector>

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
    using Flush = std::function<void()>;
    /// @param flush  drops everything that processors have cached about the space
    GpaSpace(mmu::PhysicalMemory& memory, Log& log, mmu::SlatBuilder::AllocatePage allocate,
             mmu::SlatBuilder::FreePage free, Flush flush);

    /// Maps memory, replacing what was there; overlays stay on top. Error (Usage): not whole pages or out of range;
    /// (Host): no private memory left for tables.
    Result<void> map(Gpa gpa, Spa spa, u64 size, mmu::SlatPermissions permissions);
    /// Removes memory; overlays there become invisible until memory is mapped again.
    Result<void> unmap(Gpa gpa, u64 size);

    /// Hides memory at the page of `gpa` behind `page`. Several overlays may share a GPA: the last one added is seen.
    /// Without memory at `gpa` the overlay is remembered, but not visible (M-07).
    void add_overlay(Gpa gpa, Spa page, mmu::SlatPermissions permissions);
    void remove_overlay(Gpa gpa, Spa page);

    /// What a guest access to this GPA reaches, or nothing.
    [[nodiscard]] std::optional<GpaBacking> find(Gpa gpa) const;

    [[nodiscard]] mmu::SlatMode mode() const { return slat_.mode(); }
    [[nodiscard]] u64 table_pages() const { return slat_.table_pages(); }
    void fields(StateVisitor& v);

  private:
    struct Range {
        u64 size = 0;
        Spa spa;
        mmu::SlatPermissions permissions;
    };
    struct Overlay {
        Spa page;
        mmu::SlatPermissions permissions;
    };

    [[nodiscard]] const Range* find_range(u64 gpa, u64& start) const;
    void carve(u64 start, u64 end);
    /// Makes the table say what find() says for one page.
    void show(Gpa page);
    void show_overlays(u64 start, u64 end);

    Log& log_;
    mmu::SlatBuilder slat_;
    Flush flush_;
    std::map<u64, Range> ranges_;                   // by first GPA
    std::map<u64, std::vector<Overlay>> overlays_;  // by GPA of the page; the last is on top
};

}  // namespace vg::hv
