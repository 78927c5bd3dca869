// A part of a disk that looks like a disk.
#pragma once

#include "base/bits.h"
#include "hv/vsp/block_backend.h"

namespace vg::parent {

/// [offset, offset + size) of another backend, which outlives it; both are multiples of 512 within that backend.
/// Accesses that leave the window fail and touch nothing.
class BlockWindow final : public hv::vsp::BlockBackend {
  public:
    BlockWindow(hv::vsp::BlockBackend& disk, u64 offset, u64 size) : disk_(&disk), offset_(offset), size_(size) {}

    [[nodiscard]] u64 size_bytes() const override { return size_; }
    [[nodiscard]] bool read_only() const override { return disk_->read_only(); }
    [[nodiscard]] u32 physical_sector_bytes() const override { return disk_->physical_sector_bytes(); }
    [[nodiscard]] bool read(u64 offset, std::span<u8> out) override {
        return fits(offset, out.size(), size_) && disk_->read(offset_ + offset, out);
    }
    [[nodiscard]] bool write(u64 offset, std::span<const u8> data) override {
        return fits(offset, data.size(), size_) && disk_->write(offset_ + offset, data);
    }
    [[nodiscard]] bool discard(u64 offset, u64 size) override {
        return fits(offset, size, size_) && disk_->discard(offset_ + offset, size);
    }
    [[nodiscard]] bool flush() override { return disk_->flush(); }

  private:
    hv::vsp::BlockBackend* disk_;
    u64 offset_, size_;
};

}  // namespace vg::parent
