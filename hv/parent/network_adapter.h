// A network adapter of the built-in parent: the network core between VMBus channels and a cable.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/events.h"
#include "devices/net/frame.h"
#include "hv/parent/due.h"
#include "hv/vmbus/channel.h"
#include "hv/vsp/network.h"

namespace vg::hv::parent {

/// When a message of `bytes` has been sent: a fixed latency plus the transfer at 10 Gbit/s. Virtual time.
constexpr VTime network_latency_ns(u32 bytes) { return 5'000 + u64{bytes} * 4 / 5; }

/// Offered through Server::offer; all calls on the machine's thread. Frames come in by receive(), between slices or on
/// the event queue; what the guest sends goes into the cable when its packet is taken from the ring.
class NetworkAdapter final : public vmbus::ChannelDevice, public devices::NetworkCard, private vsp::NetworkHost {
  public:
    /// Packets taken from a ring in one event; the rest comes in the next one.
    static constexpr u32 kPacketsPerEvent = 4096;
    static constexpr VTime kPause = 10'000;  ///< between two such events
    /// What a guest that does not listen is said to have room for: it is lost.
    static constexpr u64 kDeafRoom = 1 << 20;

    /// @param name              unique in the machine: it names the timer, and the guest's driver shows it
    /// @param max_sub_channels  0 for a single channel
    NetworkAdapter(std::string name, const devices::MacAddress& address, EventQueue& events, u16 max_sub_channels);
    ~NetworkAdapter() override;
    NetworkAdapter(const NetworkAdapter&) = delete;
    NetworkAdapter& operator=(const NetworkAdapter&) = delete;

    // ChannelDevice
    void opened(vmbus::Channel& channel) override;
    void signalled(vmbus::Channel& channel) override;
    void closed(vmbus::Channel& channel) override;
    void gpadl_torn_down(u32 gpadl) override { core_->buffer_gone(gpadl); }
    void restored(vmbus::Channel& channel) override;
    void fields(StateVisitor& v) override;

    // NetworkCard
    void receive(std::span<const u8> frame) override;
    [[nodiscard]] u64 receive_room() const override;
    void connect(devices::FrameSink& cable) override { cable_ = &cable; }

    /// Plugs the cable or pulls it; what a guest sends meanwhile is lost.
    void set_link(bool up) {
        link_ = up;
        core_->set_link(up);
    }
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const vsp::Network& core() const { return *core_; }

  private:
    /// A packet for the guest; `range` of transfer pages only.
    struct Outgoing {
        vmbus::PacketType type{};
        u64 transaction_id = 0;
        netvsc::TransferRange range{};
        std::span<const u8> payload;
    };
    /// One that found no room in the ring.
    struct Unsent {
        Outgoing packet;  ///< but its payload
        std::vector<u8> payload;
    };
    struct OpenChannel {
        vmbus::Channel* channel = nullptr;
        bool stalled = false;  ///< packets were left in the ring
        std::deque<Unsent> unsent;
    };

    // NetworkHost
    void complete(u32 channel, u64 transaction_id, std::span<const u8> payload) override;
    void send(u32 channel, std::span<const u8> payload) override;
    void indicate(u32 channel, u64 transaction_id, const netvsc::TransferRange& range,
                  std::span<const u8> payload) override;
    u64 buffer_size(u32 gpadl) override;
    bool read_buffer(u32 gpadl, u64 offset, std::span<u8> out) override;
    bool write_buffer(u32 gpadl, u64 offset, std::span<const u8> data) override;
    void show(u32 channel, bool to_guest, u64 transaction_id, std::span<const u8> messages) override;
    void transmit(const vsp::OutgoingFrame& frame) override;
    void schedule(u32 slot, u32 bytes) override;
    void offer_sub_channels(u16 count) override;

    void pump(OpenChannel& open);
    void take(OpenChannel& open, const vmbus::Packet& packet);
    void put(u32 channel, const Outgoing& packet);
    [[nodiscard]] static bool write(vmbus::Channel& channel, const Outgoing& packet);
    [[nodiscard]] bool send_unsent(OpenChannel& open);
    [[nodiscard]] vmbus::Channel* primary() const;
    [[nodiscard]] const vmbus::PageRange* find_buffer(u32 gpadl) const;
    template <class Access>
    [[nodiscard]] bool each_page(u32 gpadl, u64 offset, u64 size, Access&& access);
    void forget_due();
    void finish_due(VTime now);
    void arm();
    void channel_fields(StateVisitor& v);

    std::string name_;
    EventQueue& events_;
    std::unique_ptr<vsp::Network> core_;
    devices::FrameSink* cable_ = nullptr;
    bool link_ = true;
    u64 frames_out_ = 0;               ///< on the cable, segments counted
    std::map<u32, OpenChannel> open_;  ///< by relid
    std::set<Due> due_;                ///< at most kMaxInFlight
    u64 next_sequence_ = 1;
    EventQueue::TimerId timer_;
    vmbus::GpaRanges ranges_;
};

}  // namespace vg::hv::parent
