// Remote NDIS messages in the buffers of the network service (D-65..D-74).
#include <algorithm>

#include "hv/spec/rndis.h"
#include "ui/model/vmbus_decode.h"

namespace vg::model {

namespace {

using namespace hv::rndis;

/// Messages of one packet that are looked at, pieces of per-packet information of one message.
constexpr u32 kMaxMessages = 8, kMaxInfos = 16;

std::string_view message_name(u32 type) {
    switch (static_cast<MessageType>(type)) {
        case MessageType::Packet:
            return "PACKET";
        case MessageType::Initialize:
            return "INITIALIZE";
        case MessageType::Halt:
            return "HALT";
        case MessageType::Query:
            return "QUERY";
        case MessageType::Set:
            return "SET";
        case MessageType::Reset:
            return "RESET";
        case MessageType::IndicateStatus:
            return "INDICATE_STATUS";
        case MessageType::KeepAlive:
            return "KEEPALIVE";
        case MessageType::InitializeComplete:
            return "INITIALIZE_CMPLT";
        case MessageType::QueryComplete:
            return "QUERY_CMPLT";
        case MessageType::SetComplete:
            return "SET_CMPLT";
        case MessageType::ResetComplete:
            return "RESET_CMPLT";
        case MessageType::KeepAliveComplete:
            return "KEEPALIVE_CMPLT";
    }
    return "";
}

constexpr std::pair<u32, std::string_view> kObjectNames[] = {
    {kOidSupportedList, "SUPPORTED_LIST"},
    {kOidMaxFrameSize, "MAXIMUM_FRAME_SIZE"},
    {kOidLinkSpeed, "LINK_SPEED"},
    {kOidPacketFilter, "CURRENT_PACKET_FILTER"},
    {kOidMediaConnect, "MEDIA_CONNECT_STATUS"},
    {kOidRssCapabilities, "RECEIVE_SCALE_CAPABILITIES"},
    {kOidRssParameters, "RECEIVE_SCALE_PARAMETERS"},
    {kOidConfigParameter, "RNDIS_CONFIG_PARAMETER"},
    {kOidFriendlyName, "FRIENDLY_NAME"},
    {kOidPermanentAddress, "PERMANENT_ADDRESS"},
    {kOidCurrentAddress, "CURRENT_ADDRESS"},
    {kOidMulticastList, "MULTICAST_LIST"},
    {kOidOffloadCurrent, "TCP_OFFLOAD_CURRENT_CONFIG"},
    {kOidOffloadParameters, "TCP_OFFLOAD_PARAMETERS"},
    {kOidOffloadCapabilities, "TCP_OFFLOAD_HARDWARE_CAPABILITIES"}};

std::string object_name(u32 oid) {
    const auto* const known = std::find_if(std::begin(kObjectNames), std::end(kObjectNames),
                                           [oid](const auto& each) { return each.first == oid; });
    return known == std::end(kObjectNames) ? fmt::format("object {:#010x}", oid) : std::string(known->second);
}

/// D-74. `at` and `end` lie in the message.
void infos(ByteReader& in, u64 at, u64 end, Decoded& out, std::string& title) {
    for (u32 i = 0; i < kMaxInfos && at < end; ++i) {
        const auto info = in.get<PacketInfo>(at);
        if (in.is_short() || in.is_cut()) return;
        if (info.size < sizeof info || info.size > end - at || info.offset > info.size) {
            out.malformed = true;
            return;
        }
        const u32 value = info.size - info.offset >= sizeof(u32) ? in.word(at + info.offset) : 0;
        at += info.size;
        switch (info.type) {
            case kInfoChecksum:
                out.add_hex("checksum", value);
                title += ", checksum";
                break;
            case kInfoLargeSend:
                out.add("segment_size", value & kLargeSendSizeMask);
                title += fmt::format(", segments of {}", value & kLargeSendSizeMask);
                break;
            case kInfoVlan:
                out.add("vlan", vlan_tci(value) & 0xfff);
                title += fmt::format(", VLAN {}", vlan_tci(value) & 0xfff);
                break;
            case kInfoHash:
                out.add_hex("hash", value);
                break;
            default:
                out.add_hex("information", info.type);
                break;
        }
    }
}

/// D-73. Of a received frame only the headers are told.
std::string packet(ByteReader& in, Decoded& out) {
    const auto packet = in.get<Packet>(kHeaderBytes);
    std::string title = fmt::format(" of {} bytes", packet.data_length);
    out.add("data_offset", packet.data_offset);
    out.add("data_length", packet.data_length);
    if (packet.info_length != 0)
        infos(in, u64{kHeaderBytes} + packet.info_offset, u64{kHeaderBytes} + packet.info_offset + packet.info_length,
              out, title);
    return title;
}

std::string body(ByteReader& in, u32 type, Decoded& out) {
    const u32 id = in.word(kHeaderBytes);
    switch (static_cast<MessageType>(type)) {
        case MessageType::Packet:
            return packet(in, out);
        case MessageType::Query:
        case MessageType::Set: {
            const auto request = in.get<Request>(kHeaderBytes);
            out.add("request", id);
            out.add_hex("oid", request.oid);
            out.add("information_length", request.info_length);
            return " " + object_name(request.oid);
        }
        case MessageType::InitializeComplete:
        case MessageType::QueryComplete:
        case MessageType::SetComplete:
        case MessageType::KeepAliveComplete: {
            const u32 status = in.word(kHeaderBytes + 4);
            out.add("request", id);
            out.add_hex("status", status);
            return status == 0 ? ": ok" : fmt::format(": {:#x}", status);
        }
        case MessageType::IndicateStatus:
            out.add_hex("status", id);
            return id == kStatusMediaConnect ? ": connected" : id == kStatusMediaDisconnect ? ": disconnected" : "";
        case MessageType::Initialize:
        case MessageType::KeepAlive:
        case MessageType::Halt:
            out.add("request", id);
            return "";
        default:
            return "";
    }
}

}  // namespace

void decode_rndis(ByteReader& in, Decoded& out) {
    ByteReader left = in;
    for (u32 i = 0; i < kMaxMessages; ++i) {
        const auto header = left.get<Header>(0);
        if (left.is_short() || left.is_cut()) break;
        const std::string_view name = message_name(header.type);
        out.title += i == 0 ? "RNDIS " : "; ";
        out.title += name.empty() ? fmt::format("message {:#x}", header.type) : std::string(name);
        out.add("message", name.empty() ? "unknown" : name);
        out.add("length", header.length);
        out.title += body(left, header.type, out);
        if (header.length < sizeof header || header.length >= left.size()) break;
        in = left;  // what was read of it counts
        left = left.from(header.length);
        if (left.size() < sizeof header) break;  // padding
    }
    left.judge(out);
    if (out.title.empty()) out.title = "RNDIS";
}

}  // namespace vg::model
