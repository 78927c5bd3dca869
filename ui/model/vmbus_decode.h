// VMBus on the wire, explained: channel messages (V-30..V-49) and ring packets (V-75..V-78, D-30..D-121). Everything
// here takes whatever bytes a guest wrote.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "hv/spec/vmbus.h"
#include "ui/model/decoded.h"
#include "ui/model/vmbus_services.h"

namespace vg::model {

/// "OFFERCHANNEL"; "unknown" for a number without a message.
[[nodiscard]] std::string_view vmbus_message_name(u32 type);
/// "in-band", "GPA-direct", "completion"...; "unknown".
[[nodiscard]] std::string_view packet_type_name(u16 type);

/// A channel message, its header included.
/// @param whole  its size before it was cut
[[nodiscard]] Decoded decode_vmbus_message(std::span<const u8> message, u64 whole);

/// A range of a GPA-direct or transfer-page packet.
struct PacketRange {
    u32 byte_count = 0, byte_offset = 0;
    u64 first_pfn = 0, page_count = 0;  ///< GPA-direct only
};

/// A ring packet: what its descriptor says, its ranges, and where its payload is in the bytes given.
struct PacketView {
    hv::vmbus::PacketDescriptor descriptor{};
    u32 length = 0;                   ///< by the descriptor
    u32 range_count = 0;              ///< as it says
    u64 range_bytes = 0;              ///< of the ranges that were looked at
    std::vector<PacketRange> ranges;  ///< at most Decoded::kMaxListed
    std::span<const u8> payload;      ///< as far as it was captured
    u64 payload_size = 0;             ///< in the ring
    bool malformed = false, cut = false;

    [[nodiscard]] bool is_completion() const {
        return descriptor.type == static_cast<u16>(hv::vmbus::PacketType::Completion);
    }
    [[nodiscard]] bool wants_completion() const {
        return !is_completion() && (descriptor.flags & hv::vmbus::kPacketCompletionRequested) != 0;
    }
};
/// @param packet  lives as long as the view's payload is used
[[nodiscard]] PacketView view_packet(std::span<const u8> packet, u64 whole);

/// What a packet says, by the service of its channel.
[[nodiscard]] Decoded decode_packet(const PacketView& packet, Service service);

// ---- by service; `in` is the payload. All set title and fields, and nothing else but what `in` judges.
void decode_storage(ByteReader& in, const PacketView& packet, Decoded& out);
void decode_network(ByteReader& in, Decoded& out);
/// Messages in buffers of the network service (hv::vmbus::kContentType).
void decode_rndis(ByteReader& in, Decoded& out);
void decode_keyboard(ByteReader& in, Decoded& out);
void decode_mouse(ByteReader& in, Decoded& out);
void decode_video(ByteReader& in, Decoded& out);
/// Heartbeat, shutdown, time synchronization, KVP, VSS, file copy.
void decode_integration(ByteReader& in, Service service, Decoded& out);
void decode_balloon(ByteReader& in, Decoded& out);
void decode_pci(ByteReader& in, bool completion, Decoded& out);
void decode_socket(ByteReader& in, Decoded& out);

/// "READ(10)"; "" for a command without a name here.
[[nodiscard]] std::string_view scsi_command_name(u8 opcode);

}  // namespace vg::model
