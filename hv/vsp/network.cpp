#include "hv/vsp/network.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::hv::vsp {

using netvsc::Message;
using netvsc::MessageType;
using netvsc::Status;

namespace {

constexpr u32 kEthernetHeader = 14, kVlanTag = 4, kAddressBytes = 12;
/// What stands in front of a received frame: headers and three pieces of per-packet information.
constexpr u32 kInfoBytes = sizeof(rndis::PacketInfo) + sizeof(u32);
constexpr u32 kReceiveOverhead = sizeof(rndis::Header) + sizeof(rndis::Packet) + 3 * kInfoBytes;

Message make(MessageType type) {
    Message message{};
    message.type = static_cast<u32>(type);
    return message;
}

/// D-74: what a frame's per-packet information asks for. False: it makes no sense.
bool read_information(std::span<const u8> infos, OutgoingFrame& frame, std::optional<u16>& vlan) {
    while (!infos.empty()) {
        rndis::PacketInfo info;
        if (infos.size() < sizeof info) return false;
        std::memcpy(&info, infos.data(), sizeof info);
        if (info.size < sizeof info || info.size > infos.size() || info.offset < sizeof info || info.offset > info.size)
            return false;
        u32 value = 0;
        const bool has_value = fits(info.offset, sizeof value, info.size);
        if (has_value) std::memcpy(&value, infos.data() + info.offset, sizeof value);
        infos = infos.subspan(info.size);
        const bool used = info.type == rndis::kInfoChecksum || info.type == rndis::kInfoLargeSend ||
                          info.type == rndis::kInfoVlan;  // the rest, a hash for example, changes nothing
        if (used && !has_value) return false;
        if (info.type == rndis::kInfoChecksum) {
            frame.ip_checksum = (value & rndis::kSendIpHeader) != 0 && (value & rndis::kSendIpv4) != 0;
            frame.tcp_checksum = (value & rndis::kSendTcp) != 0;
            frame.udp_checksum = (value & rndis::kSendUdp) != 0;
        } else if (info.type == rndis::kInfoLargeSend) {
            frame.segment_bytes = value & rndis::kLargeSendSizeMask;
            if ((value & rndis::kLargeSendVersion2) == 0 || frame.segment_bytes == 0) return false;
        } else if (info.type == rndis::kInfoVlan) {
            vlan = rndis::vlan_tci(value);
        }
    }
    return true;
}

constexpr u32 receive_section_bytes(u32 mtu) {
    const u32 needed = (kReceiveOverhead + mtu + kEthernetHeader + 7) / 8 * 8;
    return std::max(needed, Network::kMinReceiveSection);
}

}  // namespace

Network::Network(NetworkHost& host, std::array<u8, 6> address, std::string_view name, u16 max_sub_channels)
    : host_(host), max_sub_channels_(max_sub_channels), rndis_(address, name, max_sub_channels + 1u) {
    VG_ASSERT(max_sub_channels < kMaxQueues);
}

// ---- channels and buffers

void Network::reset() {
    state_ = State::AwaitInit;
    version_ = ndis_version_ = 0;
    capabilities_ = 0;
    receive_ = send_ = {};
    forget_requests(std::nullopt);
    free_sections_of(std::nullopt);
    rndis_.reset();
}

std::optional<u32> Network::primary() const {
    if (!queues_[0].open) return std::nullopt;
    return queues_[0].channel;
}

void Network::channel_opened(u32 channel, u32 index) {
    if (index == 0) reset();
    if (index > max_sub_channels_) return;
    queues_[index].open = true;
    queues_[index].channel = channel;
    if (index != 0) send_indirection_table();
}

void Network::channel_closed(u32 channel) {
    for (u32 i = 0; i < kMaxQueues; ++i) {
        if (!queues_[i].open || queues_[i].channel != channel) continue;
        queues_[i].open = false;
        if (i == 0) return reset();
        forget_requests(channel);
        return free_sections_of(channel);
    }
}

void Network::buffer_gone(u32 gpadl) {
    if (send_.valid && send_.gpadl == gpadl) send_ = {};
    if (!receive_.valid || receive_.gpadl != gpadl) return;
    receive_ = {};
    free_sections_of(std::nullopt);
}

/// D-64: over which of the open channels the guest shall spread what it sends.
void Network::send_indirection_table() {
    const auto to = primary();
    if (!to || version_ < netvsc::kVersion5) return;
    std::array<u32, kMaxQueues> open{};
    u32 count = 0;
    for (u32 i = 0; i < kMaxQueues; ++i) {
        if (queues_[i].open) open[count++] = i;
    }
    netvsc::IndirectionTableMessage table{make(MessageType::SendIndirectionTable), {}};
    table.message.indirection = {netvsc::kSendTableEntries, sizeof table.message};
    for (u32 i = 0; i < netvsc::kSendTableEntries; ++i) table.entries[i] = open[i % count];
    host_.send(*to, {reinterpret_cast<const u8*>(&table), sizeof table});
}

// ---- messages

void Network::answer(const NetworkPacket& from, const Message& reply) {
    if (!from.completion_requested) return;
    host_.complete(from.channel, from.transaction_id, {reinterpret_cast<const u8*>(&reply), sizeof reply});
}

void Network::on_packet(const NetworkPacket& from) {
    VG_ASSERT(can_accept());
    Message message{};
    if (!from.payload.empty())
        std::memcpy(&message, from.payload.data(), std::min(from.payload.size(), sizeof message));
    const auto type = static_cast<MessageType>(message.type);
    const bool whole = from.payload.size() >= sizeof(u32) + sizeof message.rndis;
    if (type == MessageType::SendRndisPacket && whole && state_ == State::Negotiated) return take_rndis(from, message);
    if (type == MessageType::SendRndisPacket) {
        ++invalid_packets_;
        return answer_rndis(from, Status::Fail);
    }
    // Everything else belongs to the primary channel, and every guest sends it whole (D-50).
    if (from.sub_channel || from.payload.size() < sizeof message ||
        (state_ == State::AwaitInit && type != MessageType::Init)) {
        ++invalid_packets_;
        return answer(from, make(MessageType::None));
    }
    switch (type) {
        case MessageType::Init:
            return initialise(from, message);
        case MessageType::SendNdisVersion:
            ndis_version_ = message.ndis_version.major << 16 | (message.ndis_version.minor & 0xffff);
            return answer(from, make(MessageType::None));
        case MessageType::SendNdisConfig:
            rndis_.set_mtu(message.ndis_config.mtu > kEthernetHeader ? message.ndis_config.mtu - kEthernetHeader : 0);
            capabilities_ = message.ndis_config.capabilities;
            return answer(from, make(MessageType::None));
        case MessageType::SendReceiveBuffer:
            return take_receive_buffer(from, message);
        case MessageType::RevokeReceiveBuffer:
            return revoke(from, receive_);
        case MessageType::SendSendBuffer:
            return take_send_buffer(from, message);
        case MessageType::RevokeSendBuffer:
            return revoke(from, send_);
        case MessageType::SwitchDataPath:
            // There is no virtual function, so the path stays what it is. D-62: no payload.
            if (from.completion_requested) host_.complete(from.channel, from.transaction_id, {});
            return;
        case MessageType::SubChannel:
            return make_sub_channels(from, message);
        case MessageType::OidQueryEx: {
            Message reply = make(MessageType::OidQueryExComplete);
            reply.rndis_complete.status = rndis::kStatusNotSupported;
            return answer(from, reply);
        }
        default:
            break;
    }
    ++invalid_packets_;
    answer(from, make(MessageType::None));
}

/// D-51. The highest version that both know.
void Network::initialise(const NetworkPacket& from, const Message& message) {
    const netvsc::Init& asked = message.init;
    Message reply = make(MessageType::InitComplete);
    reply.init_complete = {netvsc::kNoSection, netvsc::kMaxMdlChain, static_cast<u32>(Status::Fail)};
    const auto known = std::find_if(std::begin(netvsc::kKnownVersions), std::end(netvsc::kKnownVersions),
                                    [&](u32 each) { return each >= asked.min_version && each <= asked.max_version; });
    if (state_ != State::AwaitInit) {
        ++invalid_packets_;
    } else if (known != std::end(netvsc::kKnownVersions)) {
        state_ = State::Negotiated;
        version_ = *known;
        reply.init_complete.version = version_;
        reply.init_complete.status = static_cast<u32>(Status::Success);
    } else {
        const bool newer = asked.min_version > netvsc::kKnownVersions[0];
        reply.init_complete.status = static_cast<u32>(newer ? Status::ProtocolTooNew : Status::ProtocolTooOld);
    }
    answer(from, reply);
}

/// D-54. One section over the whole buffer, cut into pieces that take a frame each.
void Network::take_receive_buffer(const NetworkPacket& from, const Message& message) {
    Message reply = make(MessageType::SendReceiveBufferComplete);
    const u32 piece = receive_section_bytes(rndis_.mtu());
    const u64 count = std::min<u64>(host_.buffer_size(message.buffer.gpadl) / piece, kMaxSections);
    if (receive_.valid || count < kMinSections) {
        ++invalid_packets_;
        reply.receive_buffer_complete.status = static_cast<u32>(Status::Fail);
        return answer(from, reply);
    }
    receive_ = {true, message.buffer.gpadl, piece, static_cast<u32>(count)};
    first_free_ = 0;
    reply.receive_buffer_complete = {
        static_cast<u32>(Status::Success), 1, {0, piece, receive_.sections, piece * receive_.sections}};
    answer(from, reply);
}

/// D-55.
void Network::take_send_buffer(const NetworkPacket& from, const Message& message) {
    Message reply = make(MessageType::SendSendBufferComplete);
    const u64 count = host_.buffer_size(message.buffer.gpadl) / kSendSection;
    if (send_.valid || count == 0) {
        ++invalid_packets_;
        reply.send_buffer_complete.status = static_cast<u32>(Status::Fail);
        return answer(from, reply);
    }
    send_ = {true, message.buffer.gpadl, kSendSection, static_cast<u32>(std::min<u64>(count, netvsc::kNoSection))};
    reply.send_buffer_complete = {static_cast<u32>(Status::Success), kSendSection};
    answer(from, reply);
}

/// D-56.
void Network::revoke(const NetworkPacket& from, Buffer& buffer) {
    if (&buffer == &receive_) free_sections_of(std::nullopt);
    buffer = {};
    answer(from, make(MessageType::None));
}

/// D-64.
void Network::make_sub_channels(const NetworkPacket& from, const Message& message) {
    Message reply = make(MessageType::SubChannel);
    const bool possible = version_ >= netvsc::kVersion5 &&
                          message.sub_channels.operation == netvsc::kSubChannelAllocate && max_sub_channels_ != 0;
    const u32 count = possible ? std::min<u32>(message.sub_channels.count, max_sub_channels_) : 0;
    if (!possible) ++invalid_packets_;
    reply.sub_channels_complete = {static_cast<u32>(possible ? Status::Success : Status::Fail), count};
    answer(from, reply);
    if (count != 0) host_.offer_sub_channels(static_cast<u16>(count));
}

// ---- what the guest sends

/// D-57: every one is answered, once.
void Network::answer_rndis(const NetworkPacket& from, Status status) {
    if (!from.completion_requested) return;
    const u32 reply[] = {static_cast<u32>(MessageType::SendRndisPacketComplete), static_cast<u32>(status)};
    host_.complete(from.channel, from.transaction_id, {reinterpret_cast<const u8*>(reply), sizeof reply});
}

/// D-58: the head in a section of the send buffer, the rest in pages; either may be missing. Copied once.
std::optional<u32> Network::gather(const NetworkPacket& from, const netvsc::RndisPacket& place) {
    if (from.data_malformed) return std::nullopt;
    const bool has_head = place.section_index != netvsc::kNoSection;
    const u64 head = has_head ? place.section_bytes : 0, rest = from.data != nullptr ? from.data->size() : 0;
    if (head + rest > scratch_.size()) return std::nullopt;
    const std::span<u8> all = std::span(scratch_).first(head + rest);
    if (has_head) {
        if (!send_.valid || place.section_index >= send_.sections || head > send_.section_bytes) return std::nullopt;
        const u64 offset = u64{place.section_index} * send_.section_bytes;
        if (!host_.read_buffer(send_.gpadl, offset, all.first(head))) return std::nullopt;
    }
    if (rest != 0 && !from.data->read(0, all.subspan(head))) return std::nullopt;
    return static_cast<u32>(all.size());
}

void Network::take_rndis(const NetworkPacket& from, const Message& message) {
    const auto size = gather(from, message.rndis);
    const bool data = message.rndis.channel_type == netvsc::kChannelData;
    if (!size || (!data && (message.rndis.channel_type != netvsc::kChannelControl || *size > kMaxControlBytes))) {
        ++invalid_packets_;
        return answer_rndis(from, Status::InvalidRndisPacket);
    }
    const std::span<u8> bytes = std::span(scratch_).first(*size);
    host_.show(from.channel, false, from.transaction_id, bytes);
    if (!data) return control(from, bytes);
    const bool good = send_messages(bytes);
    if (!good) ++rndis_.counters.send_errors;
    begin(from, *size, good ? Status::Success : Status::InvalidRndisPacket);
}

/// D-60.
void Network::control(const NetworkPacket& from, std::span<const u8> message) {
    std::array<u8, Rndis::kMaxReply> reply{};
    const u32 size = rndis_.control(message, reply);
    answer_rndis(from, Status::Success);
    if (size != 0) send_control(std::span(reply).first(size));
}

/// D-59: messages one behind the other, each with its padding.
bool Network::send_messages(std::span<u8> bytes) {
    if (rndis_.state() != Rndis::State::Initialised) return false;
    for (u32 count = 0; bytes.size() >= sizeof(rndis::Header); ++count) {
        rndis::Header header;
        std::memcpy(&header, bytes.data(), sizeof header);
        if (header.type != static_cast<u32>(rndis::MessageType::Packet) || count == Rndis::kMaxPacketsPerMessage ||
            header.length < sizeof header + sizeof(rndis::Packet) || header.length > bytes.size()) {
            return false;
        }
        if (!send_frame(bytes.first(header.length).subspan(sizeof header))) return false;
        bytes = bytes.subspan(header.length);
    }
    return bytes.empty();
}

/// D-73.
bool Network::send_frame(std::span<u8> body) {
    rndis::Packet packet;
    std::memcpy(&packet, body.data(), sizeof packet);
    if (packet.data_offset < sizeof packet || packet.data_length < kEthernetHeader ||
        !fits(packet.data_offset, packet.data_length, body.size()))
        return false;
    OutgoingFrame frame;
    std::optional<u16> vlan;
    if (packet.info_length != 0) {
        if (packet.info_offset < sizeof packet || !fits(packet.info_offset, packet.info_length, body.size()) ||
            !read_information(body.subspan(packet.info_offset, packet.info_length), frame, vlan))
            return false;
    }
    if (frame.segment_bytes == 0 && packet.data_length > rndis_.mtu() + kEthernetHeader + kVlanTag) return false;
    frame.bytes = body.subspan(packet.data_offset, packet.data_length);
    if (vlan) {  // moves the addresses up into the headers, which have been read
        frame.bytes = body.subspan(packet.data_offset - kVlanTag, packet.data_length + kVlanTag);
        std::memmove(frame.bytes.data(), frame.bytes.data() + kVlanTag, kAddressBytes);
        const u8 tag[] = {0x81, 0x00, static_cast<u8>(*vlan >> 8), static_cast<u8>(*vlan)};
        std::memcpy(frame.bytes.data() + kAddressBytes, tag, sizeof tag);
    }
    ++rndis_.counters.frames_sent;
    rndis_.counters.bytes_sent += packet.data_length;
    host_.transmit(frame);
    return true;
}

void Network::begin(const NetworkPacket& from, u32 bytes, Status status) {
    const auto unused =
        std::find_if(requests_.begin(), requests_.end(), [](const Request& each) { return !each.used; });
    *unused = {true, !from.completion_requested, from.channel, from.transaction_id, static_cast<u32>(status)};
    ++in_flight_;
    host_.schedule(static_cast<u32>(unused - requests_.begin()), bytes);
}

void Network::release(Request& request) {
    request.used = false;
    --in_flight_;
}

void Network::finish(u32 slot) {
    VG_ASSERT(slot < kMaxInFlight);
    Request& request = requests_[slot];
    if (!request.used) return;
    release(request);
    NetworkPacket from;
    from.channel = request.channel;
    from.transaction_id = request.transaction_id;
    from.completion_requested = !request.silent;
    answer_rndis(from, static_cast<Status>(request.status));
}

void Network::forget_requests(std::optional<u32> channel) {
    for (Request& request : requests_) {
        if (request.used && (!channel || request.channel == *channel)) release(request);
    }
}

}  // namespace vg::hv::vsp
