#include "hv/vmbus/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "base/tap.h"
#include "hv/spec/hvsocket.h"
#include "hv/vmbus/channel.h"

namespace vg::hv::vmbus {

namespace {

/// Below this the guest signals all channels through one connection and the interrupt page (V-10, V-12).
constexpr u32 kFirstVersionWithEvents = kVersion2_4;
constexpr u64 kInterruptPageHalf = 256;  ///< bytes used of each half: one bit per relid
constexpr u64 kChildToParent = kPageSize / 2;
constexpr u64 kLoggedContacts = 10;  ///< a guest can repeat them without limit

/// The name of a channel message number.
const char* message_name(u32 type) {
    switch (type) {
#define VMBUS_TO_GUEST(number, name, first_version) \
    case number:                                    \
        return #name;
#define VMBUS_TO_HOST(number, name, first_version) \
    case number:                                   \
        return #name;
#include "hv/vmbus/messages.def"
        default:
            return "unknown";
    }
}

template <class T>
T read_prefix(std::span<const u8> bytes) {
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

}  // namespace

Server::Server(Notifier& notifier, Log& log, ServerOptions options)
    : notifier_(notifier), log_(log), options_(options) {
    options_.max_channels = std::min<u32>(options_.max_channels, kMaxRelid);
}

Server::~Server() = default;

// ---- devices

u16 Server::free_relid() const {
    if (channels_.size() >= options_.max_channels) return 0;
    u16 relid = 1;
    for (const auto& [used, channel] : channels_) {
        if (used != relid) break;
        ++relid;
    }
    return relid <= kMaxRelid ? relid : u16{0};
}

u16 Server::offer(Offer offer, ChannelDevice& device) {
    const u16 relid = free_relid();
    if (relid == 0) return 0;
    offer.sub_channel = 0;
    const auto [at, added] =
        channels_.emplace(relid, std::make_unique<Channel>(*this, device, std::move(offer), relid, u16{0}));
    if (offers_requested_) send_offer(*at->second);
    return relid;
}

bool Server::offer_at(u16 relid, Offer offer, ChannelDevice& device) {
    if (relid == 0 || relid > kMaxRelid || channels_.size() >= options_.max_channels) return false;
    auto channel = std::make_unique<Channel>(*this, device, std::move(offer), relid, u16{0});
    return channels_.emplace(relid, std::move(channel)).second;
}

void Server::drop(u16 relid) {
    const Channel* const channel = find(relid);
    if (channel == nullptr) return;
    if (channel->is_open() && version_ >= kFirstVersionWithEvents)
        notifier_.disconnect_event(channel->rings().connection_id);
    channels_.erase(relid);
}

u16 Server::offer_sub_channels(Channel& primary, u16 count) {
    if (primary.primary_relid() != 0 || !primary.is_open()) return 0;
    u16 existing = 0;
    for (const auto& [relid, channel] : channels_) {
        if (channel->primary_relid() == primary.relid() && channel->state() != Channel::State::Rescinded) ++existing;
    }
    for (; existing < count; ++existing) {
        const u16 relid = free_relid();
        if (relid == 0) break;
        Offer offer = primary.offer();
        offer.sub_channel = static_cast<u16>(existing + 1);
        auto channel = std::make_unique<Channel>(*this, primary.device(), std::move(offer), relid, primary.relid());
        Channel& added = *channels_.emplace(relid, std::move(channel)).first->second;
        if (offers_requested_) send_offer(added);
    }
    return existing;
}

void Server::rescind(u16 relid) {
    Channel* primary = find(relid);
    if (primary == nullptr || primary->state() == Channel::State::Rescinded) return;
    std::vector<Channel*> doomed;
    for (const auto& [id, channel] : channels_) {
        if (channel->primary_relid() == relid) doomed.push_back(channel.get());
    }
    doomed.push_back(primary);
    for (Channel* channel : doomed) withdraw(*channel);
}

/// Takes one channel back: the record stays until the guest released the relid, if the guest knows it at all.
void Server::withdraw(Channel& channel) {
    if (channel.state() == Channel::State::Rescinded) return;
    close(channel);
    if (!channel.announced()) {
        const u16 relid = channel.relid();
        std::erase_if(gpadls_, [&](const auto& entry) { return entry.second.relid() == relid; });
        channels_.erase(relid);
        return;
    }
    channel.set_state(Channel::State::Rescinded);
    RescindOffer message{};
    message.relid = channel.relid();
    send(MessageType::RescindOffer, message);
}

/// Closes an open channel; does nothing to another.
void Server::close(Channel& channel) {
    if (!channel.is_open()) return;
    channel.device().closed(channel);
    if (version_ >= kFirstVersionWithEvents) notifier_.disconnect_event(channel.rings().connection_id);
    channel.close(Channel::State::Offered);
}

Channel* Server::find(u32 relid) const {
    if (relid > kMaxRelid) return nullptr;
    const auto it = channels_.find(static_cast<u16>(relid));
    return it == channels_.end() ? nullptr : it->second.get();
}

u64 Server::gpadl_pages() const {
    u64 pages = 0;
    for (const auto& [id, gpadl] : gpadls_) pages += gpadl.pages();
    return pages;
}

// ---- messages

template <class Message>
bool Server::dispatch(std::span<const u8> message, u32 first_version) {
    if (message.size() < sizeof(Message)) return false;
    const bool contact = std::is_same_v<Message, InitiateContact>;
    // A repeated UNLOAD is answered too: the guest waits for that answer without limit (V-04, V-44).
    const bool unload = std::is_same_v<Message, Unload> && contacted_ && last_version_ >= first_version;
    if (!contact && !unload && (state_ != State::Connected || version_ < first_version)) return false;
    handle(read_prefix<Message>(message), message.subspan(sizeof(Message)));
    return true;
}

void Server::on_message(std::span<const u8> message) {
    ++messages_received_;
    log_message("guest:", message);
    tell_message(false, message);
    bool handled = false;
    u32 type = 0;
    if (message.size() >= sizeof(MessageHeader) && message.size() <= kMaxMessageSize) {
        type = read_prefix<MessageHeader>(message).type;
        switch (type) {
#define VMBUS_TO_HOST(number, name, first_version)        \
    case number:                                          \
        handled = dispatch<name>(message, first_version); \
        break;
#include "hv/vmbus/messages.def"
            default:
                break;
        }
    }
    if (!handled) {
        ++messages_ignored_;
        if (may_complain())
            log_.warn(Area::Vmbus, "ignored channel message type {} of {} bytes (version {:#x})", type, message.size(),
                      version_);
    }
}

template <class Message>
void Server::send(MessageType type, Message message) {
    message.header = {static_cast<u32>(type), 0};
    std::vector<u8> bytes(sizeof message);
    std::memcpy(bytes.data(), &message, sizeof message);
    send_bytes(std::move(bytes));
}

void Server::send_bytes(std::vector<u8> message) {
    log_message("host: ", message);
    unsent_.push_back(std::move(message));
    flush();
}

/// One line for people: name, size, and the first words of the body as they are on the wire.
void Server::log_message(const char* direction, std::span<const u8> message) {
    if (!log_.wants(Area::Vmbus, Level::Debug) || !messages_logged_.pass()) return;
    std::string words;
    for (std::size_t at = sizeof(MessageHeader); at + sizeof(u32) <= std::min<std::size_t>(message.size(), 28);
         at += sizeof(u32))
        fmt::format_to(std::back_inserter(words), " {:08x}", read_prefix<u32>(message.subspan(at)));
    const u32 type = message.size() >= sizeof(u32) ? read_prefix<u32>(message) : 0;
    log_.debug(Area::Vmbus, "{} {} ({}), {} bytes:{}", direction, message_name(type), type, message.size(), words);
}

void Server::tell_message(bool to_guest, std::span<const u8> message) {
    if (!log_.tap().wants(TapKind::VmbusMessage)) return;
    const u32 type = message.size() >= sizeof(u32) ? read_prefix<u32>(message) : 0;
    log_.tap().tell({TapKind::VmbusMessage,
                     notifier_.partition_id(),
                     TapEvent::kNoVp,
                     {type, to_guest ? u64{1} : u64{0}},
                     message});
}

void Server::flush() {
    while (!unsent_.empty() && notifier_.send_message(message_vp_, message_sint_, unsent_.front())) {
        tell_message(true, unsent_.front());
        unsent_.pop_front();
        ++messages_sent_;
    }
}

bool Server::acceptable(u32 version) const {
    return version <= options_.max_version &&
           std::find(std::begin(kKnownVersions), std::end(kKnownVersions), version) != std::end(kKnownVersions);
}

/// V-20, V-42, V-43. A contact on a live connection starts over: the guest behind it is a new one (kexec).
void Server::handle(const InitiateContact& request, std::span<const u8>) {
    disconnect();
    const bool has_sint = request.version >= kVersion5_0;
    const u8 sint = static_cast<u8>(request.interrupt_page_or_target);
    const u8 vtl = static_cast<u8>(request.interrupt_page_or_target >> 8);
    const u32 wanted = request.version >= kVersion6_0 ? static_cast<u32>(request.interrupt_page_or_target >> 32) : 0;
    const bool sint_usable = !has_sint || (sint != 0 && sint < 16 && vtl == 0);

    contacted_ = true;
    message_sint_ = has_sint && sint_usable ? sint : kDefaultSint;
    message_vp_ = request.version >= kVersion3_0 ? request.target_vp : 0;

    VersionResponse response{};
    if (acceptable(request.version) && sint_usable) {
        state_ = State::Connected;
        version_ = last_version_ = request.version;
        features_ = wanted & kFeatureGuestSignalParameters;
        interrupt_page_ = has_sint ? 0 : request.interrupt_page_or_target;
        parent_to_child_monitor_ = request.parent_to_child_monitor;
        child_to_parent_monitor_ = request.child_to_parent_monitor;
        if (version_ < kFirstVersionWithEvents && !notifier_.connect_event(kSharedEventConnection) && may_complain())
            log_.warn(Area::Vmbus, "the shared event connection is taken: an old guest cannot signal");
        response.supported = 1;
        response.connection_id = has_sint ? options_.message_connection : version_;
        if (contacts_++ < kLoggedContacts)
            log_.info(Area::Vmbus, "connected with version {}.{}", version_ >> 16, version_ & 0xffff);
    }
    // The long form only for a guest that asked for features that exist (V-21).
    if (wanted != 0 && (wanted & ~kKnownFeatures) == 0) {
        send(MessageType::VersionResponse,
             VersionResponse2{response.header, response.supported, 0, 0, response.connection_id, features_});
    } else {
        send(MessageType::VersionResponse, response);
    }
}

/// V-32. Once per connection: a guest would take the same offers again for doubles and release their relids.
void Server::handle(const RequestOffers&, std::span<const u8>) {
    if (offers_requested_) {
        if (may_complain()) log_.warn(Area::Vmbus, "REQUESTOFFERS again on one connection: ignored");
        return;
    }
    offers_requested_ = true;
    for (const auto& [relid, channel] : channels_) {
        if (channel->state() != Channel::State::Rescinded) send_offer(*channel);
    }
    send(MessageType::AllOffersDelivered, AllOffersDelivered{});
}

void Server::send_offer(Channel& channel) {
    const Offer& offer = channel.offer();
    OfferChannel message{};
    message.type = offer.type;
    message.instance = offer.instance;
    message.flags = offer.flags;
    message.mmio_megabytes = offer.mmio_megabytes;
    std::copy(offer.user_data.begin(), offer.user_data.end(), message.user_data);
    message.sub_channel_index = offer.sub_channel;
    message.relid = channel.relid();
    message.dedicated_interrupt = 1;
    message.connection_id = event_connection(channel.relid());
    channel.set_announced(true);
    send(MessageType::OfferChannel, message);
}

// ---- GPADLs

void Server::handle(const GpadlHeader& request, std::span<const u8> words) {
    const auto refuse = [&](const char* why) {
        if (may_complain())
            log_.warn(Area::Vmbus, "GPADL {:#x} of relid {} refused: {}", request.gpadl, request.relid, why);
        send(MessageType::GpadlCreated, GpadlCreated{{}, request.relid, request.gpadl, kStatusUnexpected});
    };
    Channel* channel = find(request.relid);
    if (channel == nullptr || !channel->announced()) return refuse("no such channel");
    if (channel->state() == Channel::State::Rescinded) return refuse("the channel was rescinded");
    if (gpadls_.contains(request.gpadl)) return refuse("the handle is in use");
    if (gpadls_.size() >= options_.max_gpadls) return refuse("too many GPADLs");
    const u64 used = gpadl_pages();
    const u64 left = options_.max_total_pages > used ? options_.max_total_pages - used : 0;
    Gpadl gpadl(request.gpadl, channel->relid(), request.range_count, std::min(options_.max_gpadl_pages, left));
    feed_gpadl(gpadls_.emplace(request.gpadl, std::move(gpadl)).first->second, words);
}

void Server::handle(const GpadlBody& request, std::span<const u8> words) {
    const auto it = gpadls_.find(request.gpadl);
    if (it == gpadls_.end() || it->second.complete()) {
        if (may_complain()) log_.warn(Area::Vmbus, "GPADL_BODY for handle {:#x}, which expects none", request.gpadl);
        return;
    }
    feed_gpadl(it->second, words);
}

/// Takes words of a growing list; answers when it is complete or cannot become so (V-39).
void Server::feed_gpadl(Gpadl& gpadl, std::span<const u8> words) {
    const u32 id = gpadl.id();
    const u32 relid = gpadl.relid();
    switch (gpadl.feed(words)) {
        case Gpadl::Feed::NeedMore:
            return;
        case Gpadl::Feed::Complete:
            send(MessageType::GpadlCreated, GpadlCreated{{}, relid, id, kStatusSuccess});
            return;
        case Gpadl::Feed::Invalid:
            if (may_complain())
                log_.warn(Area::Vmbus, "GPADL {:#x} of relid {} is malformed or over a limit", id, relid);
            gpadls_.erase(id);
            send(MessageType::GpadlCreated, GpadlCreated{{}, relid, id, kStatusUnexpected});
            return;
    }
}

/// V-40: always answered. After the answer the guest reuses the pages, so a channel on them must be closed first.
void Server::handle(const GpadlTeardown& request, std::span<const u8>) {
    if (const auto torn = gpadls_.find(request.gpadl); torn != gpadls_.end()) {
        if (const Channel* owner = find(torn->second.relid())) owner->device().gpadl_torn_down(request.gpadl);
        for (const auto& [relid, channel] : channels_) {
            if (!channel->is_open() || channel->rings().gpadl != request.gpadl) continue;
            if (may_complain()) log_.warn(Area::Vmbus, "relid {}: the ring's GPADL was torn down while open", relid);
            close(*channel);
        }
        gpadls_.erase(request.gpadl);
    }
    send(MessageType::GpadlTorndown, GpadlTorndown{{}, request.gpadl});
}

// ---- channels

void Server::handle(const OpenChannel& request, std::span<const u8> extra) {
    Channel* channel = find(request.relid);
    const u32 status = channel == nullptr ? kStatusUnsuccessful : try_open(*channel, request, extra);
    if (status != kStatusSuccess && may_complain())
        log_.warn(Area::Vmbus, "OPENCHANNEL of relid {} refused ({:#x})", request.relid, status);
    send(MessageType::OpenResult, OpenResult{{}, request.relid, request.open_id, status});
    if (status != kStatusSuccess) return;
    channel->device().opened(*channel);
    channel->run_device();
}

u32 Server::try_open(Channel& channel, const OpenChannel& request, std::span<const u8> extra) {
    if (!channel.announced() || channel.state() != Channel::State::Offered) return kStatusUnsuccessful;
    const auto it = gpadls_.find(request.ring_gpadl);
    Channel::Rings rings;
    rings.split = request.downstream_page_offset;
    if (it == gpadls_.end() || !rings.map(notifier_, it->second, channel.relid())) return kStatusUnsuccessful;
    rings.target_vp = version_ >= kVersion2_4 ? request.target_vp : 0;
    rings.connection_id = event_connection(channel.relid());
    rings.event_flag = channel.relid();
    if ((features_ & kFeatureGuestSignalParameters) != 0) {
        if (extra.size() < sizeof(OpenChannel2Extra)) return kStatusUnsuccessful;
        const auto chosen = read_prefix<OpenChannel2Extra>(extra);
        if (chosen.event_flag > kMaxRelid) return kStatusUnsuccessful;
        rings.connection_id = chosen.connection_id;
        rings.event_flag = chosen.event_flag;
    }
    const u32 connection_id = rings.connection_id;
    const bool events = version_ >= kFirstVersionWithEvents;
    if (events && !notifier_.connect_event(connection_id)) return kStatusUnsuccessful;
    if (channel.open(std::move(rings))) return kStatusSuccess;
    if (events) notifier_.disconnect_event(connection_id);
    return kStatusUnsuccessful;
}

/// V-36: no response. Closing a primary channel takes its sub-channels back (V-64).
void Server::handle(const CloseChannel& request, std::span<const u8>) {
    Channel* channel = find(request.relid);
    if (channel == nullptr) return;
    close(*channel);
    if (channel->primary_relid() != 0) return;
    std::vector<Channel*> subs;
    for (const auto& [relid, other] : channels_) {
        if (other->primary_relid() == channel->relid()) subs.push_back(other.get());
    }
    for (Channel* sub : subs) withdraw(*sub);
}

void Server::handle(const RelidReleased& request, std::span<const u8>) {
    const Channel* channel = find(request.relid);
    if (channel == nullptr || channel->state() != Channel::State::Rescinded) return;
    std::erase_if(gpadls_, [&](const auto& entry) { return entry.second.relid() == channel->relid(); });
    channels_.erase(channel->relid());
}

/// V-47, V-49. Interrupts can be turned off in OPENCHANNEL only.
void Server::handle(const ModifyChannel& request, std::span<const u8>) {
    Channel* channel = find(request.relid);
    const bool possible = channel != nullptr && channel->is_open() && request.target_vp != kNoVp;
    if (possible) {
        const bool was_off = channel->rings().target_vp == kNoVp;
        channel->set_target_vp(request.target_vp);
        if (was_off) signal_guest(*channel);  // something may have come without one
    }
    if (version_ >= kVersion5_3) {
        send(MessageType::ModifyChannelResponse,
             ModifyChannelResponse{{}, request.relid, possible ? kStatusSuccess : kStatusUnsuccessful});
    }
}

void Server::handle(const TlConnectRequest& request, std::span<const u8>) {
    if (sockets_ == nullptr || !takes_sockets() || !sockets_->connect_requested(request.endpoint, request.service))
        refuse_socket(request.endpoint, request.service);
}

/// As the version allows: before 4.1 the guest waits in vain (V-46, V-48).
void Server::refuse_socket(const Guid& endpoint, const Guid& service) {
    if (version_ >= kVersion4_1)
        send(MessageType::TlConnectResult, TlConnectResult{{}, endpoint, service, kStatusConnectionRefused});
}

// ---- the connection

void Server::handle(const Unload&, std::span<const u8>) {
    disconnect();
    send(MessageType::UnloadResponse, UnloadResponse{});
}

/// Forgets everything that belongs to the guest; offers stay for the next contact, but not those of sockets.
void Server::disconnect(bool sockets_too) {
    for (const auto& [relid, channel] : channels_) close(*channel);
    std::erase_if(channels_, [&](const auto& entry) {
        if ((entry.second->offer().flags & hvsocket::kOfferFlag) != 0) return sockets_too;
        return entry.second->primary_relid() != 0 || entry.second->state() == Channel::State::Rescinded;
    });
    if (sockets_too && sockets_ != nullptr) sockets_->forgotten();
    for (const auto& [relid, channel] : channels_) channel->set_announced(false);
    gpadls_.clear();
    unsent_.clear();
    if (state_ == State::Connected && version_ < kFirstVersionWithEvents)
        notifier_.disconnect_event(kSharedEventConnection);
    state_ = State::Disconnected;
    version_ = features_ = 0;
    offers_requested_ = false;
    interrupt_page_ = parent_to_child_monitor_ = child_to_parent_monitor_ = 0;
}

void Server::reset() {
    disconnect();
    contacted_ = false;
    last_version_ = 0;
    message_vp_ = 0;
    message_sint_ = kDefaultSint;
}

// ---- signals

void Server::on_signal(u32 connection_id) {
    if (connection_id == kSharedEventConnection && version_ < kFirstVersionWithEvents) return scan_interrupt_page();
    for (const auto& [relid, channel] : channels_) {
        if (channel->is_open() && channel->rings().connection_id == connection_id) return channel->deliver_signal();
    }
}

/// Below 2.4 the guest says in the second half of the interrupt page which channels it means (V-42).
void Server::scan_interrupt_page() {
    std::array<u8, kInterruptPageHalf> flags;
    const u64 half = interrupt_page_ + kChildToParent;
    if (!notifier_.read_guest(half, flags.data(), flags.size())) return;
    constexpr std::array<u8, kInterruptPageHalf> kNone{};
    if (!notifier_.write_guest(half, kNone.data(), kNone.size())) return;
    for (u16 relid = 1; relid <= kMaxRelid; ++relid) {
        if ((flags[relid / 8] >> (relid % 8) & 1) == 0) continue;
        if (Channel* channel = find(relid)) channel->deliver_signal();
    }
}

/// V-61. Below 2.4 the flag goes into the first half of the interrupt page and event flag 0 says "look there".
void Server::signal_guest(Channel& channel) {
    if (!channel.is_open() || channel.rings().target_vp == kNoVp) return;
    channel.count_signal(true);
    u16 flag = channel.rings().event_flag;
    if (version_ < kFirstVersionWithEvents) {
        const u64 at = interrupt_page_ + flag / 8;
        u8 byte;
        if (!notifier_.read_guest(at, &byte, 1)) return;
        byte = static_cast<u8>(byte | 1 << (flag % 8));
        if (!notifier_.write_guest(at, &byte, 1)) return;
        flag = 0;
    }
    notifier_.signal_guest(channel.rings().target_vp, message_sint_, flag);
}

}  // namespace vg::hv::vmbus
