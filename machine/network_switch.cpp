#include "machine/network_switch.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/state.h"

namespace vg::machine {

namespace {

/// At 10 Gbit/s.
constexpr VTime wire_ns(u64 bytes) { return bytes * 4 / 5; }

devices::MacAddress address_at(std::span<const u8> frame, std::size_t at) {
    devices::MacAddress address{};
    std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(at), address.size(), address.begin());
    return address;
}

}  // namespace

NetworkSwitch::NetworkSwitch(std::string name, EventQueue& events)
    : name_(std::move(name)),
      events_(events),
      timer_(events.add("switch/" + name_, [this](VTime due) { deliver_due(due); })) {}

NetworkSwitch::~NetworkSwitch() { events_.cancel(timer_); }

u32 NetworkSwitch::add_port(Deliver deliver) {
    ports_.push_back(std::move(deliver));
    return static_cast<u32>(ports_.size() - 1);
}

void NetworkSwitch::put(u32 port, std::span<const u8> frame) {
    if (frame.size() < devices::kEthernetHeaderBytes || frame.size() > devices::kMaxFrameBytes) return;
    if (frame.size() > kQueueBytes - frame_bytes_) {
        ++lost_;
        return;
    }
    const VTime before = frames_.empty() ? 0 : frames_.back().when;  // none overtakes another
    const VTime when = std::max(events_.now() + kLatency_ns, before) + wire_ns(frame.size());
    frames_.push_back({when, port, {frame.begin(), frame.end()}});
    frame_bytes_ += frame.size();
    if (!events_.armed(timer_)) events_.arm(timer_, when);
}

void NetworkSwitch::deliver_due(VTime now) {
    while (!frames_.empty() && frames_.front().when <= now) {
        const Frame frame = std::move(frames_.front());
        frames_.pop_front();
        frame_bytes_ -= frame.bytes.size();
        forward(frame);
    }
    if (!frames_.empty()) events_.arm(timer_, frames_.front().when);
}

void NetworkSwitch::forward(const Frame& frame) {
    constexpr u8 kGroup = 1;
    const devices::MacAddress to = address_at(frame.bytes, 0), from = address_at(frame.bytes, 6);
    if ((from[0] & kGroup) == 0) {
        if (addresses_.size() >= kMaxAddresses && !addresses_.contains(from)) addresses_.clear();
        addresses_[from] = frame.port;
    }
    const auto known = addresses_.find(to);
    if (known != addresses_.end()) {
        ++forwarded_;
        if (known->second != frame.port) ports_[known->second](frame.bytes);
        return;
    }
    ++flooded_;
    for (u32 port = 0; port < ports_.size(); ++port) {
        if (port != frame.port) ports_[port](frame.bytes);
    }
}

/// The timer itself is the event queue's.
void NetworkSwitch::fields(StateVisitor& v) {
    v("forwarded", forwarded_, Fmt::Dec);
    v("flooded", flooded_, Fmt::Dec);
    v("lost", lost_, Fmt::Dec);
    std::vector<std::pair<devices::MacAddress, u32>> known(addresses_.begin(), addresses_.end());
    u32 count = static_cast<u32>(known.size());
    v("addresses", count, Fmt::Dec);
    if (v.loading()) known.assign(std::min<std::size_t>(count, kMaxAddresses), {});
    for (std::size_t i = 0; i < known.size(); ++i) {
        const VisitScope each(v, fmt::format("address{}", i));
        v("address", known[i].first);
        v("port", known[i].second, Fmt::Dec);
    }
    count = static_cast<u32>(frames_.size());
    v("frames", count, Fmt::Dec);
    if (v.loading()) frames_.assign(std::min<std::size_t>(count, kQueueBytes / devices::kEthernetHeaderBytes), {});
    for (std::size_t i = 0; i < frames_.size(); ++i) {
        const VisitScope each(v, fmt::format("frame{}", i));
        v("when", frames_[i].when, Fmt::Dec);
        v("port", frames_[i].port, Fmt::Dec);
        v("bytes", frames_[i].bytes, devices::kMaxFrameBytes);
    }
    if (!v.loading()) return;
    addresses_.clear();
    for (const auto& [address, port] : known) {
        if (port < ports_.size()) addresses_[address] = port;
    }
    std::erase_if(frames_, [](const Frame& frame) { return frame.bytes.size() < devices::kEthernetHeaderBytes; });
    frame_bytes_ = 0;
    for (const Frame& frame : frames_) frame_bytes_ += frame.bytes.size();
}

}  // namespace vg::machine
