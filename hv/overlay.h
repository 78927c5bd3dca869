// An overlay page: a private page that a register places over a partition's GPA space.
#pragma once

#include <optional>

#include "base/types.h"
#include "mmu/slat_builder.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv {

class Partition;

/// Owns one private page for its life and shows it where the owner's MSR says (M-02, M-07, M-14, M-17, M-18).
/// The guest's own page below is untouched and shows again after removal (H-53).
class OverlayPage {
  public:
    OverlayPage(Partition& partition, mmu::SlatPermissions permissions);
    ~OverlayPage();
    OverlayPage(const OverlayPage&) = delete;
    OverlayPage& operator=(const OverlayPage&) = delete;

    /// Places the page as a page placement register asks: bit 0 shows it at the PFN in [63:12].
    /// True if it is now shown at a place where it was not before.
    bool place(u64 register_value);
    /// As place(), and a newly placed page starts zeroed.
    void place_zeroed(u64 register_value);
    void remove() { place(0); }

    /// What the owner's register holds before software writes it: the root finds its pages by it; else 0.
    [[nodiscard]] u64 preset() const;
    /// The root's page is seen at its own address, placed or not.
    void show_at_home();

    [[nodiscard]] bool placed() const { return gpa_.has_value(); }
    /// Where it is, if placed.
    [[nodiscard]] std::optional<Gpa> gpa() const { return gpa_; }
    [[nodiscard]] Spa page() const { return page_; }
    void zero();

    void fields(StateVisitor& v);

  private:
    Partition& partition_;
    mmu::SlatPermissions permissions_;
    Spa page_;
    std::optional<Gpa> gpa_;
};

}  // namespace vg::hv
