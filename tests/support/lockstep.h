// Two machines of one meaning, run side by side and compared: the first instruction after which they differ.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "machine/machine.h"

namespace vg::test {

struct LockstepSettings {
    VTime interval = 9973;        ///< virtual time between comparisons of all state but memory
    u64 memory_every = 200;       ///< comparisons between those of memory
    VTime until = kNever;         ///< virtual time at which it is enough
    std::function<void(VTime now)> progress{};  ///< called at every comparison of memory
};

struct LockstepResult {
    bool equal = false;
    VTime compared = 0;       ///< virtual time of the last comparison that found them equal
    u64 instructions = 0;     ///< executed by the first machine
    u64 comparisons = 0, memory_comparisons = 0;
    std::string end;          ///< how the run ended
    std::string report;       ///< the difference: when, the instruction, what differs
};

/// Makes machine 0 or 1. They must be the same each time: the run is repeated to find the first difference.
using MakeMachine = std::function<std::unique_ptr<machine::Machine>(unsigned which)>;

/// Runs both to the end of the first that ends, to a hang, or to the limit.
[[nodiscard]] LockstepResult run_lockstep(const MakeMachine& make, const LockstepSettings& settings);

}  // namespace vg::test
