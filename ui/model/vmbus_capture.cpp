#include "ui/model/vmbus_capture.h"

#include <algorithm>

#include "base/assert.h"
#include "hv/vmbus/channel.h"

namespace vg::model {

using namespace hv::vmbus;

void VmbusCapture::know(const VmbusChannel& known) {
    VmbusChannel* const at = channel(known.partition, known.relid);
    if (at == nullptr) return;
    at->interface_type = known.interface_type;
    at->instance = known.instance;
    at->service = known.service;
    at->name = known.name;
    at->state = known.state;
    at->sub_channel = known.sub_channel;
    at->monitor = known.monitor;
}

VmbusChannel* VmbusCapture::channel(u64 partition, u16 relid) {
    const auto found = channels_.find({partition, relid});
    if (found != channels_.end()) return &found->second;
    if (channels_.size() >= kMaxChannels) return nullptr;
    VmbusChannel& made = channels_[{partition, relid}];
    made.partition = partition;
    made.relid = relid;
    return &made;
}

Service VmbusCapture::service(u64 partition, u16 relid) const {
    const auto found = channels_.find({partition, relid});
    return found == channels_.end() ? Service::Unknown : found->second.service;
}

const VmbusEntry* VmbusCapture::find(u64 number) const {
    if (entries_.empty() || number < entries_.front().number || number > entries_.back().number) return nullptr;
    return &entries_[static_cast<std::size_t>(number - entries_.front().number)];
}

void VmbusCapture::forget(u64 partition, u16 relid) {
    outstanding_.erase(outstanding_.lower_bound({partition, relid, false, 0, 0}),
                       outstanding_.upper_bound({partition, relid, true, ~u64{0}, ~u64{0}}));
}

/// The connection is over: nobody answers what was asked in it.
void VmbusCapture::forget_all(u64 partition) {
    outstanding_.erase(outstanding_.lower_bound({partition, 0, false, 0, 0}),
                       outstanding_.upper_bound({partition, 0xffff, true, ~u64{0}, ~u64{0}}));
    for (auto& [key, each] : channels_)
        if (key.first == partition && each.state == "open") each.state = "closed";
}

/// What the message says about channels; an answer that did not fit into the capture says nothing.
void VmbusCapture::message(VmbusEntry& entry) {
    const u64 partition = entry.event.partition;
    ByteReader in(entry.event.payload, entry.event.payload_size);
    const auto state = [&](u32 relid, const char* what) {
        if (in.is_short() || in.is_cut() || relid > kMaxRelid) return;
        entry.relid = static_cast<u16>(relid);
        forget(partition, entry.relid);
        if (VmbusChannel* const at = channel(partition, entry.relid)) at->state = what;
    };
    switch (static_cast<MessageType>(entry.event.values[0])) {
        case MessageType::OfferChannel: {
            const auto offer = in.get<OfferChannel>(0);
            state(offer.relid, "offered");
            VmbusChannel* const at = entry.relid != 0 ? channel(partition, entry.relid) : nullptr;
            if (at == nullptr) break;
            at->interface_type = offer.type;
            at->instance = offer.instance;
            at->service = service_of(offer.type);
            at->sub_channel = offer.sub_channel_index;
            if ((offer.monitor_allocated & 1) != 0) at->monitor = offer.monitor_id;
            break;
        }
        case MessageType::OpenResult: {
            const auto result = in.get<OpenResult>(0);
            state(result.relid, result.status == kStatusSuccess ? "open" : "offered");
            break;
        }
        case MessageType::CloseChannel:
            state(in.word(sizeof(MessageHeader)), "closed");
            break;
        case MessageType::RescindOffer:
            state(in.word(sizeof(MessageHeader)), "rescinded");
            break;
        case MessageType::InitiateContact:
        case MessageType::Unload:
            forget_all(partition);
            break;
        default:
            break;
    }
    entry.service = service(partition, entry.relid);
}

void VmbusCapture::packet(VmbusEntry& entry) {
    const PacketView view = view_packet(entry.event.payload, entry.event.payload_size);
    entry.service = service(entry.event.partition, entry.relid);
    entry.decoded = decode_packet(view, entry.service);
    entry.transaction = entry.event.values[2];
    entry.packet_type = static_cast<u16>(entry.event.values[3]);
    entry.length = view.length;
    entry.wants_completion = view.wants_completion();
    VmbusChannel* const at = channel(entry.event.partition, entry.relid);
    if (at == nullptr) return;
    if (entry.packet_type == kContentType) {  // no packet of its own
        if (entry.decoded.malformed) ++at->malformed;
        return;
    }
    ++at->packets[entry.to_guest];
    at->bytes[entry.to_guest] += view.payload_size;
    if (entry.decoded.malformed) ++at->malformed;
    match(entry, *at);
}

void VmbusCapture::match(VmbusEntry& entry, VmbusChannel& at) {
    const u64 partition = entry.event.partition;
    if (entry.wants_completion) {
        ++at.requests;
        if (outstanding_.size() >= kMaxOutstanding) return;
        outstanding_.emplace(Key{partition, entry.relid, entry.to_guest, entry.transaction, entry.number},
                             Request{entry.number, entry.event.time, entry.decoded.title});
        return;
    }
    if (entry.packet_type != static_cast<u16>(PacketType::Completion)) return;
    const auto found = outstanding_.lower_bound({partition, entry.relid, !entry.to_guest, entry.transaction, 0});
    if (found == outstanding_.end()) return;
    const auto& [p, relid, to_guest, transaction, number] = found->first;
    if (p != partition || relid != entry.relid || to_guest == entry.to_guest || transaction != entry.transaction)
        return;
    entry.peer = number;
    entry.latency = entry.event.time - std::min(entry.event.time, found->second.time);
    entry.peer_title = std::move(found->second.title);
    outstanding_.erase(found);
    if (const VmbusEntry* const request = find(entry.peer)) const_cast<VmbusEntry*>(request)->peer = entry.number;
    at.latency_min = at.completions == 0 ? entry.latency : std::min(at.latency_min, entry.latency);
    at.latency_max = std::max(at.latency_max, entry.latency);
    at.latency_sum += entry.latency;
    ++at.completions;
}

const VmbusEntry* VmbusCapture::add(EventRecord event) {
    if ((kKinds & tap_bit(event.kind)) == 0) return nullptr;
    VmbusEntry entry;
    entry.number = next_++;
    entry.event = std::move(event);
    entry.to_guest = entry.event.values[1] != 0;
    switch (entry.event.kind) {
        case TapKind::VmbusMessage:
            entry.kind = VmbusEntry::Kind::Message;
            entry.decoded = decode_vmbus_message(entry.event.payload, entry.event.payload_size);
            message(entry);
            break;
        case TapKind::VmbusPacket:
            entry.kind = VmbusEntry::Kind::Packet;
            entry.relid = static_cast<u16>(entry.event.values[0]);
            packet(entry);
            break;
        default:
            entry.kind = VmbusEntry::Kind::Signal;
            entry.relid = static_cast<u16>(entry.event.values[0]);
            entry.service = service(entry.event.partition, entry.relid);
            entry.decoded.title = "signal";
            if (VmbusChannel* const at = channel(entry.event.partition, entry.relid)) ++at->signals[entry.to_guest];
            break;
    }
    entries_.push_back(std::move(entry));
    while (entries_.size() > std::max<std::size_t>(capacity_, 1)) entries_.pop_front();
    return &entries_.back();
}

// ---- as text

std::string entry_line(const VmbusEntry& entry) {
    std::string line = entry.to_guest ? "host -> guest" : "guest -> host";
    if (entry.relid != 0) line += fmt::format("  channel {}", entry.relid);
    if (entry.service != Service::Unknown) line += fmt::format(" {}", service_name(entry.service));
    if (entry.kind == VmbusEntry::Kind::Packet)
        line += fmt::format("  {} {:#x}", packet_type_name(entry.packet_type), entry.transaction);
    line += fmt::format("  {}", entry.decoded.title);
    if (entry.peer_title != "")
        line += fmt::format(" <- {}, {}.{:03} us", entry.peer_title, entry.latency / 1000, entry.latency % 1000);
    if (entry.decoded.malformed) line += " [malformed]";
    if (entry.decoded.cut) line += " [cut]";
    return line;
}

Json entry_json(const VmbusEntry& entry) {
    constexpr const char* kKinds[] = {"message", "packet", "signal"};
    Json out = {{"number", entry.number},
                {"time", entry.event.time},
                {"instructions", entry.event.instructions},
                {"kind", kKinds[static_cast<unsigned>(entry.kind)]},
                {"partition", entry.event.partition},
                {"to_guest", entry.to_guest}};
    if (entry.relid != 0) out["channel"] = entry.relid;
    if (entry.service != Service::Unknown) out["service"] = std::string(service_name(entry.service));
    if (entry.kind == VmbusEntry::Kind::Packet) {
        out["type"] = std::string(packet_type_name(entry.packet_type));
        out["transaction"] = fmt::format("{:#x}", entry.transaction);
        out["length"] = entry.length;
        out["wants_completion"] = entry.wants_completion;
    }
    if (entry.peer != 0) out["peer"] = entry.peer;
    if (entry.peer_title != "") {
        out["latency_ns"] = entry.latency;
        out["request"] = entry.peer_title;
    }
    out["title"] = entry.decoded.title;
    Json fields = Json::array();
    for (const auto& [name, value] : entry.decoded.fields) fields.push_back({{"name", name}, {"value", value}});
    out["fields"] = std::move(fields);
    if (entry.decoded.malformed) out["malformed"] = true;
    if (entry.decoded.cut) out["cut"] = true;
    return out;
}

std::string channel_line(const VmbusChannel& channel) {
    const std::string_view interface = interface_name(channel.interface_type);
    std::string line = fmt::format(
        "partition {} channel {}: {}", channel.partition, channel.relid,
        interface.empty() ? std::string("interface ") + hv::to_string(channel.interface_type) : std::string(interface));
    if (channel.sub_channel != 0) line += fmt::format(", sub-channel {}", channel.sub_channel);
    if (!channel.name.empty()) line += fmt::format(" \"{}\"", channel.name);
    line += fmt::format(", {}, instance {}", channel.state.empty() ? "state unknown" : channel.state,
                        hv::to_string(channel.instance));
    if (channel.monitor) line += fmt::format(", monitor {}", *channel.monitor);
    line += fmt::format(
        "\n    guest -> host {} packets, {} bytes, {} signals; host -> guest {} packets, {} bytes, {} signals",
        channel.packets[0], channel.bytes[0], channel.signals[0], channel.packets[1], channel.bytes[1],
        channel.signals[1]);
    if (channel.completions != 0)
        line += fmt::format("\n    {} requests, {} completions, latency {} / {} / {} ns (least, mean, most)",
                            channel.requests, channel.completions, channel.latency_min,
                            channel.latency_sum / channel.completions, channel.latency_max);
    if (channel.malformed != 0) line += fmt::format("\n    {} malformed", channel.malformed);
    return line;
}

Json channel_json(const VmbusChannel& channel) {
    Json out = {{"partition", channel.partition},
                {"channel", channel.relid},
                {"service", std::string(service_name(channel.service))},
                {"interface", hv::to_string(channel.interface_type)},
                {"instance", hv::to_string(channel.instance)},
                {"name", channel.name},
                {"state", channel.state},
                {"sub_channel", channel.sub_channel}};
    if (channel.monitor) out["monitor"] = *channel.monitor;
    constexpr const char* kSides[] = {"to_host", "to_guest"};
    for (unsigned side = 0; side < 2; ++side)
        out[kSides[side]] = {
            {"packets", channel.packets[side]}, {"bytes", channel.bytes[side]}, {"signals", channel.signals[side]}};
    out["requests"] = channel.requests;
    out["completions"] = channel.completions;
    out["malformed"] = channel.malformed;
    if (channel.completions != 0)
        out["latency_ns"] = {{"min", channel.latency_min},
                             {"mean", channel.latency_sum / channel.completions},
                             {"max", channel.latency_max}};
    return out;
}

}  // namespace vg::model
