#include "devices/storage/raw_image.h"

#include <fmt/format.h>

#include "base/bits.h"

namespace vg::devices {

namespace {

class RawImage final : public BlockDevice {
  public:
    explicit RawImage(std::unique_ptr<BlockFile> file) : file_(std::move(file)), size_(file_->size()) {}

    [[nodiscard]] u64 size_bytes() const override { return size_; }
    [[nodiscard]] bool read_only() const override { return !file_->writable(); }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override {
        if (auto checked = check_range(*this, offset, out.size()); !checked) return checked;
        return file_->read(offset, out);
    }
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> data) override {
        if (auto checked = check_writable(*this, offset, data.size()); !checked) return checked;
        return file_->write(offset, data);
    }
    [[nodiscard]] Result<void> read_parts(u64 offset, Parts parts) override {
        if (auto checked = check_range(*this, offset, size_of(parts)); !checked) return checked;
        return file_->read_parts(offset, parts);
    }
    [[nodiscard]] Result<void> write_parts(u64 offset, Parts parts) override {
        if (auto checked = check_writable(*this, offset, size_of(parts)); !checked) return checked;
        return file_->write_parts(offset, parts);
    }
    [[nodiscard]] Result<void> discard(u64 offset, u64 size) override {
        if (auto checked = check_writable(*this, offset, size); !checked || size == 0) return checked;
        return file_->zero(offset, size);
    }
    [[nodiscard]] Result<void> flush() override {
        if (read_only()) return {};
        return file_->sync();
    }
    [[nodiscard]] std::string describe() const override { return fmt::format("raw ({})", file_->name()); }

  private:
    std::unique_ptr<BlockFile> file_;
    u64 size_;
};

}  // namespace

Result<void> check_range(const BlockDevice& device, u64 offset, u64 size) {
    if (offset % kSectorBytes == 0 && size % kSectorBytes == 0 && fits(offset, size, device.size_bytes())) return {};
    return fail(Error::Code::Internal,
                fmt::format("{}: request for {} bytes at byte {} is not whole sectors inside the "
                            "disk's {} bytes",
                            device.describe(), size, offset, device.size_bytes()));
}

Result<void> check_writable(const BlockDevice& device, u64 offset, u64 size) {
    if (device.read_only()) return fail(Error::Code::Usage, fmt::format("{}: is open read-only", device.describe()));
    return check_range(device, offset, size);
}

Result<std::unique_ptr<BlockDevice>> open_raw(std::unique_ptr<BlockFile> file) {
    const u64 size = file->size();
    if (size == 0 || size % kSectorBytes != 0) {
        return fail(
            Error::Code::Usage,
            fmt::format("{}: a raw image of {} bytes is not a whole number of 512-byte sectors; if it is another "
                        "format, name it, else pad it with: truncate -s %512 {}",
                        file->name(), size, file->name()));
    }
    return std::unique_ptr<BlockDevice>(std::make_unique<RawImage>(std::move(file)));
}

}  // namespace vg::devices
