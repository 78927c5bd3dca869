#include "hv/parent/network_adapter.h"

#include <algorithm>
#include <cstring>

#include "base/state.h"
#include "devices/net/offload.h"
#include "devices/net/packet.h"
#include "hv/parent/range_data.h"

namespace vg::hv::parent {

namespace {

/// Packets that wait for room, per channel: every message in flight, every section, and what few else there is.
constexpr u32 kMaxUnsent = vsp::Network::kMaxInFlight + 2 * vsp::Network::kMaxSections;
constexpr std::size_t kMaxPayload = sizeof(netvsc::IndirectionTableMessage);

}  // namespace

NetworkAdapter::NetworkAdapter(std::string name, const devices::MacAddress& address, EventQueue& events,
                               u16 max_sub_channels)
    : name_(std::move(name)),
      events_(events),
      core_(std::make_unique<vsp::Network>(static_cast<vsp::NetworkHost&>(*this), address, name_, max_sub_channels)),
      timer_(events.add(name_ + "/completions", [this](VTime due) { finish_due(due); })) {}

NetworkAdapter::~NetworkAdapter() { events_.cancel(timer_); }

// ---- channels

void NetworkAdapter::opened(vmbus::Channel& channel) {
    open_[channel.relid()] = {&channel, false, {}};
    core_->channel_opened(channel.relid(), channel.sub_channel());
}

void NetworkAdapter::closed(vmbus::Channel& channel) {
    open_.erase(channel.relid());
    core_->channel_closed(channel.relid());
    forget_due();
}

void NetworkAdapter::restored(vmbus::Channel& channel) { open_[channel.relid()] = {&channel, false, {}}; }

void NetworkAdapter::signalled(vmbus::Channel& channel) {
    const auto it = open_.find(channel.relid());
    if (it != open_.end()) pump(it->second);
}

vmbus::Channel* NetworkAdapter::primary() const {
    for (const auto& [relid, open] : open_) {
        if (open.channel->sub_channel() == 0) return open.channel;
    }
    return nullptr;
}

/// Takes packets until the ring is empty, the core is full, or this event has had its share. What finds no room on its
/// way to the guest holds further packets back, so that a guest that never reads cannot make this grow.
void NetworkAdapter::pump(OpenChannel& open) {
    vmbus::Packet packet;
    open.stalled = false;
    if (!send_unsent(open)) return;
    for (u32 taken = 0;; ++taken) {
        if (!core_->can_accept() || taken == kPacketsPerEvent) {
            open.stalled = true;
            arm();
            break;
        }
        if (!open.unsent.empty() || !open.channel->read_packet(packet)) break;
        take(open, packet);
    }
    open.channel->commit();
}

void NetworkAdapter::take(OpenChannel& open, const vmbus::Packet& packet) {
    const u32 channel = open.channel->relid();
    if (packet.type == vmbus::PacketType::Completion) return core_->on_completion(channel, packet.transaction_id);
    if (packet.type != vmbus::PacketType::InBand && packet.type != vmbus::PacketType::GpaDirect) return;
    vsp::NetworkPacket message;
    message.channel = channel;
    message.sub_channel = open.channel->sub_channel() != 0;
    message.transaction_id = packet.transaction_id;
    message.completion_requested = packet.completion_requested();
    message.payload = packet.payload;
    RangeData data(ranges_, open.channel->server().notifier());
    if (packet.type == vmbus::PacketType::GpaDirect) {
        message.data_malformed = !ranges_.parse(packet.extension);
        if (!message.data_malformed) message.data = &data;
    }
    core_->on_packet(message);
}

// ---- to the guest

bool NetworkAdapter::write(vmbus::Channel& channel, const Outgoing& packet) {
    if (packet.type != vmbus::PacketType::TransferPages)
        return channel.write_packet(packet.type, 0, packet.transaction_id, packet.payload);
    const netvsc::TransferPages pages = {netvsc::kReceiveBufferId, 0, 0, 1, packet.range};
    return channel.write_packet(packet.type, vmbus::kPacketCompletionRequested, packet.transaction_id, packet.payload,
                                {reinterpret_cast<const u8*>(&pages), sizeof pages});
}

bool NetworkAdapter::send_unsent(OpenChannel& open) {
    while (!open.unsent.empty()) {
        Unsent& first = open.unsent.front();
        first.packet.payload = first.payload;
        if (!write(*open.channel, first.packet)) return false;
        open.unsent.pop_front();
    }
    return true;
}

void NetworkAdapter::put(u32 channel, const Outgoing& packet) {
    const auto it = open_.find(channel);
    if (it == open_.end()) return;
    OpenChannel& open = it->second;
    if (send_unsent(open) && write(*open.channel, packet)) return;
    open.unsent.push_back({packet, {packet.payload.begin(), packet.payload.end()}});
}

void NetworkAdapter::complete(u32 channel, u64 transaction_id, std::span<const u8> payload) {
    put(channel, {vmbus::PacketType::Completion, transaction_id, {}, payload});
}

void NetworkAdapter::send(u32 channel, std::span<const u8> payload) {
    put(channel, {vmbus::PacketType::InBand, 0, {}, payload});
}

void NetworkAdapter::indicate(u32 channel, u64 transaction_id, const netvsc::TransferRange& range,
                              std::span<const u8> payload) {
    put(channel, {vmbus::PacketType::TransferPages, transaction_id, range, payload});
}

void NetworkAdapter::offer_sub_channels(u16 count) {
    if (vmbus::Channel* const channel = primary()) channel->offer_sub_channels(count);
}

void NetworkAdapter::show(u32 channel, bool to_guest, u64 transaction_id, std::span<const u8> messages) {
    const auto it = open_.find(channel);
    if (it != open_.end()) it->second.channel->tell_content(to_guest, transaction_id, messages);
}

// ---- buffers

const vmbus::PageRange* NetworkAdapter::find_buffer(u32 gpadl) const {
    const vmbus::Channel* const channel = primary();
    if (channel == nullptr) return nullptr;
    const auto& all = channel->server().gpadls();
    const auto it = all.find(gpadl);
    if (it == all.end() || !it->second.complete() || it->second.relid() != channel->relid() ||
        it->second.ranges().size() != 1)
        return nullptr;
    return &it->second.ranges().front();
}

u64 NetworkAdapter::buffer_size(u32 gpadl) {
    const vmbus::PageRange* const buffer = find_buffer(gpadl);
    return buffer != nullptr ? buffer->byte_count : 0;
}

template <class Access>
bool NetworkAdapter::each_page(u32 gpadl, u64 offset, u64 size, Access&& access) {
    const vmbus::PageRange* const buffer = find_buffer(gpadl);
    if (buffer == nullptr || offset > buffer->byte_count || size > buffer->byte_count - offset) return false;
    vmbus::Notifier& memory = primary()->server().notifier();
    u64 at = buffer->byte_offset + offset;
    for (u64 done = 0; done < size;) {
        const u64 in_page = at & kPageMask, length = std::min(size - done, kPageSize - in_page);
        if (!access(memory, (buffer->pfns[at / kPageSize] << 12) + in_page, done, length)) return false;
        done += length;
        at += length;
    }
    return true;
}

bool NetworkAdapter::read_buffer(u32 gpadl, u64 offset, std::span<u8> out) {
    return each_page(gpadl, offset, out.size(), [&](vmbus::Notifier& memory, u64 gpa, u64 at, u64 size) {
        return memory.read_guest(gpa, out.data() + at, size);
    });
}

bool NetworkAdapter::write_buffer(u32 gpadl, u64 offset, std::span<const u8> data) {
    return each_page(gpadl, offset, data.size(), [&](vmbus::Notifier& memory, u64 gpa, u64 at, u64 size) {
        return memory.write_guest(gpa, data.data() + at, size);
    });
}

// ---- the cable

void NetworkAdapter::transmit(const vsp::OutgoingFrame& frame) {
    if (cable_ == nullptr || !link_) return;
    const devices::SendOffload offload{frame.ip_checksum, frame.tcp_checksum, frame.udp_checksum, frame.segment_bytes};
    frames_out_ += devices::send_offloaded(frame.bytes, offload, *cable_);
}

void NetworkAdapter::receive(std::span<const u8> frame) {
    if (!link_) return;
    const devices::ChecksumVerdict verdict = devices::check_checksums(frame);
    core_->receive(frame, {verdict.ip, verdict.transport, verdict.udp});
}

u64 NetworkAdapter::receive_room() const {
    if (!link_ || !core_->listens()) return kDeafRoom;
    return u64{core_->free_sections()} * (core_->rndis().mtu() + devices::kEthernetHeaderBytes);
}

// ---- completions

void NetworkAdapter::schedule(u32 slot, u32 bytes) {
    due_.insert({events_.now() + network_latency_ns(bytes), next_sequence_++, slot});
    arm();
}

/// Entries of messages that went with their channel.
void NetworkAdapter::forget_due() {
    std::erase_if(due_, [this](const Due& due) { return !core_->is_scheduled(due.slot); });
    arm();
}

/// For the next completion, or for packets that were left in a ring although the core has room.
void NetworkAdapter::arm() {
    VTime next = due_.empty() ? kNever : due_.begin()->when;
    const bool left = std::any_of(open_.begin(), open_.end(), [](const auto& each) { return each.second.stalled; });
    if (left && core_->can_accept()) next = std::min(next, events_.now() + kPause);
    if (next == kNever) {
        events_.cancel(timer_);
    } else if (events_.due(timer_) != next) {
        events_.arm(timer_, next);
    }
}

void NetworkAdapter::finish_due(VTime now) {
    while (!due_.empty() && due_.begin()->when <= now) {
        const u32 slot = due_.begin()->slot;
        due_.erase(due_.begin());
        core_->finish(slot);
    }
    for (auto& [relid, open] : open_) {
        if (open.stalled) pump(open);
    }
    arm();
}

// ---- state

void NetworkAdapter::fields(StateVisitor& v) {
    {
        const VisitScope scope(v, "core");
        core_->fields(v);
    }
    v("link", link_);
    v("frames_out", frames_out_, Fmt::Dec);
    channel_fields(v);
    due_list_fields(v, due_, next_sequence_, vsp::Network::kMaxInFlight,
                    [this](const Due& due) { return core_->is_scheduled(due.slot); });
}

void NetworkAdapter::channel_fields(StateVisitor& v) {
    for (auto& [relid, open] : open_) {
        const VisitScope scope(v, fmt::format("channel{}", relid));
        v("stalled", open.stalled);
        u32 count = static_cast<u32>(open.unsent.size());
        v("unsent", count, Fmt::Dec);
        if (v.loading()) open.unsent.resize(std::min(count, kMaxUnsent));
        for (std::size_t i = 0; i < open.unsent.size(); ++i) {
            Outgoing& packet = open.unsent[i].packet;
            const VisitScope each(v, std::to_string(i));
            v("type", packet.type);
            v("transaction_id", packet.transaction_id);
            v("byte_count", packet.range.byte_count, Fmt::Dec);
            v("byte_offset", packet.range.byte_offset);
            v("payload", open.unsent[i].payload, kMaxPayload);
        }
    }
}

}  // namespace vg::hv::parent
