// A [[disk]] table as an image to open.
#pragma once

#include "devices/storage/block_device.h"
#include "machine/config.h"

namespace vg::machine {

/// How the image of this disk is opened.
[[nodiscard]] devices::ImageOptions image_options(const DiskSection& disk);
/// Refuses what opening would refuse; errors name the table.
[[nodiscard]] Result<void> check_disk_image(const DiskSection& disk);
/// Opens it, creating its overlay if it is missing; errors name the table.
[[nodiscard]] Result<std::unique_ptr<devices::BlockDevice>> open_disk_image(const DiskSection& disk);

}  // namespace vg::machine
