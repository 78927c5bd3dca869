// Throw-away overlay: writes that are gone when the device is closed.
#pragma once

#include <memory>

#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"

namespace vg::devices {

/// A writable view of `base`, which is only read. `store` is an empty file; it is used sparsely at the disk's own
/// offsets, so it never grows past the disk's size. Flush is immediate: nothing has to survive.
[[nodiscard]] std::unique_ptr<BlockDevice> make_throwaway(std::unique_ptr<BlockDevice> base,
                                                          std::unique_ptr<BlockFile> store);

}  // namespace vg::devices
