// Disk images of the host behind a controller.
#include "devices/storage/block_device.h"
#include "hv/parent/storage_controller.h"

namespace vg::hv::parent {

namespace {

/// Gives a block device to the core; what failed is said once in the log, the guest gets a medium error.
class DeviceBackend final : public vsp::BlockBackend {
  public:
    DeviceBackend(std::unique_ptr<devices::BlockDevice> device, Log& log) : device_(std::move(device)), log_(log) {}
    u64 size_bytes() const override { return device_->size_bytes(); }
    bool read_only() const override { return device_->read_only(); }
    u32 logical_sector_bytes() const override { return device_->logical_sector_bytes(); }
    u32 physical_sector_bytes() const override { return device_->physical_sector_bytes(); }
    bool read(u64 offset, std::span<u8> out) override { return check("read", offset, device_->read(offset, out)); }
    bool write(u64 offset, std::span<const u8> data) override {
        return check("write", offset, device_->write(offset, data));
    }
    bool read_parts(u64 offset, std::span<const std::span<u8>> parts) override {
        return check("read", offset, device_->read_parts(offset, parts));
    }
    bool write_parts(u64 offset, std::span<const std::span<u8>> parts) override {
        return check("write", offset, device_->write_parts(offset, parts));
    }
    bool discard(u64 offset, u64 size) override { return check("discard", offset, device_->discard(offset, size)); }
    bool flush() override { return check("flush", 0, device_->flush()); }

  private:
    bool check(const char* what, u64 offset, const Result<void>& result) {
        if (result) return true;
        if (complaints_.pass())
            log_.error(Area::Storage, "{}: {} at {:#x}: {}", device_->describe(), what, offset, result.error().text);
        return false;
    }
    std::unique_ptr<devices::BlockDevice> device_;
    Log& log_;
    RateLimit complaints_;
};

}  // namespace

Result<void> StorageController::attach(u8 path, u8 target, u8 lun, std::unique_ptr<devices::BlockDevice> device) {
    std::string description = device->describe();
    return attach(path, target, lun, std::make_unique<DeviceBackend>(std::move(device), log_), std::move(description));
}

}  // namespace vg::hv::parent
