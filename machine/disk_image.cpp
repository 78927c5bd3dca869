#include "machine/disk_image.h"

#include "base/tap.h"
#include "devices/storage/image_format.h"

namespace vg::machine {

namespace {

/// A disk that tells what is asked of it.
class ToldDisk final : public devices::BlockDevice {
  public:
    ToldDisk(std::unique_ptr<devices::BlockDevice> device, const DiskPlace& place)
        : device_(std::move(device)), place_(place) {}
    u64 size_bytes() const override { return device_->size_bytes(); }
    bool read_only() const override { return device_->read_only(); }
    u32 logical_sector_bytes() const override { return device_->logical_sector_bytes(); }
    u32 physical_sector_bytes() const override { return device_->physical_sector_bytes(); }
    Result<void> read(u64 offset, std::span<u8> out) override {
        tell(DiskOperation::Read, offset, out.size());
        return device_->read(offset, out);
    }
    Result<void> write(u64 offset, std::span<const u8> data) override {
        tell(DiskOperation::Write, offset, data.size());
        return device_->write(offset, data);
    }
    Result<void> discard(u64 offset, u64 size) override {
        tell(DiskOperation::Discard, offset, size);
        return device_->discard(offset, size);
    }
    Result<void> flush() override {
        tell(DiskOperation::Flush, 0, 0);
        return device_->flush();
    }
    Result<void> settle() override {
        tell(DiskOperation::Flush, 0, 0);
        return device_->settle();
    }
    Result<void> for_each_unsaved(const VisitUnsaved& visit) override { return device_->for_each_unsaved(visit); }
    std::string describe() const override { return device_->describe(); }

  private:
    void tell(DiskOperation operation, u64 offset, u64 size) {
        Tap& tap = place_.log.tap();
        if (!tap.wants(TapKind::Disk)) return;
        tap.tell({TapKind::Disk,
                  place_.partition,
                  TapEvent::kNoVp,
                  {place_.number, static_cast<u64>(operation), offset, size},
                  {}});
    }
    std::unique_ptr<devices::BlockDevice> device_;
    DiskPlace place_;
};

}  // namespace

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

Result<std::unique_ptr<devices::BlockDevice>> open_disk_image(const DiskSection& disk, const DiskPlace& place) {
    auto device = devices::open_image(image_options(disk));
    if (!device) return Unexpected{device.error().in(disk.at.text())};
    return std::unique_ptr<devices::BlockDevice>(std::make_unique<ToldDisk>(std::move(*device), place));
}

}  // namespace vg::machine
