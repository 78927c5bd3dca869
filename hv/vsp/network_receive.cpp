// What goes to the guest: sections of the receive buffer, frames, answers of the RNDIS device. Rows D-61, D-73, D-74.
#include <algorithm>
#include <cstring>

#include "hv/vsp/bytes.h"
#include "hv/vsp/network.h"

namespace vg::hv::vsp {

namespace {

constexpr u32 kEthernetHeader = 14, kVlanTag = 4, kAddressBytes = 12;
constexpr u16 kVlanType = 0x8100, kIpv6Type = 0x86dd;

/// Headers of a received frame, growing: message, packet, per-packet information.
class ReceiveHeader {
  public:
    void add(u32 type, u32 value) {
        const rndis::PacketInfo info = {sizeof info + sizeof value, type, sizeof info};
        put(&info, sizeof info);
        put(&value, sizeof value);
    }
    /// Complete, for a frame of so many bytes behind it.
    std::span<const u8> finish(u32 frame_bytes) {
        const rndis::Header header = {static_cast<u32>(rndis::MessageType::Packet), size_ + frame_bytes};
        rndis::Packet packet{};
        packet.data_offset = size_ - rndis::kHeaderBytes;
        packet.data_length = frame_bytes;
        packet.info_length = size_ - kFixed;
        packet.info_offset = packet.info_length != 0 ? static_cast<u32>(sizeof packet) : 0;
        std::memcpy(bytes_.data(), &header, sizeof header);
        std::memcpy(bytes_.data() + sizeof header, &packet, sizeof packet);
        return std::span(bytes_).first(size_);
    }

  private:
    static constexpr u32 kFixed = sizeof(rndis::Header) + sizeof(rndis::Packet);
    void put(const void* data, u32 size) {
        std::memcpy(bytes_.data() + size_, data, size);
        size_ += size;
    }
    std::array<u8, kFixed + 3 * (sizeof(rndis::PacketInfo) + sizeof(u32))> bytes_{};
    u32 size_ = kFixed;
};

}  // namespace

bool Network::listens() const {
    return queues_[0].open && receive_.valid && rndis_.state() == Rndis::State::Initialised &&
           rndis_.packet_filter() != 0;
}

// ---- sections

u32 Network::free_sections() const {
    const u32 all = receive_.valid ? receive_.sections : 0;
    return all > sections_used_ + kControlSections ? all - sections_used_ - kControlSections : 0;
}

/// The lowest free one, unless no more than `keep_free` are.
std::optional<u32> Network::take_section(u32 keep_free) {
    if (!receive_.valid || receive_.sections - sections_used_ <= keep_free) return std::nullopt;
    while (sections_[first_free_].used) ++first_free_;
    ++sections_used_;
    sections_[first_free_].used = true;
    return first_free_;
}

void Network::free_section(u32 index) {
    sections_[index].used = false;
    --sections_used_;
    first_free_ = std::min(first_free_, index);
}

void Network::free_sections_of(std::optional<u32> channel) {
    for (u32 i = 0; i < kMaxSections && sections_used_ != 0; ++i) {
        if (sections_[i].used && (!channel || sections_[i].channel == *channel)) free_section(i);
    }
}

/// D-61: the transaction names the section, and which use of it: one that ends twice frees nothing.
void Network::on_completion(u32 channel, u64 transaction_id) {
    const u64 index = transaction_id & 0xffff'ffff;
    if (index < kMaxSections && sections_[index].used && sections_[index].channel == channel &&
        sections_[index].sequence == transaction_id >> 32) {
        return free_section(static_cast<u32>(index));
    }
    ++invalid_packets_;
}

void Network::indicate(u32 section, u32 channel, u32 channel_type, u32 bytes, std::span<const u8> shown) {
    sections_[section].channel = channel;
    sections_[section].sequence = next_sequence_;
    next_sequence_ = next_sequence_ == 0xffff'ffff ? 1 : next_sequence_ + 1;
    netvsc::Message message{};
    message.type = static_cast<u32>(netvsc::MessageType::SendRndisPacket);
    message.rndis = {channel_type, netvsc::kNoSection, 0};
    const u64 transaction = u64{sections_[section].sequence} << 32 | section;
    host_.indicate(channel, transaction, {bytes, section * receive_.section_bytes},
                   {reinterpret_cast<const u8*>(&message), sizeof message});
    host_.show(channel, true, transaction, shown);
}

void Network::send_control(std::span<const u8> message) {
    const auto to = primary();
    const auto section = to ? take_section(0) : std::nullopt;
    if (!section) {
        ++rndis_.counters.no_buffer;
        return;
    }
    if (!host_.write_buffer(receive_.gpadl, u64{*section} * receive_.section_bytes, message)) {
        ++invalid_packets_;
        return free_section(*section);
    }
    indicate(*section, *to, netvsc::kChannelControl, static_cast<u32>(message.size()), message);
}

void Network::set_link(bool up) {
    if (!rndis_.set_link(up)) return;
    std::array<u8, Rndis::kMaxReply> message{};
    send_control(std::span(message).first(rndis_.indicate_link(message)));
}

// ---- frames

void Network::receive(std::span<const u8> frame, const IncomingChecksums& checksums) {
    NetworkCounters& counters = rndis_.counters;
    if (!listens() || frame.size() < kEthernetHeader || !rndis_.accepts(frame)) {
        ++counters.filtered;
        return;
    }
    u16 type = big_endian<u16>(frame, kAddressBytes);
    ReceiveHeader header;
    std::span<const u8> front = frame.first(kAddressBytes), rest = frame.subspan(kAddressBytes);
    if (type == kVlanType && frame.size() >= kEthernetHeader + kVlanTag) {
        type = big_endian<u16>(frame, kAddressBytes + kVlanTag);
        if ((capabilities_ & netvsc::kCapabilityVlan) != 0) {
            header.add(rndis::kInfoVlan, rndis::vlan_info(big_endian<u16>(frame, kEthernetHeader)));
            rest = frame.subspan(kAddressBytes + kVlanTag);
        }
    }
    const u32 length = static_cast<u32>(front.size() + rest.size());
    if (length > rndis_.mtu() + kEthernetHeader) {
        ++counters.oversize;
        return;
    }
    u32 verdict = 0;
    if (checksums.ip && rndis_.reports_ip()) verdict |= *checksums.ip ? rndis::kIpSucceeded : rndis::kIpFailed;
    if (checksums.transport && rndis_.reports_transport(type == kIpv6Type, checksums.udp)) {
        verdict |= checksums.udp ? (*checksums.transport ? rndis::kUdpSucceeded : rndis::kUdpFailed)
                                 : (*checksums.transport ? rndis::kTcpSucceeded : rndis::kTcpFailed);
    }
    if (verdict != 0) header.add(rndis::kInfoChecksum, verdict);
    const auto packet = frame.subspan(frame.size() - (length - kEthernetHeader));
    const Rndis::Placement place = rndis_.place(type, packet);
    if (place.hash) header.add(rndis::kInfoHash, *place.hash);
    Queue& queue = place.queue < kMaxQueues && queues_[place.queue].open ? queues_[place.queue] : queues_[0];

    const auto section = take_section(kControlSections);
    if (!section) {
        ++counters.no_buffer;
        return;
    }
    const std::span<const u8> headers = header.finish(length);
    u64 at = u64{*section} * receive_.section_bytes;
    for (const std::span<const u8> part : {headers, front, rest}) {
        if (!host_.write_buffer(receive_.gpadl, at, part)) {
            ++invalid_packets_;
            return free_section(*section);
        }
        at += part.size();
    }
    ++queue.frames;
    ++counters.frames_received;
    counters.bytes_received += length;
    indicate(*section, queue.channel, netvsc::kChannelData, static_cast<u32>(headers.size()) + length, headers);
}

}  // namespace vg::hv::vsp
