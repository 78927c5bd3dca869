// The pages that hold what the hypervisor keeps about one partition. Rows K-022, K-126, K-127, R-31..R-34.
#pragma once

#include <optional>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv {

class Hypervisor;

/// Hands out pages for second-level tables, overlays and pages that show a partition to its parent. Every page is zeroed
/// when it is handed out and when it comes back, so that nothing of a partition remains in a page that is withdrawn.
class MemoryPool {
  public:
    enum class Source : u8 {
        Private,  ///< the hypervisor's own memory: the root, and children of the built-in parent
        Deposits  ///< only what the parent deposited
    };
    MemoryPool(Hypervisor& hypervisor, Source source) : hypervisor_(hypervisor), source_(source) {}
    MemoryPool(const MemoryPool&) = delete;
    MemoryPool& operator=(const MemoryPool&) = delete;

    /// A page that only the hypervisor sees. Error (Host): none left.
    Result<Spa> allocate();
    void free(Spa page);
    /// A deposited page, whatever the source: one that the parent will see must be its own RAM.
    [[nodiscard]] std::optional<Spa> allocate_deposited();
    void free_deposited(Spa page);

    /// A page that the parent gave. The caller has taken it out of every GPA space.
    void deposit(Spa page) { available_.push_back(page); }
    /// Gives back a deposited page that is not in use, the last one deposited first.
    [[nodiscard]] std::optional<Spa> withdraw();

    /// Deposited pages that can be withdrawn, and those that cannot.
    [[nodiscard]] u64 available() const { return available_.size(); }
    [[nodiscard]] u64 in_use() const { return in_use_; }
    /// True if `count` calls of allocate() would succeed.
    [[nodiscard]] bool can_allocate(u64 count) const;
    void fields(StateVisitor& v);

  private:
    void zero(Spa page);

    Hypervisor& hypervisor_;
    Source source_;
    std::vector<Spa> available_;
    u64 in_use_ = 0;
};

}  // namespace vg::hv
