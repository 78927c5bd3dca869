// Parent paths inside VHD files: UTF-16 names and locators of Windows, slashes and UTF-8 here.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "devices/storage/vhd_layout.h"

namespace vg::devices::vhd {

/// UTF-16 code units of a UTF-8 text. Error (Usage) if it is not UTF-8.
[[nodiscard]] Result<std::vector<u16>> to_utf16(std::string_view text);
/// UTF-8 of UTF-16 up to the first zero; unpaired surrogates become U+FFFD.
[[nodiscard]] std::string to_utf8(std::span<const u16> units);

/// `base.vhd`, `dir/base.vhd` or `../base.vhd` as Windows writes it: `.\base.vhd`, `.\dir\base.vhd`, `..\base.vhd`.
[[nodiscard]] std::string to_windows(const std::string& relative_path);
/// The reverse. A path with a drive letter or server name means nothing here: only its file name is kept.
[[nodiscard]] std::string from_windows(const std::string& path);

/// Where a differencing file says that its parent is, in the order to try: relative to its own folder first.
[[nodiscard]] Result<std::vector<std::string>> parent_candidates(BlockFile& file, const Layout& layout);

}  // namespace vg::devices::vhd
