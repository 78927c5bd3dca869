// Raw image: the disk's bytes and nothing else.
#pragma once

#include <memory>

#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"

namespace vg::devices {

/// Error (Usage) if the size is no positive multiple of 512.
[[nodiscard]] Result<std::unique_ptr<BlockDevice>> open_raw(std::unique_ptr<BlockFile> file);

/// The error of a request outside the device or not in whole sectors: our own caller's mistake, kept from the file.
[[nodiscard]] Result<void> check_range(const BlockDevice& device, u64 offset, u64 size);

/// As check_range; also refuses a read-only device (Usage).
[[nodiscard]] Result<void> check_writable(const BlockDevice& device, u64 offset, u64 size);

/// Sector size of every device here, bytes.
inline constexpr u64 kSectorBytes = 512;

}  // namespace vg::devices
