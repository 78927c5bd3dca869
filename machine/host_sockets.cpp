#include "machine/host_sockets.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace vg::machine {

namespace {

bool address_of(const std::string& path, sockaddr_un& out) {
    out = {};
    out.sun_family = AF_UNIX;
    if (path.size() >= sizeof out.sun_path) return false;
    std::memcpy(out.sun_path, path.data(), path.size());
    return true;
}

int new_socket() { return ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

/// A connection to the listener at `path`; -1: there is none.
int dial_path(const std::string& path) {
    sockaddr_un address;
    const int fd = address_of(path, address) ? new_socket() : -1;
    if (fd < 0) return -1;
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
    ::close(fd);
    return -1;
}

bool again() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

Result<std::unique_ptr<HostSockets>> HostSockets::create(hv::parent::SocketHub& hub, const std::string& path) {
    std::unique_ptr<HostSockets> sockets(new HostSockets(hub, path));
    if (auto ok = sockets->listen(); !ok) return Unexpected{ok.error()};
    hub.set_host(sockets.get());
    return sockets;
}

Result<void> HostSockets::listen() {
    if (path_.empty()) return {};
    sockaddr_un address;
    if (!address_of(path_, address)) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: the name is too long for a Unix socket; choose a folder with a "
                                "shorter one",
                                path_));
    }
    const auto cannot = [&] {
        return fail(Error::Code::Usage, fmt::format("{}: cannot listen there: {}; choose another place, or end the "
                                                    "machine that uses it",
                                                    path_, std::strerror(errno)));
    };
    listener_ = new_socket();
    if (listener_ < 0) return cannot();
    const auto* const name = reinterpret_cast<const sockaddr*>(&address);
    if (::bind(listener_, name, sizeof address) != 0) {
        if (errno != EADDRINUSE) return cannot();
        // Left over from a run that was killed, or somebody's.
        if (const int other = dial_path(path_); other >= 0) {
            ::close(other);
            errno = EADDRINUSE;
            return cannot();
        }
        if (errno != ECONNREFUSED || ::unlink(path_.c_str()) != 0 || ::bind(listener_, name, sizeof address) != 0)
            return cannot();
    }
    return ::listen(listener_, 16) == 0 ? Result<void>{} : cannot();
}

HostSockets::~HostSockets() {
    hub_.set_host(nullptr);
    for (const auto& [id, peer] : peers_) ::close(peer.fd);
    for (const Client& client : clients_) ::close(client.fd);
    if (listener_ < 0) return;
    ::close(listener_);
    ::unlink(path_.c_str());
}

// ---- from the guest

void HostSockets::opened(u32 id) {
    const auto peer = peers_.find(id);
    if (peer == peers_.end() || peer->second.port == 0) return;
    const std::string answer = fmt::format("OK {}\n", peer->second.port);
    peer->second.unsent.assign(answer.begin(), answer.end());
    peer->second.not_counted = answer.size();
    peer->second.port = 0;
}

void HostSockets::data(u32 id, std::span<const u8> bytes) {
    if (const auto peer = peers_.find(id); peer != peers_.end())
        peer->second.unsent.insert(peer->second.unsent.end(), bytes.begin(), bytes.end());
}

void HostSockets::ended(u32 id) {
    if (const auto peer = peers_.find(id); peer != peers_.end()) peer->second.guest_ended = true;
}

void HostSockets::closed(u32 id) {
    const auto peer = peers_.find(id);
    if (peer == peers_.end()) return;
    // What the guest wrote last: as much as the program's buffer takes.
    Peer& gone = peer->second;
    if (!gone.unsent.empty()) (void)::send(gone.fd, gone.unsent.data(), gone.unsent.size(), MSG_NOSIGNAL);
    hang_up(id);
}

void HostSockets::hang_up(u32 id) {
    const auto peer = peers_.find(id);
    if (peer == peers_.end()) return;
    ::close(peer->second.fd);
    peers_.erase(peer);
}

// ---- from the host

bool HostSockets::exchange(int wait_ms, const Enter& enter) {
    forget_strangers(enter);
    bool any = answer_requests(enter);
    if (wait_ms > 0 && !any) wait(wait_ms);
    accept_clients();
    any |= read_clients(enter);
    std::vector<u32> ids;
    for (const auto& [id, peer] : peers_) ids.push_back(id);
    for (const u32 id : ids) {
        // Any step may end the connection.
        if (const auto peer = peers_.find(id); peer != peers_.end()) any |= write_to(id, peer->second, enter);
        if (const auto peer = peers_.find(id); peer != peers_.end()) any |= read_from(id, peer->second, enter);
    }
    return any;
}

void HostSockets::wait(int wait_ms) {
    std::vector<pollfd> all;
    if (listener_ >= 0) all.push_back({listener_, POLLIN, 0});
    for (const Client& client : clients_) all.push_back({client.fd, POLLIN, 0});
    for (const auto& [id, peer] : peers_) {
        const bool reads = !peer.host_ended && hub_.room(id) != 0, writes = !peer.unsent.empty();
        all.push_back({peer.fd, static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), 0});
    }
    (void)::poll(all.data(), all.size(), wait_ms);
}

/// State that was loaded may have connections whose other ends are in another process, or lack some that are here.
void HostSockets::forget_strangers(const Enter& enter) {
    const std::vector<u32> known = hub_.connections();
    for (const u32 id : known) {
        const bool asked =
            std::any_of(requests_.begin(), requests_.end(), [&](const auto& each) { return each.first == id; });
        if (!asked && !peers_.contains(id)) (void)enter({SocketInput::Kind::Close, id, 0});
    }
    std::vector<u32> gone;
    for (const auto& [id, peer] : peers_) {
        if (std::find(known.begin(), known.end(), id) == known.end()) gone.push_back(id);
    }
    for (const u32 id : gone) hang_up(id);
}

bool HostSockets::answer_requests(const Enter& enter) {
    const bool any = !requests_.empty();
    for (const auto& [id, port] : std::exchange(requests_, {})) {
        const int fd = path_.empty() ? -1 : dial_path(fmt::format("{}_{}", path_, port));
        if (fd < 0) {
            (void)enter({SocketInput::Kind::Refuse, id, 0});
            continue;
        }
        peers_[id].fd = fd;
        if (!enter({SocketInput::Kind::Accept, id, 0})) hang_up(id);
    }
    return any;
}

void HostSockets::accept_clients() {
    if (listener_ < 0) return;
    while (clients_.size() < kMaxClients) {
        const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        clients_.push_back({fd, {}});
    }
}

/// Byte by byte to the end of the line: what follows is the guest's.
bool HostSockets::read_clients(const Enter& enter) {
    bool any = false;
    for (Client& client : clients_) {
        char byte = 0;
        ssize_t count;
        while ((count = ::recv(client.fd, &byte, 1, 0)) == 1 && byte != '\n' && client.line.size() < kMaxLine)
            client.line.push_back(byte);
        const bool waits = count < 0 && again();
        if (waits) continue;
        const bool dialed = count == 1 && byte == '\n' && dial(client, enter);
        any |= dialed;
        if (!dialed) ::close(client.fd);
        client.fd = -1;
    }
    std::erase_if(clients_, [](const Client& client) { return client.fd < 0; });
    return any;
}

bool HostSockets::dial(Client& client, const Enter& enter) {
    static constexpr std::string_view kWord = "CONNECT ";
    const std::string& line = client.line;
    u32 port = 0;
    const char* const end = line.data() + line.size();
    if (line.rfind(kWord, 0) != 0) return false;
    const auto parsed = std::from_chars(line.data() + kWord.size(), end, port);
    if (parsed.ec != std::errc() || parsed.ptr != end) return false;
    const std::vector<u32> before = hub_.connections();
    if (!enter({SocketInput::Kind::Connect, port, next_port_})) return false;
    for (const u32 id : hub_.connections()) {
        if (std::find(before.begin(), before.end(), id) != before.end()) continue;
        peers_[id].fd = client.fd;
        peers_[id].port = next_port_;
    }
    next_port_ = next_port_ == 0x7fffffff ? kFirstHostPort : next_port_ + 1;
    return true;
}

/// The guest's bytes to the program. The hub learns how many are gone.
bool HostSockets::write_to(u32 id, Peer& peer, const Enter& enter) {
    u64 sent = 0;
    while (!peer.unsent.empty()) {
        const ssize_t count = ::send(peer.fd, peer.unsent.data(), peer.unsent.size(), MSG_NOSIGNAL);
        if (count < 0 && again()) break;
        if (count < 0) {
            (void)enter({SocketInput::Kind::Close, id, 0});
            hang_up(id);
            return true;
        }
        peer.unsent.erase(peer.unsent.begin(), peer.unsent.begin() + count);
        sent += static_cast<u64>(count);
    }
    const u64 ours = std::min(sent, peer.not_counted);
    peer.not_counted -= ours;
    if (peer.unsent.empty() && peer.guest_ended && !peer.shut) {
        peer.shut = true;
        (void)::shutdown(peer.fd, SHUT_WR);
    }
    return sent != ours && enter({SocketInput::Kind::Taken, id, static_cast<u32>(sent - ours)});
}

bool HostSockets::read_from(u32 id, Peer& peer, const Enter& enter) {
    std::array<u8, 16 * 1024> buffer;
    bool any = false;
    while (!peer.host_ended) {
        const std::size_t room = std::min(hub_.room(id), buffer.size());
        if (room == 0) return any;
        const ssize_t count = ::recv(peer.fd, buffer.data(), room, 0);
        if (count < 0 && again()) return any;
        any = true;
        if (count <= 0) {
            peer.host_ended = true;
            (void)enter({count == 0 ? SocketInput::Kind::End : SocketInput::Kind::Close, id, 0});
            if (count < 0) hang_up(id);
            return any;
        }
        SocketInput input{SocketInput::Kind::Data, id, 0, {buffer.begin(), buffer.begin() + count}};
        if (!enter(input)) return any;
        if (!peers_.contains(id)) return any;
    }
    return any;
}

}  // namespace vg::machine
