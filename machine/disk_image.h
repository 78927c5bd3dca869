// A [[disk]] table as an image to open.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/tap.h"
#include "devices/storage/block_device.h"
#include "machine/config.h"

namespace vg::machine {

/// How the image of this disk is opened.
[[nodiscard]] devices::ImageOptions image_options(const DiskSection& disk);
/// Refuses what opening would refuse; errors name the table.
[[nodiscard]] Result<void> check_disk_image(const DiskSection& disk);
/// Where a disk's requests are told as events: see base/tap_kinds.def.
struct DiskPlace {
    Log& log;           ///< outlives the disk
    u64 partition = 0;  ///< whose disk it is; 0: the machine's own
    u32 number = 0;     ///< among that one's, in the order of the configuration
};
/// A disk that tells what is asked of it, and that its machine can let go of.
class MachineDisk final : public devices::BlockDevice {
  public:
    MachineDisk(std::shared_ptr<devices::BlockDevice> device, const DiskPlace& place);
    /// The image is closed; what is asked of the disk from now on fails.
    void close() { device_.reset(); }
    u64 size_bytes() const override { return size_bytes_; }
    bool read_only() const override { return read_only_; }
    u32 logical_sector_bytes() const override { return logical_; }
    u32 physical_sector_bytes() const override { return physical_; }
    Result<void> read(u64 offset, std::span<u8> out) override;
    Result<void> write(u64 offset, std::span<const u8> data) override;
    Result<void> read_parts(u64 offset, Parts parts) override;
    Result<void> write_parts(u64 offset, Parts parts) override;
    Result<void> discard(u64 offset, u64 size) override;
    Result<void> flush() override;
    Result<void> settle() override;
    Result<void> for_each_unsaved(const VisitUnsaved& visit) override;
    std::string describe() const override { return device_ ? device_->describe() : "closed"; }

  private:
    void tell(DiskOperation operation, u64 offset, u64 size) const;
    std::shared_ptr<devices::BlockDevice> device_;
    DiskPlace place_;
    u64 size_bytes_;
    u32 logical_, physical_;
    bool read_only_;
};
/// Disks that are open already, by number, in place of the images that the tables name.
using DiskSource = std::function<std::shared_ptr<devices::BlockDevice>(std::size_t number)>;

/// Opens an image, creating its overlay if it is missing; errors name the table.
[[nodiscard]] Result<std::shared_ptr<devices::BlockDevice>> open_disk_file(const DiskSection& disk);
/// The same as the disk of a machine.
[[nodiscard]] Result<std::unique_ptr<MachineDisk>> open_disk_image(const DiskSection& disk, const DiskPlace& place);

}  // namespace vg::machine
