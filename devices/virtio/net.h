// A virtio network device (VIRTIO 1.2 §5.1).
#pragma once

#include <deque>

#include "devices/net/frame.h"
#include "devices/virtio/device.h"

namespace vg::devices {

/// One pair of queues and a control queue. Transmit checksums are completed here; received frames fill as many buffers
/// as they need. No segmentation offload, no VLAN filter.
class VirtioNet final : public VirtioDevice, public NetworkCard {
  public:
    static constexpr u32 kFramesPerEvent = 16;
    static constexpr u64 kReceiveBufferBytes = 1 << 20;
    static constexpr u64 kBytesPerMicrosecond = 1250;  ///< 10 Gbit/s
    static constexpr u32 kMacTable = 64;               ///< unicast and multicast filters; more: all multicast pass

    /// @param index  which of the board's: names it and its timer
    VirtioNet(const PciSlot& slot, EventQueue& events, u32 index, const MacAddress& address);

    void receive(std::span<const u8> frame) override;
    [[nodiscard]] u64 receive_room() const override { return kReceiveBufferBytes - waiting_bytes_; }
    void connect(FrameSink& cable) override { cable_ = &cable; }

  private:
    static constexpr u32 kReceive = 0, kTransmit = 1, kControl = 2;

    struct State {
        MacAddress address{};
        bool promiscuous = false, all_multicast = false;
        std::vector<u8> table;  // addresses one behind another
    };

    std::span<const u8> device_config() const override;
    VTime work() override;
    void reset_device() override;
    void device_fields(StateVisitor& v) override;

    [[nodiscard]] u64 transmit_some();
    [[nodiscard]] u64 receive_some();
    /// False: no buffers for it at present.
    [[nodiscard]] bool deliver(const std::vector<u8>& frame);
    void send(const VirtioChain& chain);
    void run_control();
    [[nodiscard]] bool command(u8 kind, u8 code, std::span<const u8> data);
    [[nodiscard]] bool accepts(std::span<const u8> frame) const;

    MacAddress address_;
    FrameSink* cable_ = nullptr;
    State state_;
    std::array<u8, 8> config_{};
    std::deque<std::vector<u8>> waiting_;
    u64 waiting_bytes_ = 0;
};

}  // namespace vg::devices
