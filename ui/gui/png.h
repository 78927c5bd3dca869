// Pictures to and from PNG files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace vg::gui {

struct Picture {
    int width = 0, height = 0;
    std::vector<u32> pixels;  ///< 0xaabbggrr: red in the lowest byte
};

/// A PNG file from anywhere. Error (Usage): damaged, or larger than 4096 by 4096.
[[nodiscard]] Result<Picture> parse_png(std::string_view file);
/// Writes the picture without its alpha. Error (Host): the file cannot be written.
[[nodiscard]] Result<void> write_png(const std::string& path, const Picture& picture);

}  // namespace vg::gui
