#include "machine/disk_image.h"

#include "devices/storage/image_format.h"

namespace vg::machine {

namespace {

Unexpected<Error> closed() { return fail(Error::Code::Host, "the disk was let go of: its child lives elsewhere"); }

}  // namespace

MachineDisk::MachineDisk(std::shared_ptr<devices::BlockDevice> device, const DiskPlace& place)
    : device_(std::move(device)),
      place_(place),
      size_bytes_(device_->size_bytes()),
      logical_(device_->logical_sector_bytes()),
      physical_(device_->physical_sector_bytes()),
      read_only_(device_->read_only()) {}

Result<void> MachineDisk::read(u64 offset, std::span<u8> out) {
    tell(DiskOperation::Read, offset, out.size());
    return device_ ? device_->read(offset, out) : closed();
}

Result<void> MachineDisk::write(u64 offset, std::span<const u8> data) {
    tell(DiskOperation::Write, offset, data.size());
    return device_ ? device_->write(offset, data) : closed();
}

Result<void> MachineDisk::read_parts(u64 offset, Parts parts) {
    tell(DiskOperation::Read, offset, devices::size_of(parts));
    return device_ ? device_->read_parts(offset, parts) : closed();
}

Result<void> MachineDisk::write_parts(u64 offset, Parts parts) {
    tell(DiskOperation::Write, offset, devices::size_of(parts));
    return device_ ? device_->write_parts(offset, parts) : closed();
}

Result<void> MachineDisk::discard(u64 offset, u64 size) {
    tell(DiskOperation::Discard, offset, size);
    return device_ ? device_->discard(offset, size) : closed();
}

Result<void> MachineDisk::flush() {
    tell(DiskOperation::Flush, 0, 0);
    return device_ ? device_->flush() : closed();
}

Result<void> MachineDisk::settle() {
    if (!device_) return {};
    tell(DiskOperation::Flush, 0, 0);
    return device_->settle();
}

Result<void> MachineDisk::for_each_unsaved(const VisitUnsaved& visit) {
    return device_ ? device_->for_each_unsaved(visit) : Result<void>{};
}

void MachineDisk::tell(DiskOperation operation, u64 offset, u64 size) const {
    Tap& tap = place_.log.tap();
    if (!tap.wants(TapKind::Disk)) return;
    tap.tell({TapKind::Disk,
              place_.partition,
              TapEvent::kNoVp,
              {place_.number, static_cast<u64>(operation), offset, size},
              {}});
}

devices::ImageOptions image_options(const DiskSection& disk) {
    devices::ImageOptions options;
    options.path = disk.image;
    options.overlay = disk.overlay;
    options.format = devices::format_of_word(disk.format);
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

Result<std::shared_ptr<devices::BlockDevice>> open_disk_file(const DiskSection& disk) {
    auto device = devices::open_image(image_options(disk));
    if (!device) return Unexpected{device.error().in(disk.at.text())};
    return std::shared_ptr<devices::BlockDevice>(std::move(*device));
}

Result<std::unique_ptr<MachineDisk>> open_disk_image(const DiskSection& disk, const DiskPlace& place) {
    auto device = open_disk_file(disk);
    if (!device) return Unexpected{device.error()};
    return std::make_unique<MachineDisk>(std::move(*device), place);
}

}  // namespace vg::machine
