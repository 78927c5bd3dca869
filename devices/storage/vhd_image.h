// A VHD file as a block device: fixed, dynamic and differencing, read and write.
#pragma once

#include <memory>

#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"
#include "devices/storage/vhd_layout.h"

namespace vg::devices::vhd {

/// A device over a checked layout. `parent` is set for differencing disks and only for them; it may be smaller than
/// the disk, which then reads as zeroes behind it.
///
/// What survives a crash is what was flushed. New sector bitmaps and table entries are kept in memory until `flush`,
/// which writes in this order, a sync between each: data and the footer at the new end, bitmaps, table entries. So a
/// table entry on disk always names a complete block, and the file opens again whenever the writer was killed.
///
/// Errors: Usage if the file is to be written and holds a saved state of another virtual machine.
[[nodiscard]] Result<std::unique_ptr<BlockDevice>> make_image(std::unique_ptr<BlockFile> file, Layout layout,
                                                              std::unique_ptr<BlockDevice> parent);

}  // namespace vg::devices::vhd
