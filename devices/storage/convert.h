// Copying a disk into a new image.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "devices/storage/block_device.h"
#include "devices/storage/create.h"

namespace vg::devices {

struct ConvertOptions {
    std::string path;                 ///< the new file; its name says the format
    VhdKind kind = VhdKind::Dynamic;  ///< not of a raw image; Fixed or Dynamic
    u32 block_bytes = 0;              ///< 0: the format's usual size
    /// Called with the bytes done so far; false ends the copy.
    std::function<bool(u64 done)> progress{};
};

/// Writes what `source` holds as an image of its own, complete or not at all; what is zero takes no room. Errors: Usage
/// for a file that exists, a format that cannot be written or cannot hold the disk, an end by `progress`.
[[nodiscard]] Result<void> convert_image(BlockDevice& source, const ConvertOptions& options);

}  // namespace vg::devices
