// The cables of the machine's network cards: what each is connected to, what is recorded of it, and the door through
// which frames come in.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "devices/net/net_backend.h"
#include "devices/net/pcap_file.h"
#include "machine/config.h"

namespace vg::machine {

/// Cables in the order of the configuration.
class Network {
  public:
    Network(EventQueue& events, Log& log) : events_(events), log_(log) {}

    /// Connects a card as its section says. Writes its capture file, so it comes when nothing else can fail.
    /// Error (Usage, Host): a file that cannot be written, a port that is taken.
    Result<void> connect(devices::NetworkCard& card, const NicSection& section, u64 start_unix_seconds);

    /// Whether any card reaches the host.
    [[nodiscard]] bool reaches_host() const;
    /// Told when a guest has sent a frame to the host, inside the machine's events.
    void on_sent(std::function<void()> observer) { on_sent_ = std::move(observer); }
    /// Hands frames to the host and its frames to the cards, by receive(). Between slices. True if a card got one.
    /// @param wait_ms  how long to wait if the host has nothing
    bool exchange(int wait_ms);
    /// The one way for frames into a card: now, in virtual time. With the configuration and the images, the sequence of
    /// these calls decides what a run does. `card` counts in the order of the configuration.
    void receive(std::size_t card, std::span<const u8> frame);
    /// Told of every frame that comes in.
    void on_received(std::function<void(std::size_t card, std::span<const u8> frame)> observer) {
        on_received_ = std::move(observer);
    }
    [[nodiscard]] std::size_t size() const { return cables_.size(); }
    [[nodiscard]] Result<void> flush();

  private:
    /// One card's cable; what the card sends goes in by put().
    class Cable final : public devices::FrameSink {
      public:
        Cable(Network& network, std::size_t number, devices::NetworkCard& card)
            : network_(network), number_(number), card_(card) {}
        void put(std::span<const u8> frame) override;

        /// A frame passes.
        void record(bool to_guest, std::span<const u8> frame);

        Network& network_;
        std::size_t number_;
        devices::NetworkCard& card_;
        std::unique_ptr<devices::NetBackend> backend_;
        std::unique_ptr<devices::PcapFile> capture_;
    };

    EventQueue& events_;
    Log& log_;
    std::vector<std::unique_ptr<Cable>> cables_;
    std::function<void()> on_sent_;
    std::function<void(std::size_t, std::span<const u8>)> on_received_;
};

}  // namespace vg::machine
