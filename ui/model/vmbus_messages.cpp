// Channel messages.
#include <algorithm>

#include "hv/vmbus/gpadl.h"
#include "ui/model/vmbus_decode.h"

namespace vg::model {

namespace {

using namespace hv::vmbus;

std::string guid_text(const hv::Guid& type) {
    const std::string_view name = interface_name(type);
    return name.empty() ? hv::to_string(type) : fmt::format("{} ({})", hv::to_string(type), name);
}

std::string version_text(u32 version) { return fmt::format("{}.{}", version >> 16, version & 0xffff); }

void offer(ByteReader& in, Decoded& out) {
    const auto m = in.get<OfferChannel>(0);
    out.add("relid", m.relid);
    out.add("interface", guid_text(m.type));
    out.add("instance", hv::to_string(m.instance));
    out.add_hex("flags", m.flags);
    out.add("mmio_megabytes", m.mmio_megabytes);
    out.add("sub_channel", m.sub_channel_index);
    if ((m.monitor_allocated & 1) != 0) out.add("monitor", m.monitor_id);
    out.add_hex("connection", m.connection_id);
    const std::string_view name = interface_name(m.type);
    out.title += fmt::format(" relid {} {}", m.relid, name.empty() ? hv::to_string(m.type) : std::string(name));
    if (m.sub_channel_index != 0) out.title += fmt::format(" sub-channel {}", m.sub_channel_index);
}

void open(ByteReader& in, Decoded& out) {
    const auto m = in.get<OpenChannel>(0);
    out.add("relid", m.relid);
    out.add("open_id", m.open_id);
    out.add_hex("ring_gpadl", m.ring_gpadl);
    out.add_hex("target_vp", m.target_vp);
    out.add("downstream_page_offset", m.downstream_page_offset);
    out.title += fmt::format(" relid {} GPADL {:#x}", m.relid, m.ring_gpadl);
    if (in.size() < sizeof(OpenChannel) + sizeof(OpenChannel2Extra)) return;
    const auto extra = in.get<OpenChannel2Extra>(sizeof(OpenChannel));
    out.add_hex("connection", extra.connection_id);
    out.add("event_flag", extra.event_flag);
}

void gpadl_header(ByteReader& in, Decoded& out) {
    const auto m = in.get<GpadlHeader>(0);
    out.add("relid", m.relid);
    out.add_hex("gpadl", m.gpadl);
    out.add("range_bytes", m.range_bytes);
    out.add("range_count", m.range_count);
    out.title += fmt::format(" relid {} GPADL {:#x}", m.relid, m.gpadl);
    if (m.range_count == 0 || in.size() < sizeof m + sizeof(GpaRange)) return;
    const auto range = in.get<GpaRange>(sizeof m);
    out.add("bytes", range.byte_count);
    out.add("offset", range.byte_offset);
    const u64 pages = pages_spanned(range.byte_offset, range.byte_count);
    const u64 here = (in.size() - sizeof m - sizeof range) / 8;
    out.add("pages", pages);
    out.add("pages_here", std::min(here, pages));
    if (here != 0) out.add_hex("first_pfn", in.quad(sizeof m + sizeof range));
    out.title += fmt::format(" {} pages", pages);
}

void contact(ByteReader& in, Decoded& out) {
    const auto m = in.get<InitiateContact>(0);
    out.add("version", version_text(m.version));
    out.add("target_vp", m.target_vp);
    if (m.version >= kVersion5_0) {
        out.add("sint", static_cast<u8>(m.interrupt_page_or_target));
        out.add("vtl", static_cast<u8>(m.interrupt_page_or_target >> 8));
        out.add_hex("features", m.interrupt_page_or_target >> 32);
    } else {
        out.add_hex("interrupt_page", m.interrupt_page_or_target);
    }
    out.add_hex("parent_to_child_monitor", m.parent_to_child_monitor);
    out.add_hex("child_to_parent_monitor", m.child_to_parent_monitor);
    out.title += " version " + version_text(m.version);
}

void version_response(ByteReader& in, Decoded& out) {
    const auto m = in.get<VersionResponse>(0);
    out.add("supported", m.supported);
    out.add("connection_state", m.connection_state);
    out.add_hex("connection", m.connection_id);
    if (in.size() >= sizeof(VersionResponse2)) out.add_hex("features", in.word(offsetof(VersionResponse2, features)));
    out.title += (m.supported & 1) != 0 ? " accepted" : " refused";
}

void statused(Decoded& out, u32 relid, const char* id_name, u32 id, u32 status) {
    out.add("relid", relid);
    if (id_name != nullptr) out.add_hex(id_name, id);
    out.add_hex("status", status);
    out.title += fmt::format(" relid {}", relid);
    if (id_name != nullptr) out.title += fmt::format(" {} {:#x}", id_name, id);
    out.title += status == kStatusSuccess ? ": ok" : fmt::format(": {:#010x}", status);
}

void relid_only(ByteReader& in, Decoded& out) {
    const u32 relid = in.word(sizeof(MessageHeader));
    out.add("relid", relid);
    out.title += fmt::format(" relid {}", relid);
}

void body(ByteReader& in, Decoded& out, MessageType type) {
    switch (type) {
        case MessageType::OfferChannel:
            return offer(in, out);
        case MessageType::RescindOffer:
        case MessageType::CloseChannel:
        case MessageType::RelidReleased:
            return relid_only(in, out);
        case MessageType::OpenChannel:
            return open(in, out);
        case MessageType::OpenResult: {
            const auto m = in.get<OpenResult>(0);
            return statused(out, m.relid, "open_id", m.open_id, m.status);
        }
        case MessageType::GpadlHeader:
            return gpadl_header(in, out);
        case MessageType::GpadlBody: {
            const auto m = in.get<GpadlBody>(0);
            out.add("message_number", m.message_number);
            out.add_hex("gpadl", m.gpadl);
            out.add("pages_here", in.size() < sizeof m ? 0 : (in.size() - sizeof m) / 8);
            out.title += fmt::format(" GPADL {:#x}", m.gpadl);
            return;
        }
        case MessageType::GpadlCreated: {
            const auto m = in.get<GpadlCreated>(0);
            return statused(out, m.relid, "GPADL", m.gpadl, m.status);
        }
        case MessageType::GpadlTeardown: {
            const auto m = in.get<GpadlTeardown>(0);
            out.add("relid", m.relid);
            out.add_hex("gpadl", m.gpadl);
            out.title += fmt::format(" relid {} GPADL {:#x}", m.relid, m.gpadl);
            return;
        }
        case MessageType::GpadlTorndown:
            out.add_hex("gpadl", in.word(8));
            out.title += fmt::format(" GPADL {:#x}", in.word(8));
            return;
        case MessageType::InitiateContact:
            return contact(in, out);
        case MessageType::VersionResponse:
            return version_response(in, out);
        case MessageType::TlConnectRequest:
        case MessageType::TlConnectResult:
            out.add("endpoint", hv::to_string(in.get<hv::Guid>(8)));
            out.add("service", hv::to_string(in.get<hv::Guid>(24)));
            if (type == MessageType::TlConnectResult) out.add_hex("status", in.word(40));
            return;
        case MessageType::ModifyChannel: {
            const auto m = in.get<ModifyChannel>(0);
            out.add("relid", m.relid);
            out.add_hex("target_vp", m.target_vp);
            out.title += fmt::format(" relid {} to VP {}", m.relid, m.target_vp);
            return;
        }
        case MessageType::ModifyChannelResponse: {
            const auto m = in.get<ModifyChannelResponse>(0);
            return statused(out, m.relid, nullptr, 0, m.status);
        }
        case MessageType::RequestOffers:
        case MessageType::AllOffersDelivered:
        case MessageType::Unload:
        case MessageType::UnloadResponse:
            return;
    }
}

}  // namespace

std::string_view vmbus_message_name(u32 type) {
    constexpr std::string_view kNames[] = {"invalid",
                                           "OFFERCHANNEL",
                                           "RESCIND_CHANNELOFFER",
                                           "REQUESTOFFERS",
                                           "ALLOFFERS_DELIVERED",
                                           "OPENCHANNEL",
                                           "OPENCHANNEL_RESULT",
                                           "CLOSECHANNEL",
                                           "GPADL_HEADER",
                                           "GPADL_BODY",
                                           "GPADL_CREATED",
                                           "GPADL_TEARDOWN",
                                           "GPADL_TORNDOWN",
                                           "RELID_RELEASED",
                                           "INITIATE_CONTACT",
                                           "VERSION_RESPONSE",
                                           "UNLOAD",
                                           "UNLOAD_RESPONSE",
                                           "OPEN_RESERVED_CHANNEL",
                                           "CLOSE_RESERVED_CHANNEL",
                                           "CLOSE_RESERVED_RESPONSE",
                                           "TL_CONNECT_REQUEST",
                                           "MODIFYCHANNEL",
                                           "TL_CONNECT_RESULT",
                                           "MODIFYCHANNEL_RESPONSE",
                                           "MODIFY_CONNECTION",
                                           "MODIFY_CONNECTION_RESPONSE",
                                           "PAUSE",
                                           "PAUSE_RESPONSE",
                                           "RESUME"};
    return type != 0 && type < std::size(kNames) ? kNames[type] : "unknown";
}

Decoded decode_vmbus_message(std::span<const u8> message, u64 whole) {
    Decoded out;
    ByteReader in(message, std::max<u64>(whole, message.size()));
    const u32 type = in.word(0);
    (void)in.word(4);
    out.title = vmbus_message_name(type);
    if (vmbus_message_name(type) == "unknown") out.title += fmt::format(" message {}", type);
    if (!in.is_short() && !in.is_cut()) body(in, out, static_cast<MessageType>(type));
    in.judge(out);
    out.malformed |= in.size() > kMaxMessageSize;
    return out;
}

}  // namespace vg::model
