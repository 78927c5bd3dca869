#include "devices/net/offload.h"

#include <algorithm>
#include <array>
#include <optional>

#include "devices/net/packet.h"

namespace vg::devices {

namespace {

constexpr u64 kMinFrameBytes = 60;
constexpr u16 kVlan = 0x8100, kIpv4 = 0x0800, kIpv6 = 0x86dd;
constexpr u8 kTcp = 6, kUdp = 17;
constexpr u8 kTcpFin = 0x01, kTcpPush = 0x08, kTcpCongestionReduced = 0x80;
constexpr u32 kTcpChecksum = 16, kUdpChecksum = 6;
constexpr u32 kMaxExtensions = 8;

/// Where the headers of a frame are.
struct Headers {
    u64 network = 0, transport = 0;
    bool ipv6 = false, fragment = false;
    u8 protocol = 0;
};

/// RFC 8200 §4: headers in front of the transport's.
bool skip_extensions(std::span<const u8> frame, Headers& headers) {
    constexpr u8 kHopByHop = 0, kRouting = 43, kFragment = 44, kDestination = 60;
    for (u32 i = 0; i < kMaxExtensions; ++i) {
        const u8 next = headers.protocol;
        if (next != kHopByHop && next != kRouting && next != kFragment && next != kDestination) return true;
        if (headers.transport + 8 > frame.size()) return false;
        headers.protocol = frame[headers.transport];
        if (next == kFragment) headers.fragment = true;
        headers.transport += next == kFragment ? 8 : (u64{frame[headers.transport + 1]} + 1) * 8;
        if (headers.transport > frame.size()) return false;
    }
    return false;
}

std::optional<Headers> find_headers(std::span<const u8> frame) {
    Headers headers;
    u64 at = 12;
    if (frame.size() < kEthernetHeaderBytes) return std::nullopt;
    if (read_be16(frame, at) == kVlan) at += 4;
    if (frame.size() < at + 2) return std::nullopt;
    const u16 type = read_be16(frame, at);
    headers.network = at + 2;
    const std::span<const u8> packet = frame.subspan(headers.network);
    if (type == kIpv4) {
        if (packet.size() < 20 || packet[0] >> 4 != 4) return std::nullopt;
        const u64 length = u64{packet[0] & 0xfu} * 4;
        if (length < 20 || length > packet.size()) return std::nullopt;
        headers.transport = headers.network + length;
        headers.protocol = packet[9];
        headers.fragment = (read_be16(packet, 6) & 0x3fff) != 0;
        return headers;
    }
    if (type != kIpv6 || packet.size() < 40 || packet[0] >> 4 != 6) return std::nullopt;
    headers.ipv6 = true;
    headers.transport = headers.network + 40;
    headers.protocol = packet[6];
    if (!skip_extensions(frame, headers)) return std::nullopt;
    return headers;
}

/// The frame's last byte as its network header says; its end is padding. A length of 0 is that of a packet to be cut.
u64 end_of(std::span<const u8> frame, const Headers& headers) {
    const u64 length =
        headers.ipv6 ? u64{read_be16(frame, headers.network + 4)} + 40 : read_be16(frame, headers.network + 2);
    const u64 end = headers.network + length;
    return end < headers.transport || end > frame.size() ? frame.size() : end;
}

void complete_ip(std::span<u8> frame, const Headers& headers) {
    if (headers.ipv6) return;
    const auto header = frame.subspan(headers.network, headers.transport - headers.network);
    write_be16(header, 10, 0);
    write_be16(header, 10, static_cast<u16>(~ones_sum(header)));
}

/// RFC 9293 §3.1, RFC 768: over the pseudo header and everything behind the network header.
void complete_transport(std::span<u8> frame, const Headers& headers) {
    const bool udp = headers.protocol == kUdp;
    const auto segment = frame.subspan(headers.transport, end_of(frame, headers) - headers.transport);
    const u32 field = udp ? kUdpChecksum : kTcpChecksum;
    if (segment.size() < (udp ? 8u : 20u)) return;
    const auto addresses =
        std::span<const u8>(frame).subspan(headers.network + (headers.ipv6 ? 8 : 12), headers.ipv6 ? 32 : 8);
    write_be16(segment, field, 0);
    const u32 length = static_cast<u32>(segment.size());
    u16 sum = static_cast<u16>(
        ~ones_sum(segment, ones_sum(addresses) + (length >> 16) + (length & 0xffff) + headers.protocol));
    if (udp && sum == 0) sum = 0xffff;  // a zero says "no checksum"
    write_be16(segment, field, sum);
}

u32 put(std::span<const u8> frame, FrameSink& out) {
    if (frame.size() > kMaxFrameBytes || frame.size() < kEthernetHeaderBytes) return 0;
    if (frame.size() < kMinFrameBytes) {
        std::array<u8, kMinFrameBytes> padded{};
        std::copy(frame.begin(), frame.end(), padded.begin());
        out.put(padded);
    } else {
        out.put(frame);
    }
    return 1;
}

/// One frame for every `segment_bytes` of payload. Each is made in place, in front of its payload: what lies there has
/// gone out already.
u32 send_segments(std::span<u8> frame, u32 segment_bytes, const Headers& headers, FrameSink& out) {
    if (headers.protocol != kTcp || headers.fragment || headers.transport + 20 > frame.size()) return 0;
    const u64 tcp_bytes = u64{frame[headers.transport + 12]} >> 4 << 2;
    const u64 header_bytes = headers.transport + tcp_bytes;
    if (tcp_bytes < 20 || header_bytes >= frame.size() || header_bytes > 256 ||
        header_bytes + segment_bytes > kMaxFrameBytes)
        return 0;
    std::array<u8, 256> kept{};
    std::copy_n(frame.begin(), header_bytes, kept.begin());
    const u64 payload = frame.size() - header_bytes;
    u32 frames = 0;
    for (u64 sent = 0; sent < payload; ++frames) {
        const u64 bytes = std::min<u64>(payload - sent, segment_bytes);
        const std::span<u8> segment = frame.subspan(sent, header_bytes + bytes);
        std::copy_n(kept.begin(), header_bytes, segment.begin());
        if (headers.ipv6) {
            write_be16(segment, headers.network + 4, static_cast<u16>(segment.size() - headers.network - 40));
        } else {
            write_be16(segment, headers.network + 2, static_cast<u16>(segment.size() - headers.network));
            write_be16(segment, headers.network + 4, static_cast<u16>(read_be16(kept, headers.network + 4) + frames));
        }
        write_be32(segment, headers.transport + 4, static_cast<u32>(read_be32(kept, headers.transport + 4) + sent));
        u8& flags = segment[headers.transport + 13];
        if (sent + bytes < payload) flags &= static_cast<u8>(~(kTcpFin | kTcpPush));
        if (sent != 0) flags &= static_cast<u8>(~kTcpCongestionReduced);  // RFC 3168 §6.1.2: once
        complete_ip(segment, headers);
        complete_transport(segment, headers);
        put(segment, out);
        sent += bytes;
    }
    return frames;
}

}  // namespace

u32 send_offloaded(std::span<u8> frame, const SendOffload& offload, FrameSink& out) {
    const bool work = offload.ip_checksum || offload.tcp_checksum || offload.udp_checksum || offload.segment_bytes != 0;
    if (!work) return put(frame, out);
    const auto headers = find_headers(frame);
    if (offload.segment_bytes != 0) return headers ? send_segments(frame, offload.segment_bytes, *headers, out) : 0;
    if (headers) {
        if (offload.ip_checksum) complete_ip(frame, *headers);
        const bool transport =
            (offload.tcp_checksum && headers->protocol == kTcp) || (offload.udp_checksum && headers->protocol == kUdp);
        if (transport && !headers->fragment) complete_transport(frame, *headers);
    }
    return put(frame, out);
}

}  // namespace vg::devices
