#include "machine/disk_image.h"

namespace vg::machine {

devices::ImageOptions image_options(const DiskSection& disk) {
    devices::ImageOptions options;
    options.path = disk.image;
    options.overlay = disk.overlay;
    options.format = disk.format == "raw"   ? devices::ImageFormat::Raw
                     : disk.format == "vhd" ? devices::ImageFormat::Vhd
                                            : devices::ImageFormat::Auto;
    options.mode = disk.write == "direct" ? devices::WriteMode::Direct
                   : disk.write == "none" ? devices::WriteMode::ReadOnly
                   : disk.write == "memory" ? devices::WriteMode::Memory
                   : disk.overlay.empty() ? devices::WriteMode::Throwaway
                                          : devices::WriteMode::Overlay;
    return options;
}

Result<void> check_disk_image(const DiskSection& disk) {
    if (auto ok = devices::check_image(image_options(disk)); !ok) return Unexpected{ok.error().in(disk.at.text())};
    return {};
}

Result<std::unique_ptr<devices::BlockDevice>> open_disk_image(const DiskSection& disk) {
    auto device = devices::open_image(image_options(disk));
    if (!device) return Unexpected{device.error().in(disk.at.text())};
    return device;
}

}  // namespace vg::machine
