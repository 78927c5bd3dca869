// The cables of the machine's network cards: what each is connected to, what is recorded of it, and the door through
// which frames come in from outside.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "devices/net/net_backend.h"
#include "devices/net/pcap_file.h"
#include "devices/net/pcap_frames.h"
#include "machine/config.h"
#include "machine/network_switch.h"

namespace vg::machine {

/// Cables in the order of the configuration.
class Network {
  public:
    Network(EventQueue& events, Log& log) : events_(events), log_(log) {}
    ~Network();
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

    /// Connects a card as its section says. Writes its capture file, so it comes when nothing else can fail.
    /// Error (Usage, Host): a file that cannot be read or written, a port that is taken.
    Result<void> connect(devices::NetworkCard& card, const NicSection& section, u64 start_unix_seconds);

    /// Whether any card reaches the host.
    [[nodiscard]] bool reaches_host() const;
    /// Told when a guest has sent a frame to the host, inside the machine's events.
    void on_sent(std::function<void()> observer) { on_sent_ = std::move(observer); }
    /// Hands frames to the host and its frames to the cards, by receive(). Between slices. True if a card got one.
    /// @param wait_ms  how long to wait if the host has nothing
    bool exchange(int wait_ms);
    /// The one way for frames from outside into a card: now, in virtual time. With the configuration and the images, the
    /// sequence of these calls decides what a run does. `card` counts in the order of the configuration.
    void receive(std::size_t card, std::span<const u8> frame);
    /// Told of every frame that comes in from outside.
    void on_received(std::function<void(std::size_t card, std::span<const u8> frame)> observer) {
        on_received_ = std::move(observer);
    }
    [[nodiscard]] std::size_t size() const { return cables_.size(); }
    /// The timer is a switch's.
    [[nodiscard]] bool owns(EventQueue::TimerId timer) const;
    [[nodiscard]] Result<void> flush();

    /// Whether there is anything in fields(): frames on their way inside the machine.
    [[nodiscard]] bool has_state() const;
    void fields(StateVisitor& v);

  private:
    /// One card's cable; what the card sends goes in by put().
    class Cable final : public devices::FrameSink {
      public:
        Cable(Network& network, std::size_t number, devices::NetworkCard& card)
            : network_(network), number_(number), card_(card) {}
        void put(std::span<const u8> frame) override;

        /// A frame passes.
        void record(bool to_guest, std::span<const u8> frame);
        /// A frame from inside the machine reaches the card.
        void deliver(std::span<const u8> frame);

        Network& network_;
        std::size_t number_;
        devices::NetworkCard& card_;
        std::unique_ptr<devices::NetBackend> backend_;
        std::unique_ptr<devices::PcapFile> capture_;
        NetworkSwitch* switch_ = nullptr;
        u32 switch_port_ = 0;
        std::vector<devices::TimedFrame> frames_;  ///< of a capture file
        u64 next_frame_ = 0;
        std::optional<EventQueue::TimerId> frame_timer_;
    };

    Result<void> connect_slirp(Cable& cable, const NicSection& section);
    Result<void> connect_frames(Cable& cable, const NicSection& section, u64 start_unix_seconds);
    void connect_switch(Cable& cable, const std::string& name);
    void play(Cable& cable, VTime now);

    EventQueue& events_;
    Log& log_;
    std::vector<std::unique_ptr<NetworkSwitch>> switches_;
    std::vector<std::unique_ptr<Cable>> cables_;
    std::function<void()> on_sent_;
    std::function<void(std::size_t, std::span<const u8>)> on_received_;
};

}  // namespace vg::machine
