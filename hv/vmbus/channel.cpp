#include "hv/vmbus/channel.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.h"
#include "base/tap.h"

namespace vg::hv::vmbus {

namespace {

/// Of a packet as it is told; the descriptor says how long it was.
constexpr std::size_t kMaxToldBytes = 4096;

}  // namespace

bool Channel::Rings::map(Notifier& memory, const Gpadl& pages, u16 relid) {
    if (!pages.complete() || pages.relid() != relid || pages.ranges().size() != 1) return false;
    const PageRange& range = pages.ranges()[0];
    if (range.byte_offset != 0 || range.byte_count % kPageSize != 0) return false;
    const std::span<const u64> pfns = range.pfns;
    if (split < 2 || split > pfns.size() || pfns.size() - split < 2) return false;
    incoming = RingMemory(memory, pfns.first(split));
    outgoing = RingMemory(memory, pfns.subspan(split));
    gpadl = pages.id();
    return true;
}

bool Channel::open(Rings rings) {
    IncomingRing incoming(rings.incoming);
    OutgoingRing outgoing(rings.outgoing);
    if (!incoming.open() || !outgoing.open()) return false;
    incoming_ = std::move(incoming);
    outgoing_ = std::move(outgoing);
    rings_ = std::move(rings);
    broken_ = false;
    state_ = State::Open;
    return true;
}

void Channel::close(State next) {
    state_ = next;
    rings_ = {};
    incoming_ = {};
    outgoing_ = {};
    broken_ = false;
}

void Channel::deliver_signal() {
    if (!is_open()) return;
    count_signal(false);
    run_device();
}

void Channel::run_device() {
    if (broken_) return;
    device_.signalled(*this);
    commit();
}

bool Channel::read_packet(Packet& packet) {
    // Looks a second time behind the published read index. Until that is out the guest sees a ring that is not empty,
    // so a packet that it writes in between comes without a signal (V-73).
    for (bool published = false; is_open() && !broken_; published = true) {
        switch (incoming_.read(packet)) {
            case IncomingRing::Status::Packet:
                ++stats_.packets_in;
                stats_.bytes_in += packet.payload.size();
                if (server_.log().tap().wants(TapKind::VmbusPacket)) tell_packet(false, packet);
                return true;
            case IncomingRing::Status::Empty:
                if (published) return false;
                commit();
                break;
            case IncomingRing::Status::Broken:
                mark_broken("guest-to-host");
                break;
        }
    }
    return false;
}

void Channel::commit() {
    if (is_open() && !broken_ && incoming_.commit()) server_.signal_guest(*this);
}

bool Channel::write_packet(PacketType type, u16 flags, u64 transaction_id, std::span<const u8> payload,
                           std::span<const u8> extension) {
    if (!is_open() || broken_) return true;
    const OutgoingRing::Status status = outgoing_.write(type, flags, transaction_id, payload, extension);
    if (status == OutgoingRing::Status::NoRoom) {
        ++stats_.full;
        return false;
    }
    if (status == OutgoingRing::Status::Broken) {
        mark_broken("host-to-guest");
        return true;
    }
    ++stats_.packets_out;
    stats_.bytes_out += payload.size();
    if (server_.log().tap().wants(TapKind::VmbusPacket)) tell_packet(true, {type, flags, transaction_id, extension, payload});
    if (status == OutgoingRing::Status::Signal) server_.signal_guest(*this);
    return true;
}

bool Channel::is_watched() const { return server_.log().tap().wants(TapKind::VmbusPacket); }

void Channel::tell_content(bool to_guest, u64 transaction_id, std::span<const u8> content) {
    if (is_watched()) tell_packet(to_guest, {static_cast<PacketType>(kContentType), 0, transaction_id, {}, content});
}

void Channel::count_signal(bool to_guest) {
    ++(to_guest ? stats_.signals_out : stats_.signals_in);
    Tap& tap = server_.log().tap();
    if (!tap.wants(TapKind::VmbusSignal)) return;
    tap.tell({TapKind::VmbusSignal,
              server_.notifier().partition_id(),
              to_guest ? rings_.target_vp : TapEvent::kNoVp,
              {relid_, to_guest ? u64{1} : u64{0}},
              {}});
}

/// The packet as it lies in the ring: its descriptor follows from the parts.
void Channel::tell_packet(bool to_guest, const Packet& packet) {
    const u64 data_offset = sizeof(PacketDescriptor) + packet.extension.size();
    const u64 total = data_offset + align_up(packet.payload.size(), 8);
    const PacketDescriptor descriptor = {static_cast<u16>(packet.type), static_cast<u16>(data_offset / 8),
                                         static_cast<u16>(total / 8), packet.flags, packet.transaction_id};
    std::array<u8, kMaxToldBytes> bytes{};
    std::size_t at = 0;
    const auto put = [&](const void* data, std::size_t size) {
        size = std::min(size, bytes.size() - at);
        if (size != 0) std::memcpy(bytes.data() + at, data, size);
        at += size;
    };
    put(&descriptor, sizeof descriptor);
    put(packet.extension.data(), packet.extension.size());
    put(packet.payload.data(), packet.payload.size());
    at = std::min<std::size_t>(total, bytes.size());  // padding is zero
    server_.log().tap().tell({TapKind::VmbusPacket,
                              server_.notifier().partition_id(),
                              TapEvent::kNoVp,
                              {relid_, to_guest ? u64{1} : u64{0}, packet.transaction_id, descriptor.type},
                              std::span(bytes).first(at)});
}

void Channel::mark_broken(const char* which) {
    broken_ = true;
    if (!server_.may_complain()) return;
    server_.log().warn(Area::Vmbus, "channel {} ({}): the {} ring holds an impossible index or length; channel stopped",
                       relid_, offer_.name, which);
}

}  // namespace vg::hv::vmbus
