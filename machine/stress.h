// Ways to run a machine that must not change what its guests see: the key `machine.stress`, for tests. translator.md §9
#pragma once

#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "jit/engine.h"
#include "mmu/bank.h"

namespace vg::machine {

struct Stress {
    u32 tlb_entries = mmu::kTlbEntries;  ///< of each processor's inline TLB; 0: every access takes the slow path
    VTime budget = 0;                    ///< instructions that an engine may execute at a time; 0: as many as there are
    jit::Options translator{};           ///< nothing in it has a meaning for the interpreter
};

/// Modes separated by commas: `tlb=N`, `slow`, `budget=N`, `cache=SIZE`, `flush=N`, `blocks=N`, `tiers=off`,
/// `tiers=random:SEED`, `unlinked`, `helpers` (docs/development.md). An empty text is no stress. Error (Usage): an unknown
/// mode, with the nearest name, or a number out of range.
[[nodiscard]] Result<Stress> parse_stress(std::string_view text);

}  // namespace vg::machine
