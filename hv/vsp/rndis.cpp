#include "hv/vsp/rndis.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/bits.h"
#include "hv/vsp/bytes.h"
#include "hv/vsp/toeplitz.h"

namespace vg::hv::vsp {

using namespace rndis;

/// The information of a query's answer, growing in the reply.
struct Rndis::Answer {
    std::span<u8> room;
    u32 size = 0;

    void put(const void* data, std::size_t bytes) {
        bytes = std::min<std::size_t>(bytes, room.size() - size);
        std::memcpy(room.data() + size, data, bytes);
        size += static_cast<u32>(bytes);
    }
};

namespace {

constexpr u16 kIpv4 = 0x0800, kIpv6 = 0x86dd;
constexpr u8 kTcp = 6;
constexpr u16 kDriverVersion = 0x0606;             // NDIS 6.6
constexpr u32 kVendorDriverVersion = 0x0001'0000;  // 1.0
constexpr u32 kNoVendor = 0x00ff'ffff;             // "no registered vendor"
constexpr u32 kPhysicalMediumEthernet = 14;
constexpr u32 kBufferFrames = 256;
constexpr u32 kEthernetHeader = 14;
constexpr std::string_view kDescription{"Verdigris network adapter\0", 26};

constexpr u32 kObjects[] = {kOidSupportedList,     kOidHardwareStatus,      kOidMediaSupported,     kOidMediaInUse,
                            kOidMaxLookahead,      kOidMaxFrameSize,        kOidLinkSpeed,          kOidTransmitSpace,
                            kOidReceiveSpace,      kOidTransmitBlock,       kOidReceiveBlock,       kOidVendorId,
                            kOidVendorDescription, kOidPacketFilter,        kOidLookahead,          kOidDriverVersion,
                            kOidMaxTotalSize,      kOidProtocolOptions,     kOidMacOptions,         kOidMediaConnect,
                            kOidMaxSendPackets,    kOidVendorDriverVersion, kOidNetworkAddresses,   kOidPhysicalMedium,
                            kOidRssCapabilities,   kOidRssParameters,       kOidConfigParameter,    kOidTransmitted,
                            kOidReceived,          kOidTransmitErrors,      kOidReceiveErrors,      kOidReceiveNoBuffer,
                            kOidFriendlyName,      kOidPermanentAddress,    kOidCurrentAddress,     kOidMulticastList,
                            kOidMaxMulticast,      kOidAlignmentErrors,     kOidOneCollision,       kOidMoreCollisions,
                            kOidOffloadCurrent,    kOidOffloadParameters,   kOidOffloadCapabilities};

/// The part of `bytes` as a T; what is missing is zero.
template <class T>
T read(std::span<const u8> bytes, u64 at = 0) {
    T value{};
    if (at < bytes.size()) std::memcpy(&value, bytes.data() + at, std::min(sizeof value, bytes.size() - at));
    return value;
}

template <class Body>
u32 write(std::span<u8> reply, MessageType type, const Body& body, u32 information = 0) {
    const Header header = {static_cast<u32>(type), static_cast<u32>(sizeof header + sizeof body) + information};
    std::memcpy(reply.data(), &header, sizeof header);
    std::memcpy(reply.data() + sizeof header, &body, sizeof body);
    return header.length;
}

/// The information that a query or a set brings along; nothing if it is not inside the message.
std::optional<std::span<const u8>> information_of(std::span<const u8> body, const Request& request) {
    if (request.info_length == 0) return std::span<const u8>{};
    if (request.info_offset < sizeof request || !fits(request.info_offset, request.info_length, body.size()))
        return std::nullopt;
    return body.subspan(request.info_offset, request.info_length);
}

u8 hex_value(u32 character) {
    if (character >= '0' && character <= '9') return static_cast<u8>(character - '0');
    const u32 letter = character | 0x20;
    return letter >= 'a' && letter <= 'f' ? static_cast<u8>(letter - 'a' + 10) : 0xff;
}

}  // namespace

void Rndis::reset() {
    state_ = State::Uninitialised;
    address_ = permanent_;
    mtu_ = kDefaultMtu;
    filter_ = lookahead_ = 0;
    multicast_count_ = 0;
    receive_ip_ = receive_tcp4_ = receive_udp4_ = receive_tcp6_ = receive_udp6_ = false;
    rss_ = false;
    rss_hash_ = rss_entries_ = 0;
}

void Rndis::set_mtu(u32 mtu) { mtu_ = std::clamp(mtu, kMinMtu, kMaxMtu); }

bool Rndis::set_link(bool up) {
    const bool changed = link_ != up;
    link_ = up;
    return changed && state_ == State::Initialised;
}

u32 Rndis::indicate_link(std::span<u8> message) const {
    return write(message, MessageType::IndicateStatus,
                 IndicateStatus{link_ ? kStatusMediaConnect : kStatusMediaDisconnect, 0, 0});
}

u32 Rndis::control(std::span<const u8> message, std::span<u8> reply) {
    const auto header = read<Header>(message);
    if (message.size() < sizeof header || header.length < sizeof header || header.length > message.size()) {
        ++counters.send_errors;
        return 0;
    }
    const std::span<const u8> body = message.first(header.length).subspan(sizeof header);
    const u32 id = read<u32>(body);
    switch (static_cast<MessageType>(header.type)) {
        case MessageType::Initialize: {
            const auto request = read<Initialize>(body);
            const bool known = body.size() >= sizeof request && request.major == 1;
            if (known) state_ = State::Initialised;
            return write(reply, MessageType::InitializeComplete,
                         InitializeComplete{id,
                                            known ? kStatusSuccess : kStatusNotSupported,
                                            1,
                                            0,
                                            1,
                                            0,
                                            kMaxPacketsPerMessage,
                                            kMaxTransfer,
                                            kAlignmentShift,
                                            {}});
        }
        case MessageType::Halt: {
            const u32 mtu = mtu_;  // NVSP's
            reset();
            mtu_ = mtu;
            return 0;
        }
        case MessageType::Query:
            return query(body, reply);
        case MessageType::Set: {
            const auto request = read<Request>(body);
            const auto input = information_of(body, request);
            u32 status = kStatusInvalidLength;
            if (state_ != State::Initialised) {
                status = kStatusFailure;
            } else if (body.size() >= sizeof request && input) {
                status = set_object(request.oid, *input);
            }
            return write(reply, MessageType::SetComplete, StatusComplete{id, status});
        }
        case MessageType::Reset:
            filter_ = 0;
            multicast_count_ = 0;
            return write(reply, MessageType::ResetComplete, ResetComplete{kStatusSuccess, 1});
        case MessageType::KeepAlive:
            return write(reply, MessageType::KeepAliveComplete, StatusComplete{id, kStatusSuccess});
        default:
            break;
    }
    ++counters.send_errors;
    return 0;
}

u32 Rndis::query(std::span<const u8> body, std::span<u8> reply) {
    const auto request = read<Request>(body);
    const auto input = information_of(body, request);
    constexpr u32 kFixed = kHeaderBytes + sizeof(QueryComplete);
    Answer answer{reply.first(kMaxReply).subspan(kFixed)};
    u32 status = kStatusInvalidLength;
    if (state_ != State::Initialised) {
        status = kStatusFailure;
    } else if (body.size() >= sizeof request && input) {
        status = query_object(request.oid, *input, answer);
    }
    if (status != kStatusSuccess) answer.size = 0;
    return write(reply, MessageType::QueryComplete,
                 QueryComplete{request.id, status, answer.size, sizeof(QueryComplete)}, answer.size);
}

/// Objects that are one number.
std::optional<u64> Rndis::number(u32 oid, u32& bytes) const {
    bytes = 4;
    switch (oid) {
        case kOidHardwareStatus:
        case kOidMediaSupported:  // 802.3
        case kOidMediaInUse:
        case kOidMacOptions:
        case kOidAlignmentErrors:
        case kOidOneCollision:
        case kOidMoreCollisions:
            return 0;
        case kOidMaxLookahead:
        case kOidMaxFrameSize:
            return mtu_;
        case kOidLookahead:
            return lookahead_ != 0 ? lookahead_ : mtu_;
        case kOidMaxTotalSize:
        case kOidTransmitBlock:
        case kOidReceiveBlock:
            return mtu_ + kEthernetHeader;
        case kOidTransmitSpace:
        case kOidReceiveSpace:
            return u64{mtu_ + kEthernetHeader} * kBufferFrames;
        case kOidLinkSpeed:
            return kSpeed_100bps;
        case kOidVendorId:
            return kNoVendor;
        case kOidDriverVersion:
            bytes = 2;
            return kDriverVersion;
        case kOidVendorDriverVersion:
            return kVendorDriverVersion;
        case kOidPacketFilter:
            return filter_;
        case kOidMediaConnect:
            return link_ ? 0 : 1;
        case kOidMaxSendPackets:
            return kMaxPacketsPerMessage;
        case kOidPhysicalMedium:
            return kPhysicalMediumEthernet;
        case kOidMaxMulticast:
            return kMaxMulticast;
        case kOidTransmitted:
            return counters.frames_sent;
        case kOidReceived:
            return counters.frames_received;
        case kOidTransmitErrors:
            return counters.send_errors;
        case kOidReceiveErrors:
            return counters.oversize;
        case kOidReceiveNoBuffer:
            return counters.no_buffer;
        default:
            return std::nullopt;
    }
}

u32 Rndis::query_object(u32 oid, std::span<const u8> input, Answer& answer) const {
    u32 bytes = 0;
    if (const auto value = number(oid, bytes)) {
        answer.put(&*value, bytes);  // the low bytes come first
        return kStatusSuccess;
    }
    switch (oid) {
        case kOidSupportedList:
            answer.put(kObjects, sizeof kObjects);
            return kStatusSuccess;
        case kOidVendorDescription:
            answer.put(kDescription.data(), kDescription.size());
            return kStatusSuccess;
        case kOidFriendlyName:
            for (const char c : name_) {
                const u16 unit = static_cast<u8>(c) < 0x80 ? static_cast<u8>(c) : u8{'?'};
                answer.put(&unit, sizeof unit);
            }
            return kStatusSuccess;
        case kOidPermanentAddress:
            answer.put(permanent_.data(), permanent_.size());
            return kStatusSuccess;
        case kOidCurrentAddress:
            answer.put(address_.data(), address_.size());
            return kStatusSuccess;
        case kOidMulticastList:
            answer.put(multicast_.data(), multicast_count_ * sizeof multicast_[0]);
            return kStatusSuccess;
        case kOidRssCapabilities:
            return rss_capabilities(answer);
        case kOidOffloadCapabilities:
        case kOidOffloadCurrent:
            return offload_capabilities(input, answer);
        default:
            return kStatusNotSupported;
    }
}

/// D-70. The guest says by a header which revision it knows; it refuses a longer answer than that.
u32 Rndis::offload_capabilities(std::span<const u8> input, Answer& answer) const {
    Offload offload{};
    offload.header = {kObjectOffload, 3, kOffloadBytes630};
    if (!input.empty()) {
        const auto asked = read<ObjectHeader>(input);
        if (input.size() < sizeof asked || asked.type != kObjectOffload || asked.size < kOffloadBytes60)
            return kStatusInvalidData;
        if (asked.size < kOffloadBytes630) offload.header = {kObjectOffload, 2, kOffloadBytes61};
        if (asked.size < kOffloadBytes61) offload.header = {kObjectOffload, 1, kOffloadBytes60};
    }
    offload.ipv4_send_encapsulation = offload.ipv4_receive_encapsulation = kEncapsulationEthernet;
    offload.ipv6_send_encapsulation = offload.ipv6_receive_encapsulation = kEncapsulationEthernet;
    offload.ipv4_send = offload.ipv4_receive =
        kChecksumIpOptions | kChecksumTcpOptions | kChecksumTcp | kChecksumUdp | kChecksumIp;
    offload.ipv6_send = offload.ipv6_receive =
        kChecksumIpOptions | kChecksumTcpOptions | kChecksumTcp | kChecksumUdp;  // the first: extension headers
    offload.lso_ipv4_encapsulation = offload.lso_ipv6_encapsulation = kEncapsulationEthernet;
    offload.lso_ipv4_max = offload.lso_ipv6_max = kMaxLargeSend;
    offload.lso_ipv4_min_segments = offload.lso_ipv6_min_segments = 2;
    offload.lso_ipv6_options = kChecksumIpOptions | kChecksumTcpOptions;
    answer.put(&offload, offload.header.size);
    return kStatusSuccess;
}

u32 Rndis::rss_capabilities(Answer& answer) const {
    RssCapabilities caps{};
    caps.header = {kObjectRssCapabilities, 2, sizeof caps};
    caps.flags = kRssClassifyAtIsr | kRssClassifyAtDpc | kRssToeplitz | kRssIpv4 | kRssIpv6;
    caps.message_count = caps.queue_count = queues_;
    caps.table_entries = kRssTableEntries;
    answer.put(&caps, sizeof caps);
    return kStatusSuccess;
}

u32 Rndis::set_object(u32 oid, std::span<const u8> input) {
    switch (oid) {
        case kOidPacketFilter:
            if (input.size() < sizeof filter_) return kStatusInvalidLength;
            filter_ = read<u32>(input);
            return kStatusSuccess;
        case kOidLookahead:
            if (input.size() < sizeof lookahead_) return kStatusInvalidLength;
            lookahead_ = read<u32>(input);
            return kStatusSuccess;
        case kOidProtocolOptions:  // hints to the driver of a medium that this is not
        case kOidNetworkAddresses:
            return kStatusSuccess;
        case kOidMulticastList:
            return set_multicast(input);
        case kOidOffloadParameters:
            return set_offload(input);
        case kOidRssParameters:
            return set_rss(input);
        case kOidConfigParameter:
            return set_parameter(input);
        default:
            return kStatusNotSupported;
    }
}

u32 Rndis::set_multicast(std::span<const u8> input) {
    constexpr std::size_t kEach = sizeof multicast_[0];
    if (input.size() % kEach != 0 || input.size() / kEach > kMaxMulticast) return kStatusInvalidLength;
    multicast_count_ = static_cast<u32>(input.size() / kEach);
    for (u32 i = 0; i < multicast_count_; ++i) multicast_[i] = read<std::array<u8, 6>>(input, i * kEach);
    return kStatusSuccess;
}

/// What is sent goes by its per-packet information, so only reception has anything to turn on.
u32 Rndis::set_offload(std::span<const u8> input) {
    const auto wanted = read<OffloadParameters>(input);
    if (input.size() < sizeof wanted) return kStatusInvalidLength;
    if (wanted.header.type != kObjectDefault || wanted.header.revision == 0) return kStatusInvalidData;
    const std::pair<u8, bool*> fields[] = {{wanted.ipv4, &receive_ip_},
                                           {wanted.tcp4, &receive_tcp4_},
                                           {wanted.udp4, &receive_udp4_},
                                           {wanted.tcp6, &receive_tcp6_},
                                           {wanted.udp6, &receive_udp6_}};
    for (const auto& [value, on] : fields) {
        if (value > kOffloadBoth) return kStatusInvalidData;
    }
    for (const auto& [value, on] : fields) {
        if (value != 0) *on = value == kOffloadReceive || value == kOffloadBoth;
    }
    return kStatusSuccess;
}

u32 Rndis::set_rss(std::span<const u8> input) {
    const auto wanted = read<RssParameters>(input);
    if (input.size() < sizeof wanted) return kStatusInvalidLength;
    if (wanted.header.type != kObjectRssParameters) return kStatusInvalidData;
    if ((wanted.flags & kRssDisable) != 0 || wanted.hash == 0) {
        rss_ = false;
        return kStatusSuccess;
    }
    const bool table = (wanted.flags & kRssTableUnchanged) == 0, key = (wanted.flags & kRssKeyUnchanged) == 0;
    const u32 entries = wanted.table_bytes / sizeof(u32);
    if (table &&
        (entries == 0 || entries > kRssTableEntries || !fits(wanted.table_offset, wanted.table_bytes, input.size())))
        return kStatusInvalidLength;
    if (key && (wanted.key_bytes != kRssKeyBytes || !fits(wanted.key_offset, wanted.key_bytes, input.size())))
        return kStatusInvalidLength;
    if ((wanted.flags & kRssHashUnchanged) == 0) {
        if ((wanted.hash & 0xff) != kHashToeplitz) return kStatusNotSupported;
        rss_hash_ = wanted.hash;
    }
    if (table) {
        rss_entries_ = entries;
        for (u32 i = 0; i < entries; ++i) {
            rss_table_[i] = static_cast<u8>(read<u32>(input, wanted.table_offset + i * sizeof(u32)) % queues_);
        }
    }
    if (key) rss_key_ = read<std::array<u8, kRssKeyBytes>>(input, wanted.key_offset);
    rss_ = rss_entries_ != 0;
    return kStatusSuccess;
}

/// The one parameter that there is: the address, as twelve hexadecimal digits.
u32 Rndis::set_parameter(std::span<const u8> input) {
    constexpr std::string_view kName = "NetworkAddress";
    const auto parameter = read<ConfigParameter>(input);
    if (input.size() < sizeof parameter || !fits(parameter.name_offset, parameter.name_length, input.size()) ||
        !fits(parameter.value_offset, parameter.value_length, input.size()))
        return kStatusInvalidLength;
    if (parameter.name_length != 2 * kName.size()) return kStatusNotSupported;
    for (u32 i = 0; i < kName.size(); ++i) {
        if (read<u16>(input, parameter.name_offset + 2 * i) != kName[i]) return kStatusNotSupported;
    }
    std::array<u8, 6> address{};
    if (parameter.value_length != 4 * address.size()) return kStatusInvalidData;
    for (u32 i = 0; i < 2 * address.size(); ++i) {
        const u8 digit = hex_value(read<u16>(input, parameter.value_offset + 2 * i));
        if (digit > 15) return kStatusInvalidData;
        address[i / 2] = static_cast<u8>(address[i / 2] << 4 | digit);
    }
    if ((address[0] & 1) != 0) return kStatusInvalidData;  // a group's
    address_ = address;
    return kStatusSuccess;
}

bool Rndis::accepts(std::span<const u8> destination) const {
    if ((filter_ & kFilterPromiscuous) != 0) return true;
    if ((destination[0] & 1) == 0)
        return (filter_ & kFilterDirected) != 0 && std::equal(address_.begin(), address_.end(), destination.begin());
    if (std::all_of(destination.begin(), destination.begin() + 6, [](u8 byte) { return byte == 0xff; }))
        return (filter_ & kFilterBroadcast) != 0;
    if ((filter_ & kFilterAllMulticast) != 0) return true;
    if ((filter_ & kFilterMulticast) == 0) return false;
    const auto end = multicast_.begin() + static_cast<std::ptrdiff_t>(multicast_count_);
    return std::any_of(multicast_.begin(), end,
                       [&](const auto& each) { return std::equal(each.begin(), each.end(), destination.begin()); });
}

/// The input of the hash is source and destination address, and for TCP both ports, in the order of the wire.
Rndis::Placement Rndis::place(u16 ether_type, std::span<const u8> packet) const {
    if (!rss_) return {};
    std::array<u8, 36> input{};
    u32 size = 0;
    const auto take = [&](u64 at, u32 bytes) {
        std::memcpy(input.data() + size, packet.data() + at, bytes);
        size += bytes;
    };
    if (ether_type == kIpv4 && packet.size() >= 20) {
        const u32 header = (packet[0] & 15u) * 4;
        const bool fragment = (big_endian<u16>(packet, 6) & 0x3fff) != 0;
        const bool tcp = packet[9] == kTcp && !fragment && header >= 20 && packet.size() >= header + 4;
        const bool ports = tcp && (rss_hash_ & kHashTcpIpv4) != 0;
        if (ports || (rss_hash_ & kHashIpv4) != 0) take(12, 8);
        if (ports) take(header, 4);
    } else if (ether_type == kIpv6 && packet.size() >= 40) {
        const bool ports = packet[6] == kTcp && packet.size() >= 44 && (rss_hash_ & kHashTcpIpv6) != 0;
        if (ports || (rss_hash_ & kHashIpv6) != 0) take(8, 32);
        if (ports) take(40, 4);
    }
    if (size == 0) return {rss_table_[0], std::nullopt};
    const u32 hash = toeplitz(rss_key_, std::span(input).first(size));
    return {rss_table_[hash % rss_entries_], hash};
}

}  // namespace vg::hv::vsp
