// Who uses which page of RAM: given to the hypervisor, or mapped into children. Rows K-126, K-128, R-31, R-32.
#pragma once

#include <map>
#include <vector>

#include "base/types.h"
#include "mmu/physical_memory.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv {

/// One number per page of RAM, so that no page is deposited twice, or mapped into a child while it is deposited. Ranges
/// that are not RAM (MMIO of the root) are not counted: they can never be deposited.
class PageLedger {
  public:
    explicit PageLedger(mmu::PhysicalMemory& memory) : memory_(memory) {}

    [[nodiscard]] bool deposited(Spa page) const { return (get(page) & kDeposited) != 0; }
    /// How often children map the page.
    [[nodiscard]] u32 mappings(Spa page) const { return get(page) & kCountMask; }
    /// True if the page is RAM that is neither deposited nor mapped.
    [[nodiscard]] bool can_deposit(Spa page) const;
    /// True if every page of the range may be mapped once more: not deposited, not at the limit of its count.
    [[nodiscard]] bool can_map(Spa first, u64 size) const;

    void set_deposited(Spa page, bool deposited);
    void add_mappings(Spa first, u64 size);
    void remove_mappings(Spa first, u64 size);
    void fields(StateVisitor& v);

  private:
    static constexpr u32 kDeposited = u32{1} << 31, kCountMask = kDeposited - 1, kCountLimit = 1 << 20;
    [[nodiscard]] u32 get(Spa page) const;
    /// The page's number, made if need be; null if it is not RAM.
    u32* find(Spa page);

    mmu::PhysicalMemory& memory_;
    std::map<u64, std::vector<u32>> regions_;  // by base; made when a page of the region is first used
};

}  // namespace vg::hv
