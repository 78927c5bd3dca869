#include "machine/network.h"

#include <algorithm>

#include "base/assert.h"
#include "base/tap.h"
#include "devices/net/user_network.h"

namespace vg::machine {

void Network::Cable::record(bool to_guest, std::span<const u8> frame) {
    if (capture_ != nullptr) capture_->write(network_.events_.now(), frame);
    if (Tap& tap = network_.log_.tap(); tap.wants(TapKind::Frame))
        tap.tell({TapKind::Frame, 0, TapEvent::kNoVp, {number_, to_guest ? u64{1} : u64{0}}, frame});
}

void Network::Cable::put(std::span<const u8> frame) {
    record(false, frame);
    if (backend_ == nullptr) return;
    backend_->put(frame);
    if (network_.on_sent_) network_.on_sent_();
}

Result<void> Network::connect(devices::NetworkCard& card, const NicSection& section, u64 start_unix_seconds) {
    auto cable = std::make_unique<Cable>(*this, cables_.size(), card);
    if (section.backend == "slirp") {
        devices::UserNetwork::Options options;
        options.host_access = section.host_access;
        for (const std::string& text : section.hostfwd) {
            const auto forward = devices::parse_host_forward(text);
            if (!forward) return Unexpected{forward.error().in(section.at.text("hostfwd"))};
            options.forwards.push_back(*forward);
        }
        auto network = devices::UserNetwork::create(events_.clock(), options);
        if (!network) return Unexpected{network.error().in(section.at.text("hostfwd"))};
        cable->backend_ = std::move(*network);
    }
    if (!section.pcap.empty()) {
        auto capture = devices::PcapFile::create(section.pcap, start_unix_seconds);
        if (!capture) return Unexpected{capture.error().in(section.at.text("pcap"))};
        cable->capture_ = std::move(*capture);
    }
    card.connect(*cable);
    cables_.push_back(std::move(cable));
    return {};
}

bool Network::reaches_host() const {
    return std::any_of(cables_.begin(), cables_.end(), [](const auto& cable) { return cable->backend_ != nullptr; });
}

bool Network::exchange(int wait_ms) {
    /// What a back end delivers, on its way through the door.
    class Door final : public devices::FrameSink {
      public:
        Door(Network& network, std::size_t card) : network_(network), card_(card) {}
        void put(std::span<const u8> frame) override {
            network_.receive(card_, frame);
            used_ = true;
        }
        [[nodiscard]] bool used() const { return used_; }

      private:
        Network& network_;
        std::size_t card_;
        bool used_ = false;
    };
    bool any = false;
    for (std::size_t i = 0; i < cables_.size(); ++i) {
        Cable& cable = *cables_[i];
        if (cable.backend_ == nullptr) continue;
        Door door(*this, i);
        cable.backend_->exchange(any ? 0 : wait_ms, cable.card_.receive_room(), door);
        any = any || door.used();
    }
    return any;
}

void Network::receive(std::size_t card, std::span<const u8> frame) {
    VG_ASSERT(card < cables_.size());
    Cable& cable = *cables_[card];
    cable.record(true, frame);
    if (on_received_) on_received_(card, frame);
    cable.card_.receive(frame);
}

Result<void> Network::flush() {
    Result<void> first;
    for (const auto& cable : cables_) {
        if (cable->capture_ == nullptr) continue;
        if (auto ok = cable->capture_->flush(); !ok && first) first = ok;
    }
    return first;
}

}  // namespace vg::machine
