// Packet builders for the network core, and a world around it that records its effects.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "hv/spec/netvsc.h"
#include "hv/spec/rndis.h"
#include "hv/vsp/network.h"

namespace vg::test {

namespace netvsc = hv::netvsc;
namespace rndis = hv::rndis;
namespace vsp = hv::vsp;

using Bytes = std::vector<u8>;

template <class T>
void append(Bytes& to, const T& value) {
    const auto* const from = reinterpret_cast<const u8*>(&value);
    to.insert(to.end(), from, from + sizeof value);
}
template <class T>
T read_at(std::span<const u8> bytes, std::size_t at) {
    T value{};
    if (at + sizeof value <= bytes.size()) std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
}

/// GPADLs and what the core does.
class NetworkWorld final : public vsp::NetworkHost {
  public:
    struct Completion {
        u32 channel;
        u64 transaction_id;
        Bytes payload;
    };
    struct Indication {
        u32 channel;
        u64 transaction_id;
        netvsc::TransferRange range;
        u32 channel_type;
        Bytes message;  ///< out of the receive buffer
    };
    struct Sent {
        Bytes bytes;
        bool ip, tcp, udp;
        u32 segment_bytes;
    };

    void complete(u32 channel, u64 transaction_id, std::span<const u8> payload) override {
        completions.push_back({channel, transaction_id, {payload.begin(), payload.end()}});
    }
    void send(u32 channel, std::span<const u8> payload) override {
        sends.emplace_back(channel, Bytes(payload.begin(), payload.end()));
    }
    void indicate(u32 channel, u64 transaction_id, const netvsc::TransferRange& range,
                  std::span<const u8> payload) override {
        Bytes message(range.byte_count);
        readable &= read_buffer(receive_gpadl, range.byte_offset, message);
        indications.push_back({channel, transaction_id, range, read_at<u32>(payload, 4), std::move(message)});
    }
    u64 buffer_size(u32 gpadl) override { return buffers.contains(gpadl) ? buffers[gpadl].size() : 0; }
    bool read_buffer(u32 gpadl, u64 offset, std::span<u8> out) override {
        if (!inside(gpadl, offset, out.size())) return false;
        std::copy_n(buffers[gpadl].begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
        return true;
    }
    bool write_buffer(u32 gpadl, u64 offset, std::span<const u8> data) override {
        if (!inside(gpadl, offset, data.size())) return false;
        std::copy(data.begin(), data.end(), buffers[gpadl].begin() + static_cast<std::ptrdiff_t>(offset));
        ++writes;
        return true;
    }
    void show(u32, bool, u64, std::span<const u8> messages) override { shown += messages.size(); }
    void transmit(const vsp::OutgoingFrame& frame) override {
        sent.push_back({{frame.bytes.begin(), frame.bytes.end()},
                        frame.ip_checksum,
                        frame.tcp_checksum,
                        frame.udp_checksum,
                        frame.segment_bytes});
    }
    void schedule(u32 slot, u32 bytes) override { scheduled.emplace_back(slot, bytes); }
    void offer_sub_channels(u16 count) override { sub_channels.push_back(count); }

    std::map<u32, Bytes> buffers;
    u32 receive_gpadl = 1;
    std::vector<Completion> completions;
    std::vector<std::pair<u32, Bytes>> sends;
    std::vector<Indication> indications;
    std::vector<Sent> sent;
    std::deque<std::pair<u32, u32>> scheduled;
    std::vector<u16> sub_channels;
    u64 writes = 0, shown = 0;
    bool readable = true;
    bool failing = false;  ///< the guest's pages are not memory

  private:
    bool inside(u32 gpadl, u64 offset, u64 size) {
        const auto it = buffers.find(gpadl);
        return !failing && it != buffers.end() && offset <= it->second.size() && size <= it->second.size() - offset;
    }
};

/// Pages of a packet.
class PacketData final : public vsp::GuestData {
  public:
    explicit PacketData(Bytes content) : bytes(std::move(content)) {}
    u64 size() const override { return pretended != 0 ? pretended : bytes.size(); }
    bool read(u64 offset, std::span<u8> out) override {
        if (missing || offset > bytes.size() || out.size() > bytes.size() - offset) return false;
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
        ++reads;
        return true;
    }
    bool write(u64, std::span<const u8>) override { return false; }
    Bytes bytes;
    u64 pretended = 0;
    bool missing = false;
    u32 reads = 0;
};

// ---- NVSP

inline netvsc::Message nvsp(netvsc::MessageType type) {
    netvsc::Message message{};
    message.type = static_cast<u32>(type);
    return message;
}
inline netvsc::Message nvsp_init(u32 min_version, u32 max_version) {
    auto message = nvsp(netvsc::MessageType::Init);
    message.init = {min_version, max_version};
    return message;
}
inline netvsc::Message nvsp_config(u32 frame_bytes, u64 capabilities) {
    auto message = nvsp(netvsc::MessageType::SendNdisConfig);
    message.ndis_config = {frame_bytes, 0, capabilities};
    return message;
}
inline netvsc::Message nvsp_buffer(netvsc::MessageType type, u32 gpadl, u16 id) {
    auto message = nvsp(type);
    message.buffer = {gpadl, id};
    return message;
}
inline netvsc::Message nvsp_rndis(u32 channel_type, u32 section = netvsc::kNoSection, u32 bytes = 0) {
    auto message = nvsp(netvsc::MessageType::SendRndisPacket);
    message.rndis = {channel_type, section, bytes};
    return message;
}
inline netvsc::Message nvsp_sub_channels(u32 count) {
    auto message = nvsp(netvsc::MessageType::SubChannel);
    message.sub_channels = {netvsc::kSubChannelAllocate, count};
    return message;
}
inline std::span<const u8> bytes_of(const netvsc::Message& message) {
    return {reinterpret_cast<const u8*>(&message), sizeof message};
}

// ---- RNDIS

template <class Body>
Bytes rndis_message(rndis::MessageType type, const Body& body, std::span<const u8> information = {}) {
    Bytes message;
    append(message, rndis::Header{static_cast<u32>(type),
                                  static_cast<u32>(sizeof(rndis::Header) + sizeof body + information.size())});
    append(message, body);
    message.insert(message.end(), information.begin(), information.end());
    return message;
}
inline Bytes rndis_initialize(u32 id = 1) {
    return rndis_message(rndis::MessageType::Initialize, rndis::Initialize{id, 1, 0, 0x4000});
}
inline Bytes rndis_request(rndis::MessageType type, u32 id, u32 oid, std::span<const u8> information = {}) {
    return rndis_message(type, rndis::Request{id, oid, static_cast<u32>(information.size()), sizeof(rndis::Request), 0},
                         information);
}
template <class T>
Bytes rndis_set(u32 id, u32 oid, const T& value) {
    Bytes information;
    append(information, value);
    return rndis_request(rndis::MessageType::Set, id, oid, information);
}
/// A data message around a frame, as Linux builds it, with per-packet information of four bytes each.
inline Bytes rndis_frame(std::span<const u8> frame, const std::vector<std::pair<u32, u32>>& infos = {},
                         u32 padding = 0) {
    Bytes information;
    for (const auto& [type, value] : infos) {
        append(information, rndis::PacketInfo{16, type, 12});
        append(information, value);
    }
    rndis::Packet packet{};
    packet.data_offset = static_cast<u32>(sizeof packet + information.size());
    packet.data_length = static_cast<u32>(frame.size());
    packet.info_offset = sizeof packet;
    packet.info_length = static_cast<u32>(information.size());
    Bytes tail = information;
    tail.insert(tail.end(), frame.begin(), frame.end());
    tail.resize(tail.size() + padding);
    return rndis_message(rndis::MessageType::Packet, packet, tail);
}

// ---- frames

inline constexpr std::array<u8, 6> kGuestAddress = {0x52, 0x54, 0, 1, 2, 3};
inline constexpr std::array<u8, 6> kPeerAddress = {0x52, 0x54, 0, 9, 9, 9};

/// `size` bytes to `to`; the content depends on `seed`.
inline Bytes plain_frame(const std::array<u8, 6>& to, std::size_t size, u8 seed = 1) {
    Bytes frame(to.begin(), to.end());
    frame.insert(frame.end(), kPeerAddress.begin(), kPeerAddress.end());
    frame.push_back(0x88);
    frame.push_back(0xb5);  // local experimental
    while (frame.size() < size) frame.push_back(static_cast<u8>(seed + frame.size()));
    frame.resize(size);
    return frame;
}
/// An IPv4 TCP frame with all checksums zero.
inline Bytes tcp_frame(std::size_t payload, u32 source = 0x0a000001, u16 source_port = 1000) {
    Bytes frame = plain_frame(kGuestAddress, 14);
    frame[12] = 0x08;
    frame[13] = 0x00;
    const std::size_t total = 40 + payload;
    const Bytes header = {0x45,
                          0,
                          static_cast<u8>(total >> 8),
                          static_cast<u8>(total),
                          0x12,
                          0x34,
                          0x40,
                          0,
                          64,
                          6,
                          0,
                          0,
                          static_cast<u8>(source >> 24),
                          static_cast<u8>(source >> 16),
                          static_cast<u8>(source >> 8),
                          static_cast<u8>(source),
                          10,
                          0,
                          0,
                          2,
                          static_cast<u8>(source_port >> 8),
                          static_cast<u8>(source_port),
                          0,
                          80,
                          0,
                          0,
                          1,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0x50,
                          0x19,
                          1,
                          0,
                          0,
                          0,
                          0,
                          0};
    frame.insert(frame.end(), header.begin(), header.end());
    for (std::size_t i = 0; i < payload; ++i) frame.push_back(static_cast<u8>(i * 7));
    return frame;
}

/// The core with a guest that has gone through Linux's sequence.
struct NetworkBed {
    static constexpr u32 kPrimary = 5;
    static constexpr u32 kReceiveGpadl = 1, kSendGpadl = 2;

    explicit NetworkBed(u16 sub_channels = 0, bool start = true)
        : core(std::make_unique<vsp::Network>(world, kGuestAddress, "net0", sub_channels)) {
        world.buffers[kReceiveGpadl].resize(1 << 20);
        world.buffers[kSendGpadl].resize(1 << 20);
        core->channel_opened(kPrimary, 0);
        if (!start) return;
        message(nvsp_init(netvsc::kVersion61, netvsc::kVersion61));
        message(nvsp_config(1514, netvsc::kCapabilityVlan), false);
        message(nvsp_buffer(netvsc::MessageType::SendReceiveBuffer, kReceiveGpadl, netvsc::kReceiveBufferId));
        message(nvsp_buffer(netvsc::MessageType::SendSendBuffer, kSendGpadl, 0));
        control(rndis_initialize());
        control(rndis_set(2, rndis::kOidPacketFilter, u32{rndis::kFilterDirected | rndis::kFilterBroadcast}));
        settle();
        forget();
    }
    vsp::NetworkPacket packet(std::span<const u8> payload, bool completion = true) {
        vsp::NetworkPacket made;
        made.channel = kPrimary;
        made.transaction_id = ++transaction;
        made.completion_requested = completion;
        made.payload = payload;
        return made;
    }
    void message(const netvsc::Message& content, bool completion = true) {
        core->on_packet(packet(bytes_of(content), completion));
    }
    void control(const Bytes& content) { send(content, netvsc::kChannelControl); }
    /// In pages.
    void send(const Bytes& content, u32 channel_type = netvsc::kChannelData) {
        PacketData data(content);
        const auto header = nvsp_rndis(channel_type);
        auto made = packet(bytes_of(header));
        made.data = &data;
        core->on_packet(made);
    }
    /// In a section of the send buffer, and the rest in pages.
    void send_section(u32 section, const Bytes& head, const Bytes& rest = {}, u32 channel_type = netvsc::kChannelData) {
        std::copy(head.begin(), head.end(), world.buffers[kSendGpadl].begin() + section * vsp::Network::kSendSection);
        PacketData data(rest);
        const auto header = nvsp_rndis(channel_type, section, static_cast<u32>(head.size()));
        auto made = packet(bytes_of(header));
        if (!rest.empty()) made.data = &data;
        core->on_packet(made);
    }
    void receive(const Bytes& frame) { core->receive(frame, {}); }
    /// Ends what was sent and gives back every section.
    void settle() {
        for (; !world.scheduled.empty(); world.scheduled.pop_front()) core->finish(world.scheduled.front().first);
        for (const auto& each : world.indications) core->on_completion(each.channel, each.transaction_id);
    }
    void forget() {
        world.completions.clear();
        world.indications.clear();
        world.sent.clear();
        world.sends.clear();
    }
    [[nodiscard]] netvsc::Message answer() const {
        netvsc::Message message{};
        if (!world.completions.empty()) message = read_at<netvsc::Message>(world.completions.back().payload, 0);
        return message;
    }
    /// Status of the last 108.
    [[nodiscard]] u32 rndis_status() const {
        return world.completions.empty() ? 0 : read_at<u32>(world.completions.back().payload, 4);
    }

    NetworkWorld world;
    std::unique_ptr<vsp::Network> core;
    u64 transaction = 100;
};

}  // namespace vg::test
