#include "ui/model/desk/vmbus_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "hv/spec/storvsc.h"
#include "hv/spec/vmbus.h"

namespace vg::desk {

namespace {

constexpr std::size_t kPacketsAnUpdate = 20'000, kMaxOpen = 65'536, kMaxChannels = 512, kMaxSteps = 400;
constexpr std::size_t kMaxMessages = 5'000;

template <class T>
std::optional<T> at(const std::vector<u8>& bytes, std::size_t offset) {
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return {};
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

u64 big_endian(const u8* bytes, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) value = value << 8 | bytes[i];
    return value;
}

std::string cdb_text(const u8* cdb) {
    const u8 code = cdb[0];
    std::string text = scsi_name(code);
    if (code == 0x28 || code == 0x2a)
        text += fmt::format(" lba {} blocks {}", big_endian(cdb + 2, 4), big_endian(cdb + 7, 2));
    if (code == 0x88 || code == 0x8a)
        text += fmt::format(" lba {} blocks {}", big_endian(cdb + 2, 8), big_endian(cdb + 10, 4));
    return text;
}

std::string storage_text(const hv::storvsc::Packet& packet, bool completion) {
    using hv::storvsc::Operation;
    switch (static_cast<Operation>(packet.operation)) {
        case Operation::ExecuteSrb:
            return fmt::format("{}:{}:{} {}, {} bytes{}", packet.srb.path, packet.srb.target, packet.srb.lun,
                               cdb_text(packet.srb.cdb), packet.srb.transfer_length,
                               packet.srb.data_in == 1   ? " in"
                               : packet.srb.data_in == 0 ? " out"
                                                         : "");
        case Operation::CompleteIo:
            return fmt::format("complete, status {:#x}, srb {:#x}, scsi {:#x}, {} bytes", packet.status,
                               packet.srb.srb_status & 0x3f, packet.srb.scsi_status, packet.srb.transfer_length);
        case Operation::BeginInit:
            return "begin initialisation";
        case Operation::EndInit:
            return "end initialisation";
        case Operation::QueryProtocolVersion:
            return fmt::format("protocol version {:#x}", packet.version.version);
        case Operation::QueryProperties:
            return completion ? "properties" : "query properties";
        case Operation::EnumerateBus:
            return "enumerate bus";
        case Operation::ResetLun:
            return "reset unit";
        case Operation::ResetAdapter:
            return "reset adapter";
        case Operation::ResetBus:
            return "reset bus";
        case Operation::CreateSubChannels:
            return fmt::format("create {} sub-channels", packet.sub_channel_count);
        case Operation::RemoveDevice:
        case Operation::FcHbaData:
        case Operation::EventNotification:
            break;
    }
    return fmt::format("operation {}", packet.operation);
}

bool is_completion(const EventRow& row) { return row.values[3] == static_cast<u64>(hv::vmbus::PacketType::Completion); }

}  // namespace

std::string scsi_name(u8 operation) {
    switch (operation) {
        case 0x00:
            return "TEST UNIT READY";
        case 0x03:
            return "REQUEST SENSE";
        case 0x12:
            return "INQUIRY";
        case 0x1a:
            return "MODE SENSE(6)";
        case 0x1b:
            return "START STOP UNIT";
        case 0x25:
            return "READ CAPACITY(10)";
        case 0x28:
            return "READ(10)";
        case 0x2a:
            return "WRITE(10)";
        case 0x35:
            return "SYNCHRONIZE CACHE(10)";
        case 0x41:
            return "WRITE SAME(10)";
        case 0x42:
            return "UNMAP";
        case 0x5a:
            return "MODE SENSE(10)";
        case 0x88:
            return "READ(16)";
        case 0x8a:
            return "WRITE(16)";
        case 0x91:
            return "SYNCHRONIZE CACHE(16)";
        case 0x93:
            return "WRITE SAME(16)";
        case 0x9e:
            return "READ CAPACITY(16)";
        case 0xa0:
            return "REPORT LUNS";
        case 0xa3:
            return "MAINTENANCE IN";
        default:
            return fmt::format("SCSI {:#04x}", operation);
    }
}

std::string packet_text(const EventRow& row) {
    const auto descriptor = at<hv::vmbus::PacketDescriptor>(row.payload, 0);
    if (!descriptor) return fmt::format("{} bytes", row.payload.size());
    const std::size_t data = descriptor->data_offset8 * std::size_t{8},
                      total = descriptor->total_length8 * std::size_t{8};
    // Which device a channel belongs to is not in the packet; a storage packet is known by its size and operation.
    const auto packet = at<hv::storvsc::Packet>(row.payload, data);
    if (packet && total - data == sizeof(hv::storvsc::Packet) && packet->operation >= 1 && packet->operation <= 14)
        return storage_text(*packet, is_completion(row));
    return fmt::format("type {}, {} bytes of data", descriptor->type, total > data ? total - data : 0);
}

VmbusView::VmbusView(EventLog& log)
    : log_(&log),
      channels_(parse_channels),
      channel_grid_({{"partition", 12},
                     {"channel", 8},
                     {"name", 22},
                     {"state", 8},
                     {"in", 9},
                     {"bytes in", 10},
                     {"out", 9},
                     {"bytes out", 10},
                     {"signals", 0}}),
      message_grid_({{"time, s", 14}, {"partition", 10}, {"direction", 10}, {"message", 0}}),
      followed_({{"after", 12}, {"who", 8}, {"kind", 14}, {"what", 0}}),
      columns_{{"time, s", 14},     {"who", 5},    {"channel", 8}, {"", 3},
               {"transaction", 20}, {"packet", 0}, {"latency", 12}} {}

void VmbusView::find_channels(const Json& node, const std::string& path, unsigned depth, std::vector<Channel>& found) {
    if (!node.is_object() || depth > 8) return;
    for (const auto& [key, value] : node.items()) {
        if (found.size() >= kMaxChannels) return;
        if (key != "channels" || !value.is_object()) {
            find_channels(value, path.empty() ? key : path + "/" + key, depth + 1, found);
            continue;
        }
        for (const auto& [index, channel] : value.items()) {
            if (!channel.is_object() || found.size() >= kMaxChannels) continue;
            const auto count = [&c = channel](const char* name) { return words(c, name, 24); };
            found.push_back({shown(path, 64),
                             words(channel, "name", 64),
                             words(channel, "state", 24),
                             number(channel, "relid"),
                             {count("packets_in"), count("bytes_in"), count("packets_out"), count("bytes_out"),
                              count("signals_in") + " in, " + count("signals_out") + " out"}});
        }
    }
}

std::vector<VmbusView::Channel> VmbusView::parse_channels(const Json& reply) {
    std::vector<Channel> found;
    find_channels(member(reply, "tree").is_null() ? reply : member(reply, "tree"), "", 0, found);
    for (Channel& channel : found) {  // "child/linux/parent/vmbus" -> "linux"
        if (channel.partition.rfind("child/", 0) == 0) channel.partition = channel.partition.substr(6);
        channel.partition = channel.partition.substr(0, channel.partition.find('/'));
    }
    return found;
}

void VmbusView::update(Session& session) {
    log_->want(tap_bit(TapKind::VmbusPacket) | tap_bit(TapKind::VmbusMessage) | tap_bit(TapKind::VmbusSignal) |
               tap_bit(TapKind::Disk) | tap_bit(TapKind::Dma) | tap_bit(TapKind::SynicEvent) |
               tap_bit(TapKind::Hypercall) | tap_bit(TapKind::Interrupt));
    channels_.update(session, {{"op", "inspect"}, {"path", "child"}, {"json", true}});
    if (channels_.answers() != channels_taken_) {
        channels_taken_ = channels_.answers();
        channel_grid_.clear();
        if (channels_.value()) {
            for (const Channel& c : *channels_.value()) {
                channel_grid_.add({{c.partition, Tone::Quiet},
                                   {std::to_string(c.relid), {}},
                                   {c.name, Tone::Accent},
                                   {c.state, {}},
                                   {c.numbers[0], {}},
                                   {c.numbers[1], {}},
                                   {c.numbers[2], {}},
                                   {c.numbers[3], {}},
                                   {c.numbers[4], Tone::Quiet}});
            }
        }
    }
    take_packets();
}

void VmbusView::take_packets() {
    if (generation_ != log_->generation()) {
        generation_ = log_->generation();
        packets_.clear();
        partner_.clear();
        open_.clear();
        seen_ = messages_seen_ = 0;
        message_grid_.clear();
    }
    const auto& all = log_->of_kind(TapKind::VmbusPacket);
    const std::size_t end = std::min(all.size(), seen_ + kPacketsAnUpdate);
    for (; seen_ < end; ++seen_) {
        const EventRow& row = log_->row(all[seen_]);
        const std::array<u64, 3> key = {row.partition, row.values[0], row.values[2]};
        if (!is_completion(row)) {
            if (open_.size() < kMaxOpen) open_[key] = all[seen_];
        } else if (const auto request = open_.find(key); request != open_.end()) {
            partner_[all[seen_]] = request->second;
            partner_[request->second] = all[seen_];
            open_.erase(request);
        }
        if (!channel_ || row.values[0] == *channel_) packets_.push_back(all[seen_]);
    }
    const auto& messages = log_->of_kind(TapKind::VmbusMessage);
    for (; messages_seen_ < messages.size() && message_grid_.rows() < kMaxMessages; ++messages_seen_) {
        const EventRow& row = log_->row(messages[messages_seen_]);
        const std::string_view name = channel_message_name(static_cast<u32>(row.values[0]));
        message_grid_.add(
            {{time_text(row.time_ns), Tone::Quiet},
             {place_text(row.partition, TapEvent::kNoVp), Tone::Quiet},
             {row.values[1] != 0 ? "to guest" : "to host", row.values[1] != 0 ? Tone::Good : Tone::Accent},
             {name.empty() ? fmt::format("message {}", row.values[0]) : std::string(name), {}}});
    }
}

void VmbusView::set_channel(std::optional<u64> channel) {
    if (channel == channel_) return;
    channel_ = channel;
    packets_.clear();
    const auto& all = log_->of_kind(TapKind::VmbusPacket);
    for (std::size_t i = 0; i < std::min(seen_, all.size()); ++i)
        if (!channel_ || log_->row(all[i]).values[0] == *channel_) packets_.push_back(all[i]);
}

const EventRow* VmbusView::packet(u64 row) const {
    return row < packets_.size() && packets_[row] < log_->size() ? &log_->row(packets_[row]) : nullptr;
}

std::optional<u32> VmbusView::partner(u32 index) const {
    const auto found = partner_.find(index);
    if (found == partner_.end() || found->second >= log_->size()) return {};
    return found->second;
}

Cell VmbusView::cell(u64 row, std::size_t column) const {
    const EventRow* event = packet(row);
    if (!event) return {};
    const auto other = partner(packets_[row]);
    switch (column) {
        case 0:
            return {time_text(event->time_ns), Tone::Quiet};
        case 1:
            return {place_text(event->partition, TapEvent::kNoVp), Tone::Quiet};
        case 2:
            return {std::to_string(event->values[0]), {}};
        case 3:
            return event->values[1] != 0 ? Cell{"\u2190", Tone::Good} : Cell{"\u2192", Tone::Accent};
        case 4:
            return {hex(event->values[2]), Tone::Quiet};
        case 5:
            return {packet_text(*event), {}};
        default:
            if (!other) return is_completion(*event) ? Cell{} : Cell{"open", Tone::Warning};
            if (!is_completion(*event)) return {};
            return {duration_text(event->time_ns - log_->row(*other).time_ns), {}};
    }
}

bool VmbusView::follow(u64 row) {
    const EventRow* event = packet(row);
    if (!event) return false;
    u32 first = packets_[row], last = first;
    if (const auto other = partner(first)) {
        last = std::max(first, *other);
        first = std::min(first, *other);
    }
    const EventRow& request = log_->row(first);
    followed_.clear();
    followed_title_ =
        fmt::format("channel {} transaction {:#x}: {}", request.values[0], request.values[2], packet_text(request));
    for (u32 i = first; i <= last && followed_.rows() < kMaxSteps; ++i) {
        const EventRow& step = log_->row(i);
        if (step.kind == TapKind::VmbusPacket &&
            (step.values[0] != request.values[0] || step.values[2] != request.values[2]))
            continue;
        const std::string what = step.kind == TapKind::VmbusPacket ? packet_text(step) : event_text(step);
        followed_.add({{"+" + duration_text(step.time_ns - request.time_ns), Tone::Quiet},
                       {place_text(step.partition, step.vp), Tone::Quiet},
                       {std::string(tap_row(step.kind).name), Tone::Accent},
                       {what, {}}});
    }
    return true;
}

bool VmbusView::follow_text(std::string_view text, u64 from) {
    for (u64 row = from; row < packets_.size(); ++row) {
        const EventRow* event = packet(row);
        if (!event || is_completion(*event) || !contains_text(packet_text(*event), text)) continue;
        selected = row;
        return follow(row);
    }
    return false;
}

std::vector<std::string> VmbusView::text() const {
    std::vector<std::string> lines = table_text(channel_grid_);
    for (const Table* table : std::initializer_list<const Table*>{&message_grid_, this, &followed_}) {
        for (std::string& line : table_text(*table)) lines.push_back(std::move(line));
    }
    if (!followed_title_.empty()) lines.push_back(followed_title_);
    return lines;
}

}  // namespace vg::desk
