#include "machine/network.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "base/state.h"
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
    if (switch_ != nullptr) switch_->put(switch_port_, frame);
    if (backend_ == nullptr) return;
    backend_->put(frame);
    if (network_.on_sent_) network_.on_sent_();
}

void Network::Cable::deliver(std::span<const u8> frame) {
    record(true, frame);
    card_.receive(frame);
}

Network::~Network() {
    for (const auto& cable : cables_) {
        if (cable->frame_timer_) events_.cancel(*cable->frame_timer_);
    }
}

Result<void> Network::connect(devices::NetworkCard& card, const NicSection& section, u64 start_unix_seconds) {
    auto cable = std::make_unique<Cable>(*this, cables_.size(), card);
    if (section.backend == "slirp") {
        if (auto ok = connect_slirp(*cable, section); !ok) return ok;
    } else if (section.backend == "pcap") {
        if (auto ok = connect_frames(*cable, section, start_unix_seconds); !ok) return ok;
    } else if (section.backend == "switch") {
        connect_switch(*cable, section.switch_name);
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

Result<void> Network::connect_slirp(Cable& cable, const NicSection& section) {
    devices::UserNetwork::Options options;
    options.host_access = section.host_access;
    for (const std::string& text : section.hostfwd) {
        const auto forward = devices::parse_host_forward(text);
        if (!forward) return Unexpected{forward.error().in(section.at.text("hostfwd"))};
        options.forwards.push_back(*forward);
    }
    auto network = devices::UserNetwork::create(events_.clock(), options);
    if (!network) return Unexpected{network.error().in(section.at.text("hostfwd"))};
    cable.backend_ = std::move(*network);
    return {};
}

/// The file is a part of the machine, like a disk's image: its frames come on the event queue, not through the door.
Result<void> Network::connect_frames(Cable& cable, const NicSection& section, u64 start_unix_seconds) {
    auto frames = devices::read_frames(section.frames, start_unix_seconds);
    if (!frames) return Unexpected{frames.error().in(section.at.text("frames"))};
    cable.frames_ = std::move(*frames);
    cable.frame_timer_ = events_.add(fmt::format("nic{}/frames", cable.number_),
                                     [this, played = &cable](VTime due) { play(*played, due); });
    if (!cable.frames_.empty()) events_.arm(*cable.frame_timer_, cable.frames_.front().when);
    return {};
}

void Network::play(Cable& cable, VTime now) {
    while (cable.next_frame_ < cable.frames_.size() && cable.frames_[cable.next_frame_].when <= now)
        cable.deliver(cable.frames_[cable.next_frame_++].bytes);
    if (cable.next_frame_ < cable.frames_.size()) events_.arm(*cable.frame_timer_, cable.frames_[cable.next_frame_].when);
}

void Network::connect_switch(Cable& cable, const std::string& name) {
    const auto there =
        std::find_if(switches_.begin(), switches_.end(), [&](const auto& each) { return each->name() == name; });
    if (there != switches_.end()) {
        cable.switch_ = there->get();
    } else {
        switches_.push_back(std::make_unique<NetworkSwitch>(name, events_));
        cable.switch_ = switches_.back().get();
    }
    cable.switch_port_ = cable.switch_->add_port([to = &cable](std::span<const u8> frame) { to->deliver(frame); });
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

bool Network::owns(EventQueue::TimerId timer) const {
    return std::ranges::any_of(switches_, [timer](const auto& each) { return each->timer() == timer; });
}

Result<void> Network::flush() {
    Result<void> first;
    for (const auto& cable : cables_) {
        if (cable->capture_ == nullptr) continue;
        if (auto ok = cable->capture_->flush(); !ok && first) first = ok;
    }
    return first;
}

bool Network::has_state() const {
    return !switches_.empty() ||
           std::any_of(cables_.begin(), cables_.end(), [](const auto& cable) { return cable->frame_timer_.has_value(); });
}

void Network::fields(StateVisitor& v) {
    for (const auto& each : switches_) {
        const VisitScope scope(v, "switch_" + each->name());
        each->fields(v);
    }
    for (const auto& cable : cables_) {
        if (!cable->frame_timer_) continue;
        const VisitScope scope(v, fmt::format("nic{}", cable->number_));
        v("next_frame", cable->next_frame_, Fmt::Dec);
        if (v.loading()) cable->next_frame_ = std::min<u64>(cable->next_frame_, cable->frames_.size());
    }
}

}  // namespace vg::machine
