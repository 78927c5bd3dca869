#include "hv/vmbus/channel.h"

namespace vg::hv::vmbus {

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
    ++stats_.signals_in;
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

bool Channel::write_packet(PacketType type, u16 flags, u64 transaction_id, std::span<const u8> payload) {
    if (!is_open() || broken_) return true;
    const OutgoingRing::Status status = outgoing_.write(type, flags, transaction_id, payload);
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
    if (status == OutgoingRing::Status::Signal) server_.signal_guest(*this);
    return true;
}

void Channel::mark_broken(const char* which) {
    broken_ = true;
    if (!server_.may_complain()) return;
    server_.log().warn(Area::Vmbus, "channel {} ({}): the {} ring holds an impossible index or length; channel stopped",
                       relid_, offer_.name, which);
}

}  // namespace vg::hv::vmbus
