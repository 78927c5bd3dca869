// The parent's own log: which parts say what, by its command line.
#pragma once

#include <string_view>

#include "base/log.h"

namespace vg::parent {

/// Lines of this log go to the console. What is said at debug or trace level begins as a line of the machine's log does:
/// "[vsp trace] " and the time since the machine's start, to the nanosecond by the TSC, so that both can be sorted into
/// one.
[[nodiscard]] Log make_log(std::string_view cmdline);

}  // namespace vg::parent
