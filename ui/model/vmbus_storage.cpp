// The storage protocol (D-30..D-44) and the SCSI commands in it (SPC-4, SBC-3).
#include <algorithm>

#include "hv/spec/storvsc.h"
#include "ui/model/vmbus_decode.h"

namespace vg::model {

namespace {

using namespace hv::storvsc;

constexpr u64 kUnion = offsetof(Packet, srb);

std::string_view operation_name(u32 operation) {
    constexpr std::string_view kNames[] = {
        "operation 0",      "COMPLETE_IO",   "REMOVE_DEVICE",        "EXECUTE_SRB",         "RESET_LUN",
        "RESET_ADAPTER",    "RESET_BUS",     "BEGIN_INITIALIZATION", "END_INITIALIZATION",  "QUERY_PROTOCOL_VERSION",
        "QUERY_PROPERTIES", "ENUMERATE_BUS", "FCHBA_DATA",           "CREATE_SUB_CHANNELS", "EVENT_NOTIFICATION"};
    return operation < std::size(kNames) ? kNames[operation] : "unknown operation";
}

std::string_view srb_status_name(u8 status) {
    switch (status & 0x3f) {
        case 0x00:
            return "pending";
        case 0x01:
            return "success";
        case 0x02:
            return "aborted";
        case 0x04:
            return "error";
        case 0x06:
            return "invalid request";
        case 0x08:
            return "no device";
        case 0x09:
            return "timeout";
        case 0x0a:
            return "selection timeout";
        case 0x0e:
            return "bus reset";
        case 0x12:
            return "data overrun";
        case 0x20:
            return "invalid LUN";
        case 0x30:
            return "internal error";
        default:
            return "unknown";
    }
}

std::string_view scsi_status_name(u8 status) {
    switch (status) {
        case 0x00:
            return "good";
        case 0x02:
            return "check condition";
        case 0x08:
            return "busy";
        case 0x18:
            return "reservation conflict";
        case 0x28:
            return "task set full";
        default:
            return "unknown";
    }
}

std::string_view sense_key_name(u8 key) {
    constexpr std::string_view kNames[] = {"no sense",       "recovered error", "not ready",      "medium error",
                                           "hardware error", "illegal request", "unit attention", "data protect",
                                           "blank check",    "vendor specific", "copy aborted",   "aborted command",
                                           "reserved",       "volume overflow", "miscompare",     "completed"};
    return kNames[key & 15];
}

u64 big_endian(std::span<const u8> cdb, std::size_t at, std::size_t size) {
    u64 value = 0;
    for (std::size_t i = at; i < at + size; ++i) value = value << 8 | (i < cdb.size() ? cdb[i] : 0);
    return value;
}

/// Where a command has its address and length, by its size.
struct Span {
    std::size_t lba, lba_size, count, count_size;
};
const Span* block_span(u8 opcode) {
    static constexpr Span kSix{1, 3, 4, 1}, kTen{2, 4, 7, 2}, kTwelve{2, 4, 6, 4}, kSixteen{2, 8, 10, 4};
    switch (opcode) {
        case 0x08:
        case 0x0a:
            return &kSix;
        case 0x28:
        case 0x2a:
        case 0x2e:
        case 0x2f:
        case 0x35:
        case 0x41:
            return &kTen;
        case 0xa8:
        case 0xaa:
            return &kTwelve;
        case 0x88:
        case 0x8a:
        case 0x8e:
        case 0x8f:
        case 0x91:
        case 0x93:
            return &kSixteen;
        default:
            return nullptr;
    }
}

void command(std::span<const u8> cdb, Decoded& out) {
    if (cdb.empty()) {
        out.title += " without a command";
        return;
    }
    const u8 opcode = cdb[0];
    const std::string_view name = scsi_command_name(opcode);
    out.add_hex("opcode", opcode);
    out.title = name.empty() ? fmt::format("SCSI command {:#04x}", opcode) : std::string(name);
    if (!name.empty()) out.add("command", name);
    std::string text;
    for (const u8 byte : cdb) text += fmt::format("{:02x} ", byte);
    text.pop_back();
    out.add("cdb", text);
    if (const Span* const span = block_span(opcode)) {
        u64 lba = big_endian(cdb, span->lba, span->lba_size), count = big_endian(cdb, span->count, span->count_size);
        if (opcode == 0x08 || opcode == 0x0a) {
            lba &= 0x1f'ffff;
            if (count == 0) count = 256;
        }
        out.add("lba", lba);
        out.add("blocks", count);
        out.title += fmt::format(" LBA {} blocks {}", lba, count);
    } else if (opcode == 0x12 && cdb.size() > 2 && (cdb[1] & 1) != 0) {
        out.add_hex("page", cdb[2]);
        out.title += fmt::format(" page {:#04x}", cdb[2]);
    } else if (opcode == 0x9e && cdb.size() > 1) {
        const u8 action = cdb[1] & 0x1f;
        out.add_hex("service_action", action);
        out.title = action == 0x10 ? "READ CAPACITY(16)" : fmt::format("{} action {:#x}", out.title, action);
    }
}

void address(const Srb& srb, Decoded& out) {
    out.add("port", srb.port);
    out.add("path", srb.path);
    out.add("target", srb.target);
    out.add("lun", srb.lun);
}

void request(ByteReader& in, const PacketView& packet, Decoded& out) {
    const auto srb = in.get<Srb>(kUnion);
    if (in.is_short() || in.is_cut()) return;
    address(srb, out);
    const u8 size = std::min(srb.cdb_length, kCdbSize);
    out.add("data", srb.data_in == 0 ? "write" : srb.data_in == 1 ? "read" : srb.data_in == 2 ? "none" : "invalid");
    out.add("transfer_length", srb.transfer_length);
    command(std::span(srb.cdb).first(size), out);
    out.malformed |= srb.cdb_length > kCdbSize || srb.data_in > 2;
    out.title += fmt::format(", {} bytes", srb.transfer_length);
    if (packet.range_count != 0 && packet.range_bytes < srb.transfer_length && !packet.cut && !packet.malformed)
        out.title += fmt::format(" (room for {})", packet.range_bytes);
}

/// COMPLETE_IO: the union is an SRB only if the request was one, which its length field tells.
void completion(ByteReader& in, Decoded& out) {
    const u32 status = in.word(offsetof(Packet, status));
    out.add_hex("status", status);
    const auto srb = in.get<Srb>(kUnion);
    if (in.is_short() || in.is_cut() || srb.length != sizeof(Srb) || srb.srb_status == 0) {
        out.title += status == kStatusSuccess ? ": ok" : fmt::format(": status {:#010x}", status);
        return;
    }
    address(srb, out);
    out.add("srb_status", srb_status_name(srb.srb_status));
    out.add("scsi_status", scsi_status_name(srb.scsi_status));
    out.add("transfer_length", srb.transfer_length);
    if (srb.srb_status == kSrbSuccess && srb.scsi_status == 0) {
        out.title += fmt::format(": ok, {} bytes", srb.transfer_length);
        return;
    }
    out.title += fmt::format(": {}, {}", srb_status_name(srb.srb_status), scsi_status_name(srb.scsi_status));
    // Fixed format sense data (SPC-4 §4.5.3).
    if ((srb.srb_status & kSrbSenseValid) == 0 || srb.sense_length < 14) return;
    const u8 key = srb.sense[2] & 15;
    out.add("sense", fmt::format("{:x}/{:02x}/{:02x}", key, srb.sense[12], srb.sense[13]));
    out.title += fmt::format(", {} {:02x}/{:02x}", sense_key_name(key), srb.sense[12], srb.sense[13]);
}

}  // namespace

std::string_view scsi_command_name(u8 opcode) {
    struct Row {
        u8 opcode;
        std::string_view name;
    };
    static constexpr Row kRows[] = {{0x00, "TEST UNIT READY"},
                                    {0x03, "REQUEST SENSE"},
                                    {0x08, "READ(6)"},
                                    {0x0a, "WRITE(6)"},
                                    {0x12, "INQUIRY"},
                                    {0x15, "MODE SELECT(6)"},
                                    {0x16, "RESERVE(6)"},
                                    {0x17, "RELEASE(6)"},
                                    {0x1a, "MODE SENSE(6)"},
                                    {0x1b, "START STOP UNIT"},
                                    {0x1d, "SEND DIAGNOSTIC"},
                                    {0x1e, "PREVENT ALLOW MEDIUM REMOVAL"},
                                    {0x25, "READ CAPACITY(10)"},
                                    {0x28, "READ(10)"},
                                    {0x2a, "WRITE(10)"},
                                    {0x2e, "WRITE AND VERIFY(10)"},
                                    {0x2f, "VERIFY(10)"},
                                    {0x35, "SYNCHRONIZE CACHE(10)"},
                                    {0x37, "READ DEFECT DATA(10)"},
                                    {0x41, "WRITE SAME(10)"},
                                    {0x42, "UNMAP"},
                                    {0x43, "READ TOC"},
                                    {0x46, "GET CONFIGURATION"},
                                    {0x4a, "GET EVENT STATUS NOTIFICATION"},
                                    {0x4d, "LOG SENSE"},
                                    {0x51, "READ DISC INFORMATION"},
                                    {0x55, "MODE SELECT(10)"},
                                    {0x5a, "MODE SENSE(10)"},
                                    {0x5e, "PERSISTENT RESERVE IN"},
                                    {0x5f, "PERSISTENT RESERVE OUT"},
                                    {0x83, "EXTENDED COPY"},
                                    {0x84, "RECEIVE COPY RESULTS"},
                                    {0x85, "ATA PASS-THROUGH(16)"},
                                    {0x88, "READ(16)"},
                                    {0x89, "COMPARE AND WRITE"},
                                    {0x8a, "WRITE(16)"},
                                    {0x8e, "WRITE AND VERIFY(16)"},
                                    {0x8f, "VERIFY(16)"},
                                    {0x91, "SYNCHRONIZE CACHE(16)"},
                                    {0x93, "WRITE SAME(16)"},
                                    {0x9e, "SERVICE ACTION IN(16)"},
                                    {0xa0, "REPORT LUNS"},
                                    {0xa1, "ATA PASS-THROUGH(12)"},
                                    {0xa3, "MAINTENANCE IN"},
                                    {0xa8, "READ(12)"},
                                    {0xaa, "WRITE(12)"},
                                    {0xad, "READ DISC STRUCTURE"}};
    const auto* const found =
        std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& row) { return row.opcode == opcode; });
    return found == std::end(kRows) ? std::string_view() : found->name;
}

void decode_storage(ByteReader& in, const PacketView& packet, Decoded& out) {
    const u32 operation = in.word(0);
    out.title = operation_name(operation);
    out.add("operation", operation_name(operation));
    out.add_hex("vstor_flags", in.word(4));
    if (in.is_short() || in.is_cut()) return;
    switch (static_cast<Operation>(operation)) {
        case Operation::ExecuteSrb:
            return request(in, packet, out);
        case Operation::CompleteIo:
            return completion(in, out);
        case Operation::QueryProtocolVersion: {
            const u16 version = in.half(kUnion);
            out.add("version", fmt::format("{}.{}", version >> 8, version & 0xff));
            out.title += fmt::format(" {}.{}", version >> 8, version & 0xff);
            return;
        }
        case Operation::CreateSubChannels:
            out.add("sub_channels", in.half(kUnion));
            out.title += fmt::format(" {}", in.half(kUnion));
            return;
        case Operation::RemoveDevice:
        case Operation::ResetLun:
        case Operation::ResetAdapter:
        case Operation::ResetBus:
        case Operation::BeginInit:
        case Operation::EndInit:
        case Operation::QueryProperties:
        case Operation::EnumerateBus:
        case Operation::FcHbaData:
        case Operation::EventNotification:
            return;
    }
}

}  // namespace vg::model
