// Where Unicorn 2.0.1 (QEMU 5.0's processor) departs from the manuals. Each rule turns Unicorn's outcome into the one that
// the manual demands, so that everything else of the case is still compared.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "legacy.h"

namespace vg::test {

inline constexpr u32 kAllIterations = ~u32{0};

/// A case whose outcomes differ.
struct Difference {
    const LegacyCase& c;
    const LegacyOutcome& ours;
    const u8* pristine;    ///< memory that both started from
    const u8* our_memory;  ///< memory afterwards
    LegacyOutcome& oracle; ///< Unicorn's outcome, and its memory: what rules correct
    u8* oracle_memory;
    /// Unicorn's outcome of a case, of a repeated one after so many iterations; its memory must be as it was before.
    std::function<LegacyOutcome(const LegacyCase&, u32 iterations)> rerun;
};

/// The known departures, by the section of the manual that Unicorn departs from.
[[nodiscard]] std::span<const std::string_view> deviations();
/// Corrects one departure. False if the case has nothing to do with it.
[[nodiscard]] bool correct(Difference& d, std::size_t deviation);

/// EFLAGS bits that mean something after `c`.
[[nodiscard]] u32 compared_flags(const LegacyCase& c, int vector);

}  // namespace vg::test
