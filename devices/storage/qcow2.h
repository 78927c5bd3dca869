// qcow2 images, read only: QEMU's docs/interop/qcow2.txt, versions 2 and 3.
//
// Own code and not libqcow: that library (20201213) reads clusters that are marked as zeroes as other data.
#pragma once

#include <memory>

#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"

namespace vg::devices {

/// A read-only disk over the image's active state. Tables and compressed clusters are read when they are needed and
/// kept in bounded memory; a place outside of the file is an error of that read. Errors: Usage for what is not
/// supported (encryption, a backing or data file, extended L2 entries) and for a writable file; Damaged for a header
/// that no program writes.
[[nodiscard]] Result<std::unique_ptr<BlockDevice>> open_qcow2(std::unique_ptr<BlockFile> file);

}  // namespace vg::devices
