// Reading and checking the structures of a VHD file.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "devices/storage/block_file.h"
#include "devices/storage/vhd_format.h"

namespace vg::devices::vhd {

/// Everything about a file but its sectors, checked: offsets lie inside the file, blocks do not overlap anything.
struct Layout {
    Footer footer;
    Header header;           ///< not for fixed disks
    std::vector<u32> table;  ///< sector of each block of the disk, or kUnallocated
    u64 bitmap_size = 0;
    /// First byte behind all structures and blocks: where the footer belongs, and where a new block goes.
    u64 end = 0;
    /// The file does not end with its footer right at `end`: a writer was killed while it grew the file.
    bool needs_footer = false;

    [[nodiscard]] bool fixed() const { return footer.disk_type == DiskType::Fixed; }
    [[nodiscard]] bool differencing() const { return footer.disk_type == DiskType::Differencing; }
};

/// Errors: Damaged, naming file, byte, what was found and expected, and a remedy. Nothing is written.
[[nodiscard]] Result<Layout> load_layout(BlockFile& file);

/// One paragraph: where, what, what instead, what to do.
[[nodiscard]] Unexpected<Error> damaged(const BlockFile& file, u64 offset, const std::string& found,
                                        const std::string& expected, const std::string& remedy = {});

[[nodiscard]] std::string to_string(const Id& id);

/// The host's time in a footer's units. Only files carry it; no guest sees it.
[[nodiscard]] u32 time_stamp_now();

}  // namespace vg::devices::vhd
