// Which format a file's name announces.
#pragma once

#include <string>

#include "base/result.h"
#include "devices/storage/block_device.h"

namespace vg::devices {

/// Vhd for .vhd, .avhd and .vpc, Raw for anything else: never by content, which belongs to a guest. Error (Usage) for
/// names of formats that cannot be opened, which would be wrong to show as raw disks.
[[nodiscard]] Result<ImageFormat> format_of_name(const std::string& path);

}  // namespace vg::devices
