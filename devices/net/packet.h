// Internet checksums and the headers that a network card looks at: RFC 1071, 791, 8200, 9293, 768.
#pragma once

#include <optional>
#include <span>

#include "base/types.h"

namespace vg::devices {

/// Sum of 16-bit big-endian words, an odd last byte padded with zero, folded to 16 bits; not complemented.
[[nodiscard]] u16 ones_sum(std::span<const u8> bytes, u32 start = 0);

[[nodiscard]] u16 read_be16(std::span<const u8> bytes, u64 at);
[[nodiscard]] u32 read_be32(std::span<const u8> bytes, u64 at);
void write_be16(std::span<u8> bytes, u64 at, u16 value);
void write_be32(std::span<u8> bytes, u64 at, u32 value);

/// What a card says about the checksums of a frame that it received.
struct ChecksumVerdict {
    std::optional<bool> ip;         ///< correct or not; none: not IPv4
    std::optional<bool> transport;  ///< none: neither TCP nor UDP, a fragment, or UDP without a checksum
    bool udp = false;
};
/// Looks at an Ethernet frame, with or without one VLAN tag. Lengths in it that do not fit make it unknown, not wrong.
[[nodiscard]] ChecksumVerdict check_checksums(std::span<const u8> frame);

/// Frame check sequence of a frame: CRC-32 (IEEE 802.3 §3.2.9), in the order in which its bytes are sent.
[[nodiscard]] u32 frame_check_sequence(std::span<const u8> frame);

}  // namespace vg::devices
