// Keyboard, mouse, video, dynamic memory, PCI, sockets, integration components: which message it is, and its header.
// D-80..D-121.
#include "ui/model/vmbus_decode.h"

namespace vg::model {

namespace {

template <std::size_t kCount>
std::string_view pick(const std::string_view (&names)[kCount], u64 index) {
    return index < kCount ? names[index] : std::string_view();
}

/// Title and field for a numbered message.
void name_it(Decoded& out, std::string_view protocol, std::string_view name, u64 type) {
    const std::string what = name.empty() ? fmt::format("message {:#x}", type) : std::string(name);
    out.title = fmt::format("{} {}", protocol, what);
    out.add("message", what);
}

/// {1, size} in front of a message (D-83, D-90, D-100, D-115); reports a size that is not there.
ByteReader pipe_payload(ByteReader& in, Decoded& out) {
    const u32 type = in.word(0), size = in.word(4);
    out.add("pipe_type", type);
    out.add("pipe_size", size);
    ByteReader body = in.from(8);
    out.malformed |= !in.is_short() && size > body.size();
    return body;
}

std::string version_text(u32 version) { return fmt::format("{}.{}", version >> 16, version & 0xffff); }

}  // namespace

void decode_keyboard(ByteReader& in, Decoded& out) {
    static constexpr std::string_view kNames[] = {"", "PROTOCOL_REQUEST", "PROTOCOL_RESPONSE", "EVENT",
                                                  "LED_INDICATORS"};
    const u32 type = in.word(0);
    name_it(out, "keyboard", pick(kNames, type), type);
    switch (type) {
        case 1:
            out.add("version", version_text(in.word(4)));
            break;
        case 2:
            out.add("accepted", in.word(4) & 1);
            break;
        case 3: {
            const u16 code = in.half(4);
            const u32 info = in.word(8);
            out.add_hex("make_code", code);
            out.add("break", info >> 1 & 1);
            out.add("e0", info >> 2 & 1);
            out.add("e1", info >> 3 & 1);
            out.title += fmt::format(" {:#x} {}", code, (info & 2) != 0 ? "up" : "down");
            break;
        }
        case 4:
            out.add_hex("leds", in.word(4));
            break;
        default:
            break;
    }
}

void decode_mouse(ByteReader& in, Decoded& out) {
    static constexpr std::string_view kNames[] = {"PROTOCOL_REQUEST", "PROTOCOL_RESPONSE", "INITIAL_DEVICE_INFO",
                                                  "INITIAL_DEVICE_INFO_ACK", "INPUT_REPORT"};
    ByteReader body = pipe_payload(in, out);
    const u32 type = body.word(0), size = body.word(4);
    name_it(out, "mouse", pick(kNames, type), type);
    out.add("size", size);
    if (type <= 1) out.add("version", version_text(body.word(8)));
    if (type == 1) out.add("approved", body.byte(12));
    body.judge(out);
}

void decode_video(ByteReader& in, Decoded& out) {
    static constexpr std::string_view kNames[] = {"",
                                                  "VERSION_REQUEST",
                                                  "VERSION_RESPONSE",
                                                  "VRAM_LOCATION",
                                                  "VRAM_LOCATION_ACK",
                                                  "SITUATION_UPDATE",
                                                  "SITUATION_UPDATE_ACK",
                                                  "POINTER_POSITION",
                                                  "POINTER_SHAPE",
                                                  "FEATURE_CHANGE",
                                                  "DIRT",
                                                  "",
                                                  "",
                                                  "RESOLUTION_REQUEST",
                                                  "RESOLUTION_RESPONSE"};
    ByteReader body = pipe_payload(in, out);
    const u32 type = body.word(0), size = body.word(4);
    name_it(out, "video", pick(kNames, type), type);
    out.add("size", size);
    switch (type) {
        case 1:
        case 2:
            out.add("version", fmt::format("{}.{}", body.word(8) & 0xffff, body.word(8) >> 16));
            if (type == 2) out.add("accepted", body.byte(12));
            break;
        case 3:
            out.add_hex("context", body.quad(8));
            out.add_hex("gpa", body.quad(17));
            break;
        case 5:
            out.add("width", body.word(23));
            out.add("height", body.word(27));
            out.add("pitch", body.word(31));
            out.title += fmt::format(" {}x{}", body.word(23), body.word(27));
            break;
        case 10: {
            const u8 count = body.byte(9);
            out.add("rectangles", count);
            if (count != 0)
                out.add("first", fmt::format("{},{} {},{}", body.get<s32>(10), body.get<s32>(14), body.get<s32>(18),
                                             body.get<s32>(22)));
            break;
        }
        default:
            break;
    }
    body.judge(out);
}

void decode_integration(ByteReader& in, Service service, Decoded& out) {
    static constexpr std::string_view kTypes[] = {"NEGOTIATE", "HEARTBEAT", "KVP_EXCHANGE", "SHUTDOWN", "TIMESYNC",
                                                  "VSS",       "",          "FILE_COPY"};
    ByteReader body = pipe_payload(in, out);
    const u16 type = body.half(4), size = body.half(10);
    const u8 flags = body.byte(17);
    name_it(out, service_name(service), pick(kTypes, type), type);
    out.add("framework", fmt::format("{}.{}", body.half(0), body.half(2)));
    out.add("message_version", fmt::format("{}.{}", body.half(6), body.half(8)));
    out.add("size", size);
    out.add_hex("status", body.word(12));
    out.add("transaction", body.byte(16));
    out.add("direction", (flags & 4) != 0 ? "response" : (flags & 2) != 0 ? "request" : "none");
    out.title += (flags & 4) != 0 ? " response" : (flags & 2) != 0 ? " request" : "";
    ByteReader message = body.from(20);
    out.malformed |= !body.is_short() && size > message.size();
    switch (type) {
        case 0: {
            const u16 frameworks = message.half(0), versions = message.half(2);
            out.add("frameworks", frameworks);
            out.add("versions", versions);
            for (u32 i = 0; i < Decoded::kMaxListed && i < u32{frameworks} + versions; ++i)
                out.add(i < frameworks ? "offered_framework" : "offered_version",
                        fmt::format("{}.{}", message.half(8 + 4 * i), message.half(10 + 4 * i)));
            break;
        }
        case 1:
            out.add("sequence", message.quad(0));
            break;
        case 2: {
            static constexpr std::string_view kOps[] = {"GET",       "SET",         "DELETE",
                                                        "ENUMERATE", "GET_IP_INFO", "SET_IP_INFO"};
            const u8 operation = message.byte(0);
            out.add("operation", pick(kOps, operation));
            out.add("pool", message.byte(1));
            out.title += fmt::format(" {}", pick(kOps, operation));
            break;
        }
        case 3:
            out.add("reason", message.word(0));
            out.add("timeout", message.word(4));
            out.add("flags", message.word(8));
            break;
        case 4:
            out.add("host_time_100ns", message.quad(0));
            break;
        case 5: {
            static constexpr std::string_view kOps[] = {"CREATE",   "DELETE", "HOT_BACKUP", "GET_DM_INFO",
                                                        "COMPLETE", "FREEZE", "THAW",       "AUTO_RECOVER"};
            const u8 operation = message.byte(0);
            out.add("operation", pick(kOps, operation));
            out.title += fmt::format(" {}", pick(kOps, operation));
            break;
        }
        default:
            break;
    }
    body.judge(out);
    message.judge(out);
}

void decode_balloon(ByteReader& in, Decoded& out) {
    static constexpr std::string_view kNames[] = {"",
                                                  "VERSION_REQUEST",
                                                  "VERSION_RESPONSE",
                                                  "CAPABILITIES_REPORT",
                                                  "CAPABILITIES_RESPONSE",
                                                  "STATUS_REPORT",
                                                  "BALLOON_REQUEST",
                                                  "BALLOON_RESPONSE",
                                                  "UNBALLOON_REQUEST",
                                                  "UNBALLOON_RESPONSE",
                                                  "MEM_HOT_ADD_REQUEST",
                                                  "MEM_HOT_ADD_RESPONSE",
                                                  "INFO_MESSAGE"};
    const u16 type = in.half(0), size = in.half(2);
    name_it(out, "memory", pick(kNames, type), type);
    out.add("size", size);
    out.add("transaction", in.word(4));
    out.malformed |= !in.is_short() && size > in.size();
    switch (type) {
        case 1:
            out.add("version", version_text(in.word(8)));
            break;
        case 5:
            out.add("available_pages", in.quad(8));
            out.add("committed_pages", in.quad(16));
            break;
        case 6:
            out.add("pages", in.word(8));
            break;
        case 7:
            out.add("ranges", in.word(12) >> 1);
            break;
        case 8:
            out.add("ranges", in.word(12));
            break;
        default:
            break;
    }
}

void decode_pci(ByteReader& in, bool completion, Decoded& out) {
    if (completion) {
        out.title = "PCI completion";
        if (in.size() >= 4) {
            out.add_hex("status", in.word(0));
            out.title += fmt::format(": {:#x}", in.word(0));
        }
        return;
    }
    static constexpr std::string_view kNames[] = {"BUS_RELATIONS",
                                                  "QUERY_BUS_RELATIONS",
                                                  "",
                                                  "",
                                                  "POWER_STATE_CHANGE",
                                                  "QUERY_RESOURCE_REQUIREMENTS",
                                                  "QUERY_RESOURCE_RESOURCES",
                                                  "BUS_D0ENTRY",
                                                  "BUS_D0EXIT",
                                                  "READ_BLOCK",
                                                  "WRITE_BLOCK",
                                                  "EJECT",
                                                  "QUERY_STOP",
                                                  "REENABLE",
                                                  "QUERY_STOP_FAILED",
                                                  "EJECTION_COMPLETE",
                                                  "RESOURCES_ASSIGNED",
                                                  "RESOURCES_RELEASED",
                                                  "INVALIDATE_BLOCK",
                                                  "QUERY_PROTOCOL_VERSION",
                                                  "CREATE_INTERRUPT_MESSAGE",
                                                  "DELETE_INTERRUPT_MESSAGE",
                                                  "RESOURCES_ASSIGNED2",
                                                  "CREATE_INTERRUPT_MESSAGE2",
                                                  "DELETE_INTERRUPT_MESSAGE2",
                                                  "BUS_RELATIONS2",
                                                  "RESOURCES_ASSIGNED3",
                                                  "CREATE_INTERRUPT_MESSAGE3"};
    constexpr u32 kBase = 0x42490000;
    const u32 type = in.word(0);
    name_it(out, "PCI", type >= kBase ? pick(kNames, type - kBase) : std::string_view(), type);
    if (type == kBase + 0x13) out.add("version", version_text(in.word(4)));
    if (type == kBase || type == kBase + 0x19) out.add("functions", in.word(4));
}

void decode_socket(ByteReader& in, Decoded& out) {
    const ByteReader body = pipe_payload(in, out);
    out.title = in.word(4) == 0 ? "socket end of data" : fmt::format("socket data, {} bytes", in.word(4));
    (void)body;
}

}  // namespace vg::model
