// A VHDX file as a block device: fixed, dynamic and differencing, read and write.
#pragma once

#include <memory>

#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"
#include "devices/storage/vhdx_layout.h"

namespace vg::devices::vhdx {

/// A device over a checked file. `parent` is set for differencing disks and only for them; it may be smaller than the
/// disk, which then reads as zeroes behind it.
///
/// What survives a crash is what was flushed. Changed pages of the block table and of sector bitmaps are kept in
/// memory until `flush`, which syncs the data, writes all these pages as one entry of the log, syncs that, and then
/// writes them in place; the next flush's first sync makes those durable, before a later entry ends this one's life.
/// So a table on disk, with its log, always names complete blocks.
///
/// The first write gives the file new write ids, by which children of the earlier content are refused from then on,
/// and opens the log; closing the device empties it.
[[nodiscard]] std::unique_ptr<BlockDevice> make_image(Opened opened, std::unique_ptr<BlockDevice> parent);

}  // namespace vg::devices::vhdx
