// Pictures as PNG files.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/types.h"

namespace vg::model {

/// A picture of `width` by `height` pixels as the content of a PNG file.
/// @param pixels  rows of 32-bit pixels, 0x00rrggbb, without gaps
[[nodiscard]] std::string png(u32 width, u32 height, std::span<const u32> pixels);

[[nodiscard]] std::string base64(std::string_view bytes);

}  // namespace vg::model
