// Ring packets: descriptors and ranges; the payload is its service's.
#include <algorithm>

#include "hv/vmbus/channel.h"
#include "hv/vmbus/gpadl.h"
#include "ui/model/vmbus_decode.h"

namespace vg::model {

namespace {

using namespace hv::vmbus;

/// Counts that a descriptor of 512 KiB could at most back: what a guest says above it is a lie.
constexpr u64 kMaxRangesLooked = 4096;

/// {length, offset, pfn[]} after `at`, one after the other.
void gpa_ranges(ByteReader& in, u64 at, u64 end, PacketView& view) {
    for (u32 i = 0; i < view.range_count; ++i) {
        if (i == kMaxRangesLooked || end - at < sizeof(GpaRange)) {
            view.malformed = true;
            return;
        }
        const auto range = in.get<GpaRange>(at);
        if (in.is_short() || in.is_cut()) return;
        at += sizeof range;
        const u64 pages = pages_spanned(range.byte_offset, range.byte_count);
        if (pages > (end - at) / 8) {
            view.malformed = true;
            return;
        }
        view.range_bytes += range.byte_count;
        if (view.ranges.size() < Decoded::kMaxListed)
            view.ranges.push_back({range.byte_count, range.byte_offset, pages != 0 ? in.quad(at) : 0, pages});
        at += pages * 8;
    }
}

/// {byte count, byte offset} in the receive buffer.
void transfer_ranges(ByteReader& in, u64 at, u64 end, PacketView& view) {
    if (view.range_count > (end - at) / sizeof(GpaRange)) {
        view.malformed = true;
        return;
    }
    for (u32 i = 0; i < view.range_count; ++i, at += sizeof(GpaRange)) {
        const auto range = in.get<GpaRange>(at);
        if (in.is_cut()) return;
        view.range_bytes += range.byte_count;
        if (view.ranges.size() < Decoded::kMaxListed)
            view.ranges.push_back({range.byte_count, range.byte_offset, 0, 0});
    }
}

void add_ranges(const PacketView& view, Decoded& out) {
    if (view.range_count == 0) return;
    out.add("ranges", view.range_count);
    out.add("range_bytes", view.range_bytes);
    for (const PacketRange& range : view.ranges) {
        out.add("range", range.page_count != 0
                             ? fmt::format("{} bytes at {:#x} of {} pages from pfn {:#x}", range.byte_count,
                                           range.byte_offset, range.page_count, range.first_pfn)
                             : fmt::format("{} bytes at {:#x}", range.byte_count, range.byte_offset));
    }
}

}  // namespace

std::string_view packet_type_name(u16 type) {
    if (type == kContentType) return "content";
    switch (static_cast<PacketType>(type)) {
        case PacketType::InBand:
            return "in-band";
        case PacketType::TransferPages:
            return "transfer-pages";
        case PacketType::Gpadl:
            return "GPADL";
        case PacketType::GpaDirect:
            return "GPA-direct";
        case PacketType::Completion:
            return "completion";
    }
    return "unknown";
}

PacketView view_packet(std::span<const u8> packet, u64 whole) {
    PacketView view;
    ByteReader in(packet, std::max<u64>(whole, packet.size()));
    view.descriptor = in.get<PacketDescriptor>(0);
    if (in.is_short() || in.is_cut()) {
        view.malformed = in.is_short();
        view.cut = in.is_cut();
        return view;
    }
    view.length = u32{view.descriptor.total_length8} * 8;
    const u64 offset = u64{view.descriptor.data_offset8} * 8;
    if (offset < sizeof(PacketDescriptor) || offset > view.length) {
        view.malformed = true;
        return view;
    }
    // The descriptor has the true length (base/tap_kinds.def); a capture may hold less, never more.
    in = ByteReader(packet.first(std::min<u64>(packet.size(), view.length)), view.length);
    const auto type = static_cast<PacketType>(view.descriptor.type);
    if (type == PacketType::GpaDirect || type == PacketType::TransferPages) {
        view.range_count = in.word(sizeof(PacketDescriptor) + 4);
        constexpr u64 kFirst = sizeof(PacketDescriptor) + sizeof(GpaDirectHeader);
        if (offset < kFirst)
            view.malformed = true;
        else if (type == PacketType::GpaDirect)
            gpa_ranges(in, kFirst, offset, view);
        else
            transfer_ranges(in, kFirst, offset, view);
    }
    const ByteReader payload = in.from(offset);
    view.payload = payload.bytes();
    view.payload_size = payload.size();
    view.malformed |= in.is_short();
    view.cut |= in.is_cut();
    return view;
}

Decoded decode_packet(const PacketView& packet, Service service) {
    Decoded out;
    out.add("type", packet_type_name(packet.descriptor.type));
    out.add("length", packet.length);
    out.add_hex("flags", packet.descriptor.flags);
    add_ranges(packet, out);
    if (packet.is_completion() && packet.payload_size == 0) {
        out.title = "completion";
    } else if (!packet.malformed && packet.length != 0) {  // else the descriptor itself was cut
        ByteReader in(packet.payload, packet.payload_size);
        switch (service) {
            case Service::Storage:
            case Service::Ide:
                decode_storage(in, packet, out);
                break;
            case Service::Network:
                packet.descriptor.type == kContentType ? decode_rndis(in, out) : decode_network(in, out);
                break;
            case Service::Keyboard:
                decode_keyboard(in, out);
                break;
            case Service::Mouse:
                decode_mouse(in, out);
                break;
            case Service::Video:
                decode_video(in, out);
                break;
            case Service::Heartbeat:
            case Service::Shutdown:
            case Service::TimeSync:
            case Service::Kvp:
            case Service::Vss:
            case Service::FileCopy:
                decode_integration(in, service, out);
                break;
            case Service::DynamicMemory:
                decode_balloon(in, out);
                break;
            case Service::Pci:
                decode_pci(in, packet.is_completion(), out);
                break;
            case Service::Socket:
                decode_socket(in, out);
                break;
            case Service::Unknown:
            case Service::Other:
            case Service::Count:
                break;
        }
        in.judge(out);
    }
    out.malformed |= packet.malformed;
    out.cut |= packet.cut;
    if (out.title.empty())
        out.title = fmt::format("{} packet, {} bytes", packet_type_name(packet.descriptor.type), packet.payload_size);
    return out;
}

}  // namespace vg::model
