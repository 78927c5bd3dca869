// Events of a bus that never was: what decoders and captures are tested with.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "hv/spec/storvsc.h"
#include "hv/spec/vmbus.h"
#include "ui/model/event_record.h"

namespace vg::test {

template <class T>
void append(std::vector<u8>& out, const T& value) {
    const auto* const bytes = reinterpret_cast<const u8*>(&value);
    out.insert(out.end(), bytes, bytes + sizeof value);
}

template <class Message>
std::vector<u8> message_bytes(hv::vmbus::MessageType type, Message message) {
    message.header = {static_cast<u32>(type), 0};
    std::vector<u8> out;
    append(out, message);
    return out;
}

inline model::EventRecord message_event(std::vector<u8> bytes, bool to_guest, VTime time = 0) {
    model::EventRecord event;
    event.kind = TapKind::VmbusMessage;
    event.partition = 2;
    event.time = time;
    if (bytes.size() >= 4) event.values[0] = bytes[0] | bytes[1] << 8 | bytes[2] << 16;
    event.values[1] = to_guest ? 1 : 0;
    event.payload_size = static_cast<u32>(bytes.size());
    event.payload = std::move(bytes);
    return event;
}

/// A packet with this between descriptor and payload.
inline std::vector<u8> packet_bytes(hv::vmbus::PacketType type, u16 flags, u64 transaction, std::vector<u8> extension,
                                    std::vector<u8> payload) {
    payload.resize((payload.size() + 7) / 8 * 8);
    const u16 header = static_cast<u16>((16 + extension.size()) / 8);
    std::vector<u8> out;
    append(out, hv::vmbus::PacketDescriptor{static_cast<u16>(type), header,
                                            static_cast<u16>(header + payload.size() / 8), flags, transaction});
    out.insert(out.end(), extension.begin(), extension.end());
    out.insert(out.end(), payload.begin(), payload.end());
    return out;
}

inline model::EventRecord packet_event(std::vector<u8> bytes, bool to_guest, VTime time, u16 channel = 1) {
    model::EventRecord event;
    event.kind = TapKind::VmbusPacket;
    event.partition = 2;
    event.time = time;
    hv::vmbus::PacketDescriptor descriptor{};
    std::memcpy(&descriptor, bytes.data(), std::min(bytes.size(), sizeof descriptor));
    event.values[0] = channel;
    event.values[1] = to_guest ? 1 : 0;
    event.values[2] = descriptor.transaction_id;
    event.values[3] = descriptor.type;
    event.payload_size = static_cast<u32>(bytes.size());
    event.payload = std::move(bytes);
    return event;
}

inline std::vector<u8> gpa_direct(u32 bytes, u32 offset, std::vector<u64> pfns) {
    std::vector<u8> out;
    append(out, hv::vmbus::GpaDirectHeader{0, 1});
    append(out, hv::vmbus::GpaRange{bytes, offset});
    for (const u64 pfn : pfns) append(out, pfn);
    return out;
}

inline std::vector<u8> storage_request(std::vector<u8> cdb, u32 bytes, u8 data_in) {
    hv::storvsc::Packet packet{};
    packet.operation = static_cast<u32>(hv::storvsc::Operation::ExecuteSrb);
    packet.flags = 1;
    packet.srb.length = sizeof(hv::storvsc::Srb);
    packet.srb.cdb_length = static_cast<u8>(cdb.size());
    packet.srb.data_in = data_in;
    packet.srb.transfer_length = bytes;
    std::copy(cdb.begin(), cdb.end(), packet.srb.cdb);
    std::vector<u8> out;
    append(out, packet);
    return out;
}

inline std::vector<u8> storage_answer(u8 srb_status, u8 scsi_status, u32 bytes) {
    hv::storvsc::Packet packet{};
    packet.operation = static_cast<u32>(hv::storvsc::Operation::CompleteIo);
    packet.srb.length = sizeof(hv::storvsc::Srb);
    packet.srb.srb_status = srb_status;
    packet.srb.scsi_status = scsi_status;
    packet.srb.transfer_length = bytes;
    if ((srb_status & hv::storvsc::kSrbSenseValid) != 0) {
        packet.srb.sense_length = 18;
        packet.srb.sense[2] = 5;
        packet.srb.sense[12] = 0x20;
    }
    std::vector<u8> out;
    append(out, packet);
    return out;
}

inline std::vector<u8> offer_bytes(const hv::Guid& type, u32 relid) {
    hv::vmbus::OfferChannel offer{};
    offer.type = type;
    offer.instance = hv::guid("00000000-0000-0000-0000-000000000001");
    offer.relid = relid;
    return message_bytes(hv::vmbus::MessageType::OfferChannel, offer);
}

}  // namespace vg::test
