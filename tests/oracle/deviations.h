// Where Unicorn 2.0.1 (QEMU 5.0's processor) departs from the manuals: each rule names the section that says so.
#pragma once

#include <string_view>

#include "legacy.h"

namespace vg::test {

/// The section that makes a difference of the outcomes Unicorn's, or nothing. `memory` is what both started from.
[[nodiscard]] std::string_view explain(const LegacyCase& c, const LegacyOutcome& ours, const LegacyOutcome& oracle,
                                       const u8* memory);

/// EFLAGS bits that mean something after `c`.
[[nodiscard]] u32 compared_flags(const LegacyCase& c, int vector);

}  // namespace vg::test
