#include "hv/parent/socket_hub.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/state.h"

namespace vg::hv::parent {

namespace {

/// While a finished connection waits for the guest to read.
constexpr VTime kLookAgain = 10'000'000;

}  // namespace

SocketHub::SocketHub(std::string name, EventQueue& events, Log& log, vmbus::Server& server)
    : name_(std::move(name)),
      events_(events),
      log_(log),
      server_(server),
      timer_(events.add(name_ + "/tick", [this](VTime) { tick(); })) {
    server_.set_socket_service(this);
}

SocketHub::~SocketHub() { events_.cancel(timer_); }

SocketHub::Entry SocketHub::find(const vmbus::Channel& channel) {
    return std::find_if(connections_.begin(), connections_.end(),
                        [&](const auto& each) { return each.second.relid == channel.relid(); });
}

SocketHub::Connection* SocketHub::live(u32 id) {
    const auto found = connections_.find(id);
    return found == connections_.end() ? nullptr : &found->second;
}

std::vector<u32> SocketHub::connections() const {
    std::vector<u32> out;
    for (const auto& [id, connection] : connections_) {
        if (connection.state < Connection::State::Closing) out.push_back(id);
    }
    return out;
}

/// Forgets connections that the guest has released.
void SocketHub::purge() {
    std::erase_if(connections_, [this](const auto& each) {
        return each.second.state == Connection::State::Rescinded && server_.find(each.second.relid) == nullptr;
    });
}

u32 SocketHub::add(const Guid& service, const Guid& endpoint, bool from_host) {
    purge();
    if (connections_.size() >= kMaxConnections) {
        if (complaints_.pass()) log_.warn(Area::Vmbus, "{}: {} connections are too many", name_, kMaxConnections + 1);
        return 0;
    }
    do {
        ++last_id_;
    } while (last_id_ == 0 || connections_.contains(last_id_));
    Connection& made = connections_[last_id_];
    made.service = service;
    made.endpoint = endpoint;
    made.from_host = from_host;
    return last_id_;
}

vmbus::Offer SocketHub::offer_of(const Connection& connection) const {
    vmbus::Offer out;
    out.name = name_;
    out.type = connection.service;
    out.instance = connection.endpoint;
    out.flags = hvsocket::kOfferFlag | vmbus::kOfferEnumerate;
    out.user_data[hvsocket::kFromHostOffset] = connection.from_host ? 1 : 0;
    return out;
}

bool SocketHub::offer(Connection& connection) {
    connection.relid = server_.offer(offer_of(connection), *this);
    connection.state = Connection::State::Offered;
    connection.deadline = events_.now() + kOpenTimeout;
    arm();
    return connection.relid != 0;
}

// ---- from the host

u32 SocketHub::connect(u32 host_port, u32 guest_port) {
    if (!server_.takes_sockets()) return 0;
    const u32 id = add(hvsocket::port_guid(guest_port), hvsocket::port_guid(host_port), true);
    if (id == 0) return 0;
    if (offer(connections_.at(id))) return id;
    connections_.erase(id);
    return 0;
}

bool SocketHub::accept(u32 id) {
    Connection* const connection = live(id);
    if (connection == nullptr || connection->state != Connection::State::Requested) return false;
    if (offer(*connection)) return true;
    server_.refuse_socket(connection->endpoint, connection->service);
    connections_.erase(id);
    if (host_ != nullptr) host_->closed(id);
    return true;
}

bool SocketHub::refuse(u32 id) {
    Connection* const connection = live(id);
    if (connection == nullptr || connection->state != Connection::State::Requested) return false;
    server_.refuse_socket(connection->endpoint, connection->service);
    connections_.erase(id);
    return true;
}

bool SocketHub::send(u32 id, std::span<const u8> bytes) {
    Connection* const connection = live(id);
    if (connection == nullptr || bytes.size() > room(id)) return false;
    connection->stream.queue(bytes);
    pump(connections_.find(id));
    return true;
}

std::size_t SocketHub::room(u32 id) const {
    const auto found = connections_.find(id);
    const bool open = found != connections_.end() && found->second.state == Connection::State::Open;
    return open ? found->second.stream.room() : 0;
}

bool SocketHub::taken(u32 id, u64 bytes) {
    Connection* const connection = live(id);
    if (connection == nullptr || !connection->stream.taken(bytes)) return false;
    pump(connections_.find(id));
    return true;
}

bool SocketHub::end(u32 id) {
    Connection* const connection = live(id);
    if (connection == nullptr || connection->state != Connection::State::Open) return false;
    connection->stream.end();
    pump(connections_.find(id));
    return true;
}

bool SocketHub::close(u32 id) {
    Connection* const connection = live(id);
    if (connection == nullptr || connection->state >= Connection::State::Closing) return false;
    if (connection->state == Connection::State::Requested) return refuse(id);
    connection->state = Connection::State::Closing;
    connection->deadline = events_.now();
    arm();
    return true;
}

// ---- from the guest

bool SocketHub::connect_requested(const Guid& endpoint, const Guid& service) {
    const auto port = hvsocket::port_of(service);
    if (!port) return false;
    const u32 id = add(service, endpoint, false);
    if (id == 0) return false;
    if (host_ != nullptr) host_->requested(id, *port);
    return true;
}

/// The guest's connection to VMBus is gone, and all channels with it.
void SocketHub::forgotten() {
    std::map<u32, Connection> gone;
    gone.swap(connections_);
    events_.cancel(timer_);
    for (const auto& [id, connection] : gone) {
        if (host_ != nullptr && connection.state < Connection::State::Closing) host_->closed(id);
    }
}

void SocketHub::opened(vmbus::Channel& channel) {
    const auto entry = find(channel);
    if (entry == connections_.end() || entry->second.state != Connection::State::Offered) return;
    entry->second.state = Connection::State::Open;
    entry->second.deadline = kNever;
    if (host_ != nullptr) host_->opened(entry->first);
}

void SocketHub::signalled(vmbus::Channel& channel) {
    if (const auto entry = find(channel); entry != connections_.end()) pump(entry);
}

void SocketHub::closed(vmbus::Channel& channel) {
    if (const auto entry = find(channel); entry != connections_.end()) begin_close(entry);
}

/// A channel must not be taken back from inside a call: the tick does it.
void SocketHub::begin_close(Entry entry) {
    if (entry->second.state >= Connection::State::Closing) return;
    entry->second.state = Connection::State::Closing;
    entry->second.deadline = events_.now();
    arm();
    if (host_ != nullptr) host_->closed(entry->first);
}

void SocketHub::pump(Entry entry) {
    Connection& connection = entry->second;
    vmbus::Channel* const channel = server_.find(connection.relid);
    if (connection.state != Connection::State::Open || channel == nullptr || !channel->is_open()) return;
    vmbus::Packet packet;
    while (connection.stream.may_receive() && channel->read_packet(packet)) {
        if (packet.type != vmbus::PacketType::InBand) continue;
        std::span<const u8> data;
        switch (connection.stream.receive(packet.payload, data)) {
            case vsp::SocketStream::Received::Data:
                if (host_ != nullptr) host_->data(entry->first, data);
                break;
            case vsp::SocketStream::Received::End:
                if (host_ != nullptr) host_->ended(entry->first);
                break;
            case vsp::SocketStream::Received::Broken:
                if (complaints_.pass()) log_.warn(Area::Vmbus, "{}: a packet that is none of a socket", name_);
                channel->commit();
                return begin_close(entry);
        }
    }
    channel->commit();
    for (std::size_t size; (size = connection.stream.next(buffer_)) != 0; connection.stream.sent()) {
        if (!channel->write_packet(vmbus::PacketType::InBand, 0, 0, std::span<const u8>(buffer_).first(size))) break;
    }
    if (connection.stream.finished() && connection.deadline == kNever) {
        connection.deadline = events_.now() + kReadTimeout;
        arm();
    }
}

// ---- time

void SocketHub::arm() {
    VTime next = kNever;
    for (const auto& [id, connection] : connections_) {
        if (connection.state == Connection::State::Rescinded) continue;
        const bool looks = connection.state == Connection::State::Open && connection.deadline != kNever;
        next = std::min(next, looks ? std::min(connection.deadline, events_.now() + kLookAgain) : connection.deadline);
    }
    events_.cancel(timer_);
    if (next != kNever) events_.arm(timer_, std::max(next, events_.now() + 1));
}

/// Takes back what has had its time: offers that nobody took, connections that are finished and read to the end.
void SocketHub::tick() {
    std::vector<u32> due;
    for (const auto& [id, connection] : connections_) {
        if (connection.state == Connection::State::Rescinded) continue;
        const vmbus::Channel* const channel = server_.find(connection.relid);
        const bool read = connection.state == Connection::State::Open && connection.deadline != kNever &&
                          (channel == nullptr || channel->all_consumed());
        if (connection.deadline <= events_.now() || read) due.push_back(id);
    }
    for (const u32 id : due) {
        const auto entry = connections_.find(id);
        if (entry == connections_.end()) continue;
        const bool told = entry->second.state >= Connection::State::Closing;
        entry->second.state = Connection::State::Rescinded;
        entry->second.deadline = kNever;
        if (!told && host_ != nullptr) host_->closed(id);
        server_.rescind(entry->second.relid);
    }
    purge();
    arm();
}

void SocketHub::fields(StateVisitor& v) {
    v("last_id", last_id_, Fmt::Dec);
    u32 count = static_cast<u32>(connections_.size());
    v("count", count, Fmt::Dec);
    if (v.loading()) {
        for (const auto& [id, connection] : connections_) server_.drop(connection.relid);
        connections_.clear();
        count = std::min<u32>(count, kMaxConnections);
    }
    auto next = connections_.begin();
    for (u32 i = 0; i < count; ++i) {
        const VisitScope scope(v, std::to_string(i));
        u32 id = v.loading() ? 0 : next->first;
        Connection loaded;
        Connection& connection = v.loading() ? loaded : (next++)->second;
        v("id", id, Fmt::Dec);
        v("state", connection.state);
        v("from_host", connection.from_host);
        v("relid", connection.relid, Fmt::Dec);
        v("service", connection.service);
        v("endpoint", connection.endpoint);
        v("deadline", connection.deadline, Fmt::Dec);
        connection.stream.fields(v);
        if (!v.loading() || connection.state > Connection::State::Rescinded) continue;
        const bool offered = connection.state != Connection::State::Requested;
        if (offered && !server_.offer_at(connection.relid, offer_of(connection), *this)) continue;
        connections_.insert_or_assign(id, std::move(loaded));
    }
}

}  // namespace vg::hv::parent
