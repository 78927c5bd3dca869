#include "devices/virtio/net.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "devices/net/packet.h"

namespace vg::devices {

using namespace virtio::net;

namespace {

constexpr u64 kFeatures = kChecksum | kMac | kMergeBuffers | virtio::net::kStatus | kControlQueue | kControlReceive;
constexpr u64 kShortestFrame = 60;

}  // namespace

VirtioNet::VirtioNet(const PciSlot& slot, EventQueue& events, u32 index, const MacAddress& address)
    : VirtioDevice(slot, events, {fmt::format("virtio_net{}", index), virtio::kNetwork, 0x020000, kFeatures, 3}),
      address_(address) {
    state_.address = address;
    std::copy(address.begin(), address.end(), config_.begin());
    config_[6] = kLinkUp;
}

std::span<const u8> VirtioNet::device_config() const { return config_; }

void VirtioNet::reset_device() {
    state_ = State{};
    state_.address = address_;
    waiting_.clear();
    waiting_bytes_ = 0;
}

void VirtioNet::device_fields(StateVisitor& v) {
    v("address", state_.address);
    v("promiscuous", state_.promiscuous);
    v("all_multicast", state_.all_multicast);
    v("table", state_.table);
    VisitScope scope(v, "waiting");
    u32 frames = static_cast<u32>(waiting_.size());
    v("frames", frames, Fmt::Dec);
    if (v.loading()) waiting_.resize(std::min<u64>(frames, kReceiveBufferBytes / kShortestFrame));
    u64 total = 0;
    for (std::vector<u8>& frame : waiting_) {
        u32 bytes = static_cast<u32>(frame.size());
        v("bytes", bytes, Fmt::Dec);
        if (v.loading()) frame.resize(std::clamp<u64>(bytes, kShortestFrame, kMaxFrameBytes));
        v.bytes("frame", frame);
        total += frame.size();
    }
    if (!v.loading()) return;
    for (; total > kReceiveBufferBytes; waiting_.pop_back()) total -= waiting_.back().size();
    waiting_bytes_ = total;
    if (state_.table.size() > kMacTable * sizeof(MacAddress) || state_.table.size() % sizeof(MacAddress) != 0)
        state_.table.clear();
}

// ---- From the cable

bool VirtioNet::accepts(std::span<const u8> frame) const {
    if (state_.promiscuous) return true;
    const bool group = (frame[0] & 1) != 0;
    const auto is = [&](const u8* address) { return std::memcmp(frame.data(), address, sizeof(MacAddress)) == 0; };
    constexpr MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    if (is(kBroadcast.data()) || (group && state_.all_multicast) || is(state_.address.data())) return true;
    for (std::size_t at = 0; at < state_.table.size(); at += sizeof(MacAddress))
        if (is(&state_.table[at])) return true;
    return false;
}

void VirtioNet::receive(std::span<const u8> frame) {
    if (!running() || frame.size() < kEthernetHeaderBytes || !accepts(frame)) return;
    const u64 bytes = std::max<u64>(frame.size(), kShortestFrame);
    if (bytes > receive_room()) return;
    waiting_.emplace_back(frame.begin(), frame.end()).resize(bytes);
    waiting_bytes_ += bytes;
    wake();
}

bool VirtioNet::deliver(const std::vector<u8>& frame) {
    // As many chains as it takes, given back together: the first says how many they are (§5.1.6.4).
    std::vector<std::pair<VirtioChain, u64>> chains;  // and how many bytes in each
    u64 room = 0;
    const u64 bytes = sizeof(Header) + frame.size();
    while (room < bytes && (chains.empty() || has(kMergeBuffers))) {
        auto chain = take(kReceive);
        if (!chain) break;
        room += chain->writable_bytes;
        const u64 here = chain->writable_bytes;
        chains.emplace_back(std::move(*chain), here);
        if (here == 0 || chains.size() == VirtioQueue::kMaxSize) break;
    }
    if (chains.empty()) return false;
    if (room < bytes) {
        // Buffers that are still to come: wait for them. One that can never be enough: the frame is lost.
        if (has(kMergeBuffers) && chains.back().second != 0 && chains.size() < VirtioQueue::kMaxSize) {
            for (std::size_t i = 0; i < chains.size(); ++i) untake(kReceive);
            return false;
        }
        for (const auto& [chain, size] : chains) give_back(kReceive, chain, 0);
        return true;
    }
    std::vector<u8> whole(bytes);
    const Header header{.flags = 0,
                        .gso_type = kNoSegmentation,
                        .header_bytes = 0,
                        .gso_size = 0,
                        .checksum_start = 0,
                        .checksum_offset = 0,
                        .buffers = static_cast<u16>(chains.size())};
    std::memcpy(whole.data(), &header, sizeof header);
    std::copy(frame.begin(), frame.end(), whole.begin() + sizeof header);
    u64 done = 0;
    for (auto& [chain, size] : chains) {
        const u64 count = std::min(size, bytes - done);
        if (!chain.write(dma(), 0, std::span(whole).subspan(done, count))) {
            broken();
            return true;
        }
        size = count;
        done += count;
    }
    for (const auto& [chain, size] : chains) give_back(kReceive, chain, static_cast<u32>(size));
    return true;
}

u64 VirtioNet::receive_some() {
    u64 bytes = 0;
    for (u32 i = 0; i < kFramesPerEvent && !waiting_.empty() && running(); ++i) {
        if (!deliver(waiting_.front())) break;
        bytes += waiting_.front().size();
        waiting_bytes_ -= waiting_.front().size();
        waiting_.pop_front();
    }
    return bytes;
}

// ---- To the cable

void VirtioNet::send(const VirtioChain& chain) {
    if (chain.readable_bytes < sizeof(Header) + kEthernetHeaderBytes ||
        chain.readable_bytes > sizeof(Header) + kMaxFrameBytes) {
        return;  // no frame
    }
    std::vector<u8> whole(chain.readable_bytes);
    if (!chain.read(dma(), 0, whole)) return broken();
    Header header{};
    std::memcpy(&header, whole.data(), sizeof header);
    const std::span<u8> frame = std::span(whole).subspan(sizeof header);
    const u64 start = header.checksum_start, place = start + header.checksum_offset;
    if ((header.flags & kNeedsChecksum) != 0 && has(kChecksum) && start < frame.size() &&
        fits(place, 2, frame.size())) {
        // The field holds the pseudo header's sum (§5.1.6.2).
        const u16 sum = static_cast<u16>(~ones_sum(frame.subspan(start)));
        write_be16(frame, place, sum);
    }
    if (header.gso_type != kNoSegmentation) return;  // was not offered
    if (cable_ != nullptr) cable_->put(frame);
}

u64 VirtioNet::transmit_some() {
    u64 bytes = 0;
    for (u32 i = 0; i < kFramesPerEvent && running(); ++i) {
        const auto chain = take(kTransmit);
        if (!chain) break;
        send(*chain);
        if (!running()) break;
        bytes += chain->readable_bytes;
        give_back(kTransmit, *chain, 0);
    }
    return bytes;
}

VTime VirtioNet::work() {
    run_control();
    const u64 bytes = transmit_some() + receive_some();
    if (bytes == 0) return kNever;
    return events().now() + kLatency + bytes * 1000 / kBytesPerMicrosecond;
}

// ---- Control

void VirtioNet::run_control() {
    constexpr u64 kMaxCommand = 64 << 10;
    for (u32 i = 0; i < VirtioQueue::kMaxSize && running(); ++i) {
        const auto chain = take(kControl);
        if (!chain) return;
        std::vector<u8> bytes(std::min(chain->readable_bytes, kMaxCommand));
        const bool read = bytes.size() >= 2 && chain->read(dma(), 0, bytes);
        const u8 answer = read && command(bytes[0], bytes[1], std::span(bytes).subspan(2)) ? kControlOk : kControlError;
        const bool written = chain->writable_bytes != 0 && chain->write(dma(), 0, std::span(&answer, 1));
        give_back(kControl, *chain, written ? 1 : 0);
    }
}

bool VirtioNet::command(u8 kind, u8 code, std::span<const u8> data) {
    if (kind == kClassReceive && code <= kAllMulticast && data.size() == 1) {
        (code == kPromiscuous ? state_.promiscuous : state_.all_multicast) = data[0] != 0;
        return true;
    }
    if (kind != kClassMac || code != virtio::net::kMacTable) return false;
    // Two tables: unicast, multicast; a count and that many addresses each.
    std::vector<u8> table;
    for (u32 which = 0; which < 2; ++which) {
        u32 count = 0;
        if (data.size() < sizeof count) return false;
        std::memcpy(&count, data.data(), sizeof count);
        data = data.subspan(sizeof count);
        if (count > data.size() / sizeof(MacAddress)) return false;
        const u64 bytes = u64{count} * sizeof(MacAddress);
        table.insert(table.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(bytes));
        data = data.subspan(bytes);
    }
    if (table.size() > VirtioNet::kMacTable * sizeof(MacAddress)) return false;
    state_.table = std::move(table);
    return true;
}

}  // namespace vg::devices
