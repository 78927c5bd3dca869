// Making new VHD images.
#pragma once

#include <string>

#include "base/result.h"
#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"
#include "devices/storage/vhd_chain.h"
#include "devices/storage/vhd_format.h"

namespace vg::devices {

enum class VhdKind : u8 { Fixed, Dynamic, Differencing };

struct VhdOptions {
    std::string path;
    VhdKind kind = VhdKind::Dynamic;
    u64 size_bytes = 0;    ///< Fixed and Dynamic: a multiple of 512 up to 2040 GiB. Differencing: 0, the parent's size
    std::string parent{};  ///< Differencing: path of the image below, raw or VHD, by its name
    u32 block_bytes = vhd::kDefaultBlockBytes;  ///< a power of two from 512 to 256 MiB
};

/// Creates the image complete or not at all: it appears under its name when everything is on disk. Errors: Usage for a
/// file that exists, a wrong size, a parent that cannot be opened.
[[nodiscard]] Result<void> create_vhd(const VhdOptions& options);

/// As create_vhd with Differencing, for a parent that is already open.
[[nodiscard]] Result<void> create_overlay(const std::string& path, const vhd::Identity& parent, u64 size_bytes,
                                          u32 block_bytes = vhd::kDefaultBlockBytes);

/// The way from an overlay's folder to its parent. Error (Usage): a name that Windows' formats cannot hold.
[[nodiscard]] Result<std::string> path_to_parent(const std::string& overlay, const std::string& parent);
/// The image below a new differencing one, opened read-only, its format by its name.
[[nodiscard]] Result<vhd::IdentifiedImage> open_parent_image(const std::string& path);

namespace vhd {

/// Everything that makes a new file; `parent_path` is relative to the file's folder.
struct Plan {
    VhdKind kind = VhdKind::Dynamic;
    u64 size_bytes = 0;
    u32 block_bytes = kDefaultBlockBytes;
    Id id{};
    u32 time_stamp = 0;
    Identity parent;
    std::string parent_path;
};

/// A plan with a fresh id for a Fixed or Dynamic disk. Error (Usage), naming `name`: the format cannot hold it.
[[nodiscard]] Result<Plan> plan_new(const std::string& name, VhdKind kind, u64 size_bytes, u32 block_bytes);

/// Writes an empty image into an empty file.
[[nodiscard]] Result<void> write_new(BlockFile& file, const Plan& plan);

}  // namespace vhd

}  // namespace vg::devices
