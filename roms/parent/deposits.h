// Pages that the hypervisor asks for on behalf of a partition, counted to the page. ..R-34; K-126, K-127.
#pragma once

#include <set>

#include "base/types.h"
#include "roms/parent/hypercalls.h"

namespace vg::parent {

/// What was deposited with one partition. Pages that are deposited are out of this system's reach until they come back.
class Deposits {
  public:
    explicit Deposits(u64 partition_id) : partition_id_(partition_id) {}
    Deposits(const Deposits&) = delete;
    Deposits& operator=(const Deposits&) = delete;

    /// Gives pages. InsufficientMemory: this system has not that many left.
    HvStatus give(u32 pages);
    /// Takes back every page that is not in use. False (said in the log): the hypervisor returned a page that was never
    /// given, or kept one.
    bool take_back();
    [[nodiscard]] u64 count() const { return pages_.size(); }

  private:
    u64 partition_id_;
    std::set<u64> pages_;  ///< addresses
};

/// Pages for the hypervisor's own needs on behalf of the root.
Deposits& root_deposits();

/// Repeats `attempt` (a hypercall returning HvStatus) until it does not want memory any more.
template <class Attempt>
HvStatus with_deposits(Deposits& deposits, Attempt attempt) {
    constexpr unsigned kRounds = 1024;
    constexpr u32 kAtOnce = 8;
    for (unsigned round = 0; round < kRounds; ++round) {
        const HvStatus status = attempt();
        Deposits* wanted = nullptr;
        if (status == HvStatus::InsufficientMemory) wanted = &deposits;
        if (status == HvStatus::InsufficientRootMemory) wanted = &root_deposits();
        if (wanted == nullptr) return status;
        if (const HvStatus given = wanted->give(kAtOnce); given != HvStatus::Success) return given;
    }
    return HvStatus::InsufficientMemory;
}

}  // namespace vg::parent
