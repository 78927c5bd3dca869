// `-s KEY=VALUE` on the command line.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "machine/config.h"

namespace vg::cli {

/// Splits each setting at its first '='. Error (Usage) if there is none.
[[nodiscard]] Result<std::vector<machine::Override>> parse_settings(const std::vector<std::string>& settings);

}  // namespace vg::cli
