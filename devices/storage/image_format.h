// Which format a file's name announces.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "devices/storage/block_device.h"

namespace vg::devices {

/// Vhd for .vhd, .avhd and .vpc, Vhdx for .vhdx and .avhdx, Qcow2 for .qcow2, Raw for anything else: never by content, which belongs to a guest. Error (Usage) for
/// names of formats that cannot be opened, which would be wrong to show as raw disks.
[[nodiscard]] Result<ImageFormat> format_of_name(const std::string& path);

/// The format's word in a configuration: "raw", "vhd", ...; "auto".
[[nodiscard]] std::string_view format_word(ImageFormat format);
/// The reverse; Auto for anything else.
[[nodiscard]] ImageFormat format_of_word(std::string_view word);

}  // namespace vg::devices
