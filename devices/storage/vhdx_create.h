// Making new VHDX images.
#pragma once

#include <string>

#include "base/result.h"
#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"
#include "devices/storage/create.h"
#include "devices/storage/vhd_chain.h"
#include "devices/storage/vhdx_format.h"

namespace vg::devices {

namespace vhdx {

inline constexpr u32 kDefaultBlockBytes = 32u << 20;  ///< of fixed and dynamic disks
inline constexpr u32 kDefaultDifferencingBlockBytes = 2u << 20;

/// Everything that makes a new file; `parent_path` is relative to the file's folder.
struct Plan {
    VhdKind kind = VhdKind::Dynamic;
    u64 size_bytes = 0;
    u32 block_bytes = kDefaultBlockBytes;
    u32 logical_sector_bytes = 512;
    u32 physical_sector_bytes = 4096;
    u32 log_bytes = 1u << 20;
    Guid disk_id{}, write_id{};
    Guid parent_linkage{};
    std::string parent_path;
};

/// Writes an empty image into an empty file.
[[nodiscard]] Result<void> write_new(BlockFile& file, const Plan& plan);

}  // namespace vhdx

struct VhdxOptions {
    std::string path;
    VhdKind kind = VhdKind::Dynamic;
    u64 size_bytes = 0;  ///< Fixed and Dynamic: whole logical sectors up to 64 TiB. Differencing: 0, the parent's size
    std::string parent{};              ///< Differencing: path of the image below, of any format, by its name
    u32 block_bytes = 0;               ///< a power of two from 1 to 256 MiB, or 0 for the usual size
    u32 logical_sector_bytes = 512;    ///< 512 or 4096. Differencing: not used, the parent's
    u32 physical_sector_bytes = 4096;  ///< 512 or 4096. Differencing: not used, the parent's
};

namespace vhdx {

/// A plan with fresh ids for a Fixed or Dynamic disk. Error (Usage), naming the file: the format cannot hold it.
[[nodiscard]] Result<Plan> plan_new(const VhdxOptions& options);

}  // namespace vhdx

/// Creates the image complete or not at all: it appears under its name when everything is on disk. Errors: Usage for a
/// file that exists, a wrong size, a parent that cannot be opened.
[[nodiscard]] Result<void> create_vhdx(const VhdxOptions& options);

/// As create_vhdx with Differencing, for a parent that is already open.
[[nodiscard]] Result<void> create_vhdx_overlay(const std::string& path, const vhd::IdentifiedImage& parent,
                                               u32 block_bytes = vhdx::kDefaultDifferencingBlockBytes);

}  // namespace vg::devices
