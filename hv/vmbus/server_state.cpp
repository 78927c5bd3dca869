// Field lists of the server and its channels, and how they come back: the offers exist from configuration, everything
// else of the guest is made anew from the fields.
#include <algorithm>
#include <string>

#include "base/state.h"
#include "hv/vmbus/channel.h"
#include "hv/vmbus/server.h"

namespace vg::hv::vmbus {

namespace {

/// Visits the size of a collection; a loaded one is cut to `limit`.
u32 visit_count(StateVisitor& v, std::size_t size, u32 limit) {
    u32 count = static_cast<u32>(size);
    v("count", count, Fmt::Dec);
    return v.loading() ? std::min(count, limit) : count;
}

}  // namespace

void Server::fields(StateVisitor& v) {
    if (v.loading()) disconnect(/*sockets_too=*/false);  // the hub has offered those of this state already
    v("state", state_);
    v("version", version_);
    v("last_version", last_version_);
    v("features", features_);
    v("message_vp", message_vp_, Fmt::Dec);
    v("message_sint", message_sint_, Fmt::Dec);
    v("contacted", contacted_);
    v("offers_requested", offers_requested_);
    v("interrupt_page", interrupt_page_);
    v("parent_to_child_monitor", parent_to_child_monitor_);
    v("child_to_parent_monitor", child_to_parent_monitor_);
    v("contacts", contacts_, Fmt::Dec);
    v("messages_received", messages_received_, Fmt::Dec);
    v("messages_sent", messages_sent_, Fmt::Dec);
    v("messages_ignored", messages_ignored_, Fmt::Dec);
    if (v.loading() && state_ == State::Connected && version_ < kVersion2_4)
        (void)notifier_.connect_event(kSharedEventConnection);
    unsent_fields(v);
    gpadl_fields(v);
    channel_fields(v);
}

void Server::unsent_fields(StateVisitor& v) {
    const VisitScope scope(v, "unsent");
    const u32 count = visit_count(v, unsent_.size(), options_.max_unsent_messages + options_.max_channels + 1);
    if (v.loading()) unsent_.resize(count);
    for (u32 i = 0; i < count; ++i) v(std::to_string(i), unsent_[i], kMaxMessageSize);
}

void Server::gpadl_fields(StateVisitor& v) {
    const VisitScope scope(v, "gpadls");
    const u32 count = visit_count(v, gpadls_.size(), options_.max_gpadls);
    auto next = gpadls_.begin();
    for (u32 i = 0; i < count; ++i) {
        const VisitScope each(v, std::to_string(i));
        if (!v.loading()) {
            (next++)->second.fields(v);
            continue;
        }
        Gpadl gpadl(0, 0, 0, options_.max_gpadl_pages);
        gpadl.fields(v);
        gpadls_.emplace(gpadl.id(), std::move(gpadl));
    }
}

void Server::channel_fields(StateVisitor& v) {
    const VisitScope scope(v, "channels");
    const u32 count = visit_count(v, channels_.size(), options_.max_channels);
    auto next = channels_.begin();
    for (u32 i = 0; i < count; ++i) {
        const VisitScope each(v, std::to_string(i));
        Channel* channel = v.loading() ? nullptr : (next++)->second.get();
        u16 relid = channel != nullptr ? channel->relid() : u16{0};
        u16 primary_relid = channel != nullptr ? channel->primary_relid() : u16{0};
        u16 index = channel != nullptr ? channel->sub_channel() : u16{0};
        v("relid", relid, Fmt::Dec);
        v("primary_relid", primary_relid, Fmt::Dec);
        v("sub_channel", index, Fmt::Dec);
        if (v.loading()) channel = restore_channel(relid, primary_relid, index);
        if (channel == nullptr) continue;  // no such device in this configuration: its fields stay unread
        channel->fields(v);
        if (v.loading() && channel->is_open()) {
            if (version_ >= kVersion2_4) (void)notifier_.connect_event(channel->rings().connection_id);
            channel->device().restored(*channel);
        }
    }
}

/// The channel that the fields speak of: an offer of the configuration, or a sub-channel made for it.
Channel* Server::restore_channel(u16 relid, u16 primary_relid, u16 index) {
    if (Channel* channel = find(relid)) return channel->primary_relid() == primary_relid ? channel : nullptr;
    Channel* primary = find(primary_relid);
    if (relid == 0 || relid > kMaxRelid || primary == nullptr || primary->primary_relid() != 0) return nullptr;
    Offer offer = primary->offer();
    offer.sub_channel = index;
    auto channel = std::make_unique<Channel>(*this, primary->device(), std::move(offer), relid, primary_relid);
    return channels_.emplace(relid, std::move(channel)).first->second.get();
}

void Channel::fields(StateVisitor& v) {
    v("name", offer_.name);
    v("state", state_);
    v("announced", announced_);
    v("broken", broken_);
    v("gpadl", rings_.gpadl);
    v("split", rings_.split, Fmt::Dec);
    v("target_vp", rings_.target_vp);
    v("connection_id", rings_.connection_id);
    v("event_flag", rings_.event_flag, Fmt::Dec);
    if (v.loading() && !restore_rings()) state_ = State::Offered;
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

/// False if the channel says that it is open over a GPADL that cannot carry rings.
bool Channel::restore_rings() {
    if (state_ == State::Rescinded || state_ == State::Offered) return true;
    if (state_ != State::Open || rings_.event_flag > kMaxRelid) return false;
    const auto it = server_.gpadls().find(rings_.gpadl);
    if (it == server_.gpadls().end() || !rings_.map(server_.notifier(), it->second, relid_)) return false;
    incoming_ = IncomingRing(rings_.incoming);
    outgoing_ = OutgoingRing(rings_.outgoing);
    return true;
}

}  // namespace vg::hv::vmbus
