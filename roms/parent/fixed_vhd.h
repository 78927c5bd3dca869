// A fixed VHD, in the member of an archive or on a whole disk.
#pragma once

#include "base/result.h"
#include "hv/vsp/block_backend.h"

namespace vg::parent {

/// The disk inside a fixed VHD: its bytes are the file's, the footer behind them is out of reach. Writes go to the file
/// in place. DEVIATION: the footer's time stamp stays when the disk is written, since nothing in the store can be the
/// parent of a differencing disk.
class FixedVhd final : public hv::vsp::BlockBackend {
  public:
    /// @param file  outlives the disk; its last 512 bytes are the footer
    /// Error (Damaged): not a VHD, a footer with a wrong checksum, another kind of VHD, or a size that is not the
    /// file's.
    static Result<FixedVhd> open(hv::vsp::BlockBackend& file);

    [[nodiscard]] u64 size_bytes() const override { return size_; }
    [[nodiscard]] bool read_only() const override { return file_->read_only(); }
    [[nodiscard]] u32 physical_sector_bytes() const override { return file_->physical_sector_bytes(); }
    [[nodiscard]] bool read(u64 offset, std::span<u8> out) override;
    [[nodiscard]] bool write(u64 offset, std::span<const u8> data) override;
    [[nodiscard]] bool discard(u64 offset, u64 size) override;
    [[nodiscard]] bool flush() override { return file_->flush(); }

  private:
    FixedVhd(hv::vsp::BlockBackend& file, u64 size) : file_(&file), size_(size) {}

    hv::vsp::BlockBackend* file_;
    u64 size_;
};

}  // namespace vg::parent
