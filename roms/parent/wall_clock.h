// The machine's wall clock.
#pragma once

#include "base/types.h"

namespace vg::parent {

/// Reads the CMOS clock: Unix seconds (UTC) at reference time 0.
[[nodiscard]] s64 wall_clock_at_start();

}  // namespace vg::parent
