#include "hv/vmbus/channel.h"

#include "base/state.h"

namespace vg::hv::vmbus {

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
    if (!is_open() || broken_) return false;
    switch (incoming_.read(packet)) {
        case IncomingRing::Status::Packet:
            ++stats_.packets_in;
            stats_.bytes_in += packet.payload.size();
            return true;
        case IncomingRing::Status::Empty: commit(); return false;
        case IncomingRing::Status::Broken: mark_broken("guest-to-host"); return false;
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
    server_.log().warn(Area::Vmbus, "channel {} ({}): the {} ring holds an impossible index or length; channel stopped",
                       relid_, offer_.name, which);
}

void Channel::fields(StateVisitor& v) {
    v("name", offer_.name);
    v("sub_channel", offer_.sub_channel, Fmt::Dec);
    v("primary_relid", primary_relid_, Fmt::Dec);
    v("state", state_);
    v("announced", announced_);
    v("broken", broken_);
    v("gpadl", rings_.gpadl);
    v("target_vp", rings_.target_vp);
    v("connection_id", rings_.connection_id);
    v("event_flag", rings_.event_flag, Fmt::Dec);
    {
        const VisitScope scope(v, "incoming");
        incoming_.fields(v);
    }
    {
        const VisitScope scope(v, "outgoing");
        outgoing_.fields(v);
    }
    v("packets_in", stats_.packets_in, Fmt::Dec);
    v("bytes_in", stats_.bytes_in, Fmt::Dec);
    v("packets_out", stats_.packets_out, Fmt::Dec);
    v("bytes_out", stats_.bytes_out, Fmt::Dec);
    v("signals_in", stats_.signals_in, Fmt::Dec);
    v("signals_out", stats_.signals_out, Fmt::Dec);
    v("full", stats_.full, Fmt::Dec);
}

}  // namespace vg::hv::vmbus
