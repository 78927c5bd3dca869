// A virtio block device (VIRTIO 1.2 §5.2).
#pragma once

#include <memory>

#include "devices/storage/block_device.h"
#include "devices/virtio/device.h"

namespace vg::devices {

/// One request queue; one request per event, which takes the time of its data.
class VirtioBlock final : public VirtioDevice {
  public:
    static constexpr u32 kSegments = 254, kSegmentBytes = 64 << 10;
    static constexpr u64 kMaxTransfer = u64{kSegments} * kSegmentBytes;
    static constexpr u64 kBytesPerMicrosecond = 3000;

    /// @param index  which of the board's: names it, its timer and its serial number
    VirtioBlock(const PciSlot& slot, EventQueue& events, u32 index);
    /// The medium, once, before the machine runs. Without it there are no sectors.
    void attach(std::unique_ptr<BlockDevice> medium);

  private:
    static constexpr u64 kSector = 512;
    static constexpr u32 kMaxRanges = 16;            ///< of a discard
    static constexpr u32 kMaxZeroSectors = 1 << 15;  ///< 16 MiB

    struct Answer {
        u8 status = virtio::block::kOk;
        u64 written = 0;  ///< bytes in front of the status
        u64 moved = 0;
    };
    std::span<const u8> device_config() const override;
    VTime work() override;
    void reset_device() override {}
    void device_fields(StateVisitor&) override {}

    Answer execute(const VirtioChain& chain);
    Answer read(const VirtioChain& chain, u64 sector);
    Answer write(const VirtioChain& chain, u64 sector);
    Answer clear(const VirtioChain& chain, bool zeroes);
    [[nodiscard]] u64 sectors() const { return medium_ != nullptr ? medium_->size_bytes() / kSector : 0; }

    std::string serial_;
    std::unique_ptr<BlockDevice> medium_;
    virtio::block::Config config_{};
};

}  // namespace vg::devices
