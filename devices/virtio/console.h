// A virtio console with one port (VIRTIO 1.2 §5.3).
#pragma once

#include <deque>

#include "devices/virtio/device.h"

namespace vg::devices {

class VirtioConsole final : public VirtioDevice {
  public:
    static constexpr std::size_t kInputBytes = 4096;  ///< what waits for the guest to read it
    static constexpr u32 kChainsPerEvent = 16;
    static constexpr u64 kMaxWrite = 64 << 10;  ///< of one chain; the rest of a longer one is dropped
    static constexpr u64 kNsPerByte = 100;

    /// @param output  takes what the guest writes
    VirtioConsole(const PciSlot& slot, EventQueue& events, std::function<void(u8)> output);

    /// Input for the guest: how many of the bytes there was room for. None without a driver.
    std::size_t receive(std::span<const u8> bytes);
    /// A driver has taken it over.
    [[nodiscard]] bool in_use() const { return running(); }

  private:
    static constexpr u32 kReceive = 0, kTransmit = 1;

    std::span<const u8> device_config() const override;
    VTime work() override;
    void reset_device() override { input_.clear(); }
    void device_fields(StateVisitor& v) override;

    std::function<void(u8)> output_;
    virtio::console::Config config_{80, 25, 1, 0};
    std::deque<u8> input_;
};

}  // namespace vg::devices
