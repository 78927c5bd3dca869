#include "devices/net/packet.h"

#include <array>

#include "base/bits.h"
#include "devices/net/frame.h"

namespace vg::devices {

namespace {

constexpr u16 kVlan = 0x8100, kIpv4 = 0x0800, kIpv6 = 0x86dd;
constexpr u8 kTcp = 6, kUdp = 17;

constexpr std::array<u32, 256> make_crc_table() {
    std::array<u32, 256> table{};
    for (u32 i = 0; i < 256; ++i) {
        u32 crc = i;
        for (int k = 0; k < 8; ++k) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0u);
        table[i] = crc;
    }
    return table;
}
constexpr std::array<u32, 256> kCrcTable = make_crc_table();

/// The transport part of a packet, `addresses` being what its pseudo header has of the network header.
void check_transport(std::span<const u8> addresses, u8 protocol, std::span<const u8> segment,
                     ChecksumVerdict& verdict) {
    const u64 header = protocol == kTcp ? 20 : 8;
    if ((protocol != kTcp && protocol != kUdp) || segment.size() < header) return;
    if (protocol == kUdp) {
        const u16 length = read_be16(segment, 4);
        if (read_be16(segment, 6) == 0 || length < header || length > segment.size()) return;
        segment = segment.first(length);
    }
    const u32 pseudo = ones_sum(addresses) + u32{protocol} + static_cast<u32>(segment.size());
    verdict.udp = protocol == kUdp;
    verdict.transport = ones_sum(segment, pseudo) == 0xffff;
}

void check_ipv4(std::span<const u8> packet, ChecksumVerdict& verdict) {
    if (packet.size() < 20 || packet[0] >> 4 != 4) return;
    const u64 header = u64{packet[0] & 0xfu} * 4, total = read_be16(packet, 2);
    if (header < 20 || header > packet.size() || total < header || total > packet.size()) return;
    verdict.ip = ones_sum(packet.first(header)) == 0xffff;
    const bool fragment = (read_be16(packet, 6) & 0x3fff) != 0;
    if (!fragment) check_transport(packet.subspan(12, 8), packet[9], packet.subspan(header, total - header), verdict);
}

void check_ipv6(std::span<const u8> packet, ChecksumVerdict& verdict) {
    if (packet.size() < 40 || packet[0] >> 4 != 6) return;
    const u64 payload = read_be16(packet, 4);
    if (payload > packet.size() - 40) return;
    check_transport(packet.subspan(8, 32), packet[6], packet.subspan(40, payload), verdict);
}

}  // namespace

u16 ones_sum(std::span<const u8> bytes, u32 start) {
    u64 sum = start;
    for (u64 i = 0; i + 1 < bytes.size(); i += 2) sum += u32{bytes[i]} << 8 | bytes[i + 1];
    if (bytes.size() % 2 != 0) sum += u32{bytes.back()} << 8;
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<u16>(sum);
}

u16 read_be16(std::span<const u8> bytes, u64 at) { return static_cast<u16>(bytes[at] << 8 | bytes[at + 1]); }
u32 read_be32(std::span<const u8> bytes, u64 at) { return u32{read_be16(bytes, at)} << 16 | read_be16(bytes, at + 2); }
void write_be16(std::span<u8> bytes, u64 at, u16 value) {
    bytes[at] = static_cast<u8>(value >> 8);
    bytes[at + 1] = static_cast<u8>(value);
}
void write_be32(std::span<u8> bytes, u64 at, u32 value) {
    write_be16(bytes, at, static_cast<u16>(value >> 16));
    write_be16(bytes, at + 2, static_cast<u16>(value));
}

ChecksumVerdict check_checksums(std::span<const u8> frame) {
    ChecksumVerdict verdict;
    if (frame.size() < kEthernetHeaderBytes) return verdict;
    u64 at = 12;
    if (read_be16(frame, at) == kVlan) at += 4;
    if (frame.size() < at + 2) return verdict;
    const u16 type = read_be16(frame, at);
    if (type == kIpv4) check_ipv4(frame.subspan(at + 2), verdict);
    if (type == kIpv6) check_ipv6(frame.subspan(at + 2), verdict);
    return verdict;
}

u32 frame_check_sequence(std::span<const u8> frame) {
    u32 crc = ~u32{0};
    for (const u8 byte : frame) crc = (crc >> 8) ^ kCrcTable[(crc ^ byte) & 0xff];
    return ~crc;
}

}  // namespace vg::devices
