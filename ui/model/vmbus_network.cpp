// The network protocol: NVSP messages (D-50..D-64) and the RNDIS messages behind them (D-65..D-74).
#include "ui/model/vmbus_decode.h"

namespace vg::model {

namespace {

enum Nvsp : u32 {
    kInit = 1,
    kInitComplete = 2,
    kSendNdisVersion = 100,
    kSendReceiveBuffer = 101,
    kSendReceiveBufferComplete = 102,
    kRevokeReceiveBuffer = 103,
    kSendSendBuffer = 104,
    kSendSendBufferComplete = 105,
    kRevokeSendBuffer = 106,
    kSendRndisPacket = 107,
    kSendRndisPacketComplete = 108,
    kSendNdisConfig = 125,
    kSendVfAssociation = 128,
    kSwitchDataPath = 129,
    kSubChannel = 133,
    kIndirectionTable = 134
};

std::string_view nvsp_name(u32 type) {
    switch (type) {
        case kInit:
            return "NVSP INIT";
        case kInitComplete:
            return "NVSP INIT_COMPLETE";
        case kSendNdisVersion:
            return "NVSP SEND_NDIS_VERSION";
        case kSendReceiveBuffer:
            return "NVSP SEND_RECV_BUF";
        case kSendReceiveBufferComplete:
            return "NVSP SEND_RECV_BUF_COMPLETE";
        case kRevokeReceiveBuffer:
            return "NVSP REVOKE_RECV_BUF";
        case kSendSendBuffer:
            return "NVSP SEND_SEND_BUF";
        case kSendSendBufferComplete:
            return "NVSP SEND_SEND_BUF_COMPLETE";
        case kRevokeSendBuffer:
            return "NVSP REVOKE_SEND_BUF";
        case kSendRndisPacket:
            return "NVSP SEND_RNDIS_PKT";
        case kSendRndisPacketComplete:
            return "NVSP SEND_RNDIS_PKT_COMPLETE";
        case kSendNdisConfig:
            return "NVSP SEND_NDIS_CONFIG";
        case kSendVfAssociation:
            return "NVSP SEND_VF_ASSOCIATION";
        case kSwitchDataPath:
            return "NVSP SWITCH_DATA_PATH";
        case kSubChannel:
            return "NVSP SUBCHANNEL";
        case kIndirectionTable:
            return "NVSP INDIRECTION_TABLE";
        default:
            return "";
    }
}

void buffers(ByteReader& in, u32 type, Decoded& out) {
    switch (type) {
        case kSendReceiveBuffer:
        case kSendSendBuffer:
            out.add_hex("gpadl", in.word(4));
            out.add_hex("id", in.half(8));
            break;
        case kSendReceiveBufferComplete:
            out.add("status", in.word(4));
            out.add("sections", in.word(8));
            if (in.word(8) == 0) break;
            out.add("section_offset", in.word(12));
            out.add("section_size", in.word(16));
            out.add("section_count", in.word(20));
            break;
        case kSendSendBufferComplete:
            out.add("status", in.word(4));
            out.add("section_size", in.word(8));
            break;
        default:
            out.add_hex("id", in.half(4));
            break;
    }
}

void rndis_packet(ByteReader& in, Decoded& out) {
    constexpr u32 kNoSection = 0xffffffff;
    const u32 channel = in.word(4), section = in.word(8);
    out.add("channel_type", channel == 0 ? "data" : channel == 1 ? "control" : "invalid");
    if (section != kNoSection) {
        out.add("section", section);
        out.add("section_size", in.word(12));
    }
    out.title += channel == 1 ? " control" : " data";
}

void body(ByteReader& in, u32 type, Decoded& out) {
    switch (type) {
        case kInit:
            out.add_hex("min_version", in.word(4));
            out.add_hex("max_version", in.word(8));
            break;
        case kInitComplete:
            out.add_hex("version", in.word(4));
            out.add("max_mdl_chain", in.word(8));
            out.add("status", in.word(12));
            break;
        case kSendNdisVersion:
            out.add("ndis", fmt::format("{}.{}", in.word(4), in.word(8)));
            break;
        case kSendReceiveBuffer:
        case kSendReceiveBufferComplete:
        case kRevokeReceiveBuffer:
        case kSendSendBuffer:
        case kSendSendBufferComplete:
        case kRevokeSendBuffer:
            buffers(in, type, out);
            break;
        case kSendRndisPacket:
            rndis_packet(in, out);
            break;
        case kSendRndisPacketComplete:
            out.add("status", in.word(4));
            break;
        case kSendNdisConfig:
            out.add("mtu", in.word(4));
            out.add_hex("capabilities", in.quad(12));
            break;
        case kSendVfAssociation:
            out.add("allocated", in.word(4));
            out.add("serial", in.word(8));
            break;
        case kSwitchDataPath:
            if (in.size() >= 8) out.add("active", in.word(4));
            break;
        case kSubChannel:
            out.add("operation_or_status", in.word(4));
            out.add("count", in.word(8));
            break;
        case kIndirectionTable:
            out.add("count", in.word(4));
            out.add("offset", in.word(8));
            break;
        default:
            break;
    }
}

}  // namespace

void decode_network(ByteReader& in, Decoded& out) {
    const u32 type = in.word(0);
    const std::string_view name = nvsp_name(type);
    out.title = name.empty() ? fmt::format("NVSP message {}", type) : std::string(name);
    out.add("message", out.title);
    if (!in.is_short() && !in.is_cut()) body(in, type, out);
}

}  // namespace vg::model
