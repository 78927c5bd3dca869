// UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

namespace vg {

/// Where the text stops being UTF-8 (Unicode 15, table 3-7), or its size.
[[nodiscard]] std::size_t utf8_prefix(std::string_view text);

}  // namespace vg
