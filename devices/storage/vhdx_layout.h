// Reading and checking the structures of a VHDX file.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "devices/storage/block_file.h"
#include "devices/storage/vhdx_format.h"

namespace vg::devices::vhdx {

/// Everything about a file but its blocks, checked: offsets lie inside the file, nothing overlaps. The table stays in
/// the file: a disk of 64 TiB takes no more memory than a small one.
struct Layout {
    Header header;
    unsigned header_slot = 0;  ///< which of the two copies `header` is
    BatShape shape;
    u32 physical_sector_bytes = 512;
    bool leave_blocks_allocated = false;  ///< a fixed disk
    Guid disk_id{};
    u64 bat_offset = 0;
    /// First MiB behind all structures and blocks: where a new block goes.
    u64 end = 0;
    /// "Parent Locator", keys and values in UTF-8; only where `shape.has_parent`.
    std::map<std::string, std::string> parent;
};

struct Opened {
    std::unique_ptr<BlockFile> file;  ///< what the log still held is in it, or in memory over a read-only file
    Layout layout;
};

/// Replays the log, into a writable file for good, and reads the rest. Errors: Damaged, naming file, byte, what was
/// found and expected, and a remedy; nothing is written then but what a valid log asks for.
[[nodiscard]] Result<Opened> open_layout(std::unique_ptr<BlockFile> file);

/// Writes `header` over the older copy with the next sequence number; `layout` has it from then on. Not yet durable.
[[nodiscard]] Result<void> write_header(BlockFile& file, Layout& layout, Header header);

}  // namespace vg::devices::vhdx
