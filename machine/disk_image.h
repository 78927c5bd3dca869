// A [[disk]] table as an image to open.
#pragma once

#include "base/log.h"
#include "devices/storage/block_device.h"
#include "machine/config.h"

namespace vg::machine {

/// How the image of this disk is opened.
[[nodiscard]] devices::ImageOptions image_options(const DiskSection& disk);
/// Refuses what opening would refuse; errors name the table.
[[nodiscard]] Result<void> check_disk_image(const DiskSection& disk);
/// Where a disk's requests are told as events: see base/tap_kinds.def.
struct DiskPlace {
    Log& log;           ///< outlives the disk
    u64 partition = 0;  ///< whose disk it is; 0: the machine's own
    u32 number = 0;     ///< among that one's, in the order of the configuration
};
/// Opens it, creating its overlay if it is missing; errors name the table.
[[nodiscard]] Result<std::unique_ptr<devices::BlockDevice>> open_disk_image(const DiskSection& disk,
                                                                            const DiskPlace& place);

}  // namespace vg::machine
