// Reception by the 82574: filters, descriptors, checksums. Datasheet §7.1.
#include <algorithm>

#include "base/bits.h"
#include "devices/e1000e.h"
#include "devices/net/packet.h"

namespace vg::devices {

using namespace e1000e;

namespace {

constexpr u64 kWireOverheadBytes = 24, kNanosecondsPerByte = 8, kCrcBytes = 4;
constexpr u64 kLongestOrdinary = 1518;  ///< with a VLAN tag, without check sequence
constexpr u64 kShortest = 60;

}  // namespace

// ---- Filters

bool E1000e::accepts_address(std::span<const u8> frame) const {
    const u32 rctl = plain(kRctl);
    const bool group = (frame[0] & 1) != 0;
    if (std::all_of(frame.begin(), frame.begin() + 6, [](u8 byte) { return byte == 0xff; }) &&
        (rctl & kRctlBroadcast) != 0)
        return true;
    if ((rctl & (group ? kRctlMulticastAll : kRctlUnicastAll)) != 0) return true;
    const u32 low = frame[0] | u32{frame[1]} << 8 | u32{frame[2]} << 16 | u32{frame[3]} << 24;
    const u32 high = frame[4] | u32{frame[5]} << 8;
    for (u32 i = 0; i < kReceiveAddresses; ++i) {
        const u32 upper = state_.addresses[i * 2 + 1];
        if ((upper & kRahValid) != 0 && state_.addresses[i * 2] == low && (upper & 0xffff) == high) return true;
    }
    if (!group) return false;
    constexpr u32 kShift[] = {4, 3, 2, 0};  // RCTL.MO
    const u32 hash = (high >> kShift[bits(rctl, 13, 12)]) & 0xfff;
    return bit(state_.multicast[hash / 32], hash % 32);
}

bool E1000e::accepts_vlan(std::span<const u8> frame) const {
    if ((plain(kRctl) & kRctlVlanFilter) == 0 || frame.size() < 18 || read_be16(frame, 12) != plain(kVet)) return true;
    const u32 id = read_be16(frame, 14) & 0xfff;
    return bit(state_.vlans[id / 32], id % 32);
}

bool E1000e::accepts(std::span<const u8> frame) const {
    const u32 rctl = plain(kRctl);
    const u64 longest = (rctl & kRctlLong) != 0 ? kMaxFrameBytes - kCrcBytes : kLongestOrdinary;
    return (rctl & kRctlEnable) != 0 && frame.size() >= kEthernetHeaderBytes && frame.size() <= longest &&
           accepts_address(frame) && accepts_vlan(frame);
}

// ---- The way in

void E1000e::receive(std::span<const u8> frame) {
    if (!lasting_.link && !loops_back()) return;
    if (!accepts(frame)) {
        const bool enabled = (plain(kRctl) & kRctlEnable) != 0;
        if (enabled && frame.size() > kLongestOrdinary && (plain(kRctl) & kRctlLong) == 0) count(Statistic::Oversize);
        return;
    }
    const u64 bytes = std::max(frame.size(), kShortest);
    if (bytes > receive_room()) {
        count(Statistic::MissedPackets);
        return raise(kRxo);
    }
    waiting_.emplace_back(frame.begin(), frame.end()).resize(bytes);  // shorter ones do not exist on a wire
    waiting_bytes_ += bytes;
    arm_receive();
}

/// Descriptors are looked for when there is a frame and the guest has moved the tail.
void E1000e::arm_receive() {
    if (waiting_.empty() || events_.armed(receive_timer_) || (plain(kRctl) & kRctlEnable) == 0) return;
    if (state_.receive[0].available(receive_entry_bytes()) == 0) return;
    events_.arm(receive_timer_, std::max(events_.now() + kLatency_ns, state_.receive_free_at));
}

void E1000e::receive_some() {
    Ring& ring = state_.receive[0];
    const u32 entry_bytes = receive_entry_bytes();
    u64 wire_bytes = 0;
    u32 frames = 0;
    bool blocked = false;
    while (!waiting_.empty() && frames < kFramesPerEvent && (plain(kRctl) & kRctlEnable) != 0) {
        const u64 bytes = waiting_.front().size();
        blocked = !deliver(waiting_.front());
        if (blocked) break;
        waiting_.pop_front();
        waiting_bytes_ -= bytes;
        wire_bytes += bytes + kWireOverheadBytes;
        ++frames;
    }
    state_.receive_free_at = events_.now() + wire_bytes * kNanosecondsPerByte;
    u32 causes = frames != 0 ? kRxt0 | kRxq0 : 0;
    // RCTL.RDMTS: half, a quarter or an eighth of the ring is left.
    const u32 few = ring.entries(entry_bytes) >> (1 + bits(plain(kRctl), 9, 8));
    if (frames != 0 && ring.available(entry_bytes) <= few) causes |= kRxdmt0;
    if (causes != 0) raise(causes);
    if (!blocked) arm_receive();
}

// ---- Descriptors

bool E1000e::packet_split() const {
    return (plain(kRfctl) & kRfctlExtended) != 0 && (plain(kRctl) & kRctlPacketSplit) != 0;
}

u32 E1000e::receive_entry_bytes() const { return packet_split() ? sizeof(SplitDescriptor) : kDescriptorBytes; }

/// Room behind one descriptor.
u32 E1000e::buffer_bytes() const {
    if (packet_split()) {
        const u32 psrctl = plain(kPsrctl);
        return static_cast<u32>(bits(psrctl, 6, 0) * 128 + bits(psrctl, 13, 8) * 1024 + bits(psrctl, 21, 16) * 1024 +
                                bits(psrctl, 29, 24) * 1024);
    }
    const u32 rctl = plain(kRctl);
    if (const u32 flexible = static_cast<u32>(bits(rctl, 30, 27)); flexible != 0) return flexible * 1024;
    const u32 size = 2048u >> bits(rctl, 17, 16);
    return (rctl & kRctlSizeExtension) != 0 ? size * 16 : size;
}

/// Writes a frame into as many descriptors as it needs. False if they are not there: the frame waits. One that never
/// fits, or that cannot be written, is lost.
bool E1000e::deliver(const std::vector<u8>& original) {
    std::vector<u8> frame = original;
    u32 status = kRxDone;
    u16 vlan = 0;
    const ChecksumVerdict verdict = check_checksums(frame);
    const u32 rxcsum = plain(kRxcsum);
    if (verdict.ip && (rxcsum & kRxcsumIp) != 0) status |= kRxIpChecked | (*verdict.ip ? 0 : kRxIpError);
    if (verdict.transport && (rxcsum & kRxcsumTcpUdp) != 0) {
        status |= (verdict.udp ? kRxUdpChecked : kRxTcpChecked) | (*verdict.transport ? 0 : kRxTransportError);
    }
    if ((state_.ctrl & kCtrlVlanMode) != 0 && read_be16(frame, 12) == plain(kVet)) {
        status |= kRxVlan;
        vlan = read_be16(frame, 14);
        frame.erase(frame.begin() + 12, frame.begin() + 16);
    }
    if ((plain(kRctl) & kRctlStripCrc) == 0) {
        const u32 crc = frame_check_sequence(original);
        for (unsigned i = 0; i < 4; ++i) frame.push_back(static_cast<u8>(crc >> (i * 8)));
    }
    Ring& ring = state_.receive[0];
    const u32 entry_bytes = receive_entry_bytes(), room = buffer_bytes(), entries = ring.entries(entry_bytes);
    const u64 needed = room == 0 ? entries : (frame.size() + room - 1) / room;
    if (needed >= entries) {
        count(Statistic::MissedPackets);
        return true;
    }
    if (needed > ring.available(entry_bytes)) {
        count(Statistic::NoBuffers);
        return false;
    }
    for (std::span<const u8> rest(frame); !rest.empty();) {
        const auto part = rest.first(std::min<u64>(room, rest.size()));
        rest = rest.subspan(part.size());
        const u64 at = ring.base + u64{ring.head} * entry_bytes;
        const u32 flags = rest.empty() ? status | kRxEndOfPacket : u32{kRxDone};
        if (!(packet_split() ? write_split(at, part, flags, vlan) : write_single(at, part, flags, vlan))) {
            plain_at(kRctl) &= ~kRctlEnable;  // an error on the bus: the card stops
            return true;
        }
        ring.head = (ring.head + 1) % entries;
    }
    count_frame(original, true);
    return true;
}

bool E1000e::write_single(u64 at, std::span<const u8> part, u32 status, u16 vlan) {
    u64 buffer = 0;
    if (!pci_.dma().read(Iova(at), &buffer, sizeof buffer)) return false;
    if (buffer != 0 && !pci_.dma().write(Iova(buffer), part.data(), part.size())) return false;
    if ((plain(kRfctl) & kRfctlExtended) != 0) {
        const ExtendedWriteBack back{0, 0, 0, status, static_cast<u16>(part.size()), vlan};
        return pci_.dma().write(Iova(at), &back, sizeof back);
    }
    const ReceiveDescriptor back{
        buffer, static_cast<u16>(part.size()), 0, static_cast<u8>(status), static_cast<u8>(status >> 24), vlan};
    return pci_.dma().write(Iova(at), &back, sizeof back);
}

/// Packet split descriptors without splitting: the frame fills their buffers in turn.
bool E1000e::write_split(u64 at, std::span<const u8> part, u32 status, u16 vlan) {
    SplitDescriptor descriptor{};
    if (!pci_.dma().read(Iova(at), &descriptor, sizeof descriptor)) return false;
    const u32 psrctl = plain(kPsrctl);
    const u64 sizes[] = {bits(psrctl, 6, 0) * 128, bits(psrctl, 13, 8) * 1024, bits(psrctl, 21, 16) * 1024,
                         bits(psrctl, 29, 24) * 1024};
    u16 lengths[4] = {};
    for (u32 i = 0; i < 4; ++i) {
        const u64 bytes = std::min<u64>(sizes[i], part.size());
        lengths[i] = static_cast<u16>(bytes);
        if (bytes != 0 && !pci_.dma().write(Iova(descriptor.buffer[i]), part.data(), bytes)) return false;
        part = part.subspan(bytes);
    }
    const SplitWriteBack back{0, 0, 0, status, lengths[0], vlan, 0, {lengths[1], lengths[2], lengths[3]}, 0};
    return pci_.dma().write(Iova(at), &back, sizeof back);
}

}  // namespace vg::devices
