#include "ui/cli/gdb_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "ui/model/json_text.h"

namespace vg::cli {
namespace {

struct TcpListener {
    int fd;
    unsigned port;
};

/// On the loopback interface only: whoever reaches it owns the machine.
Result<TcpListener> listen_tcp(const std::string& address, unsigned port) {
    const auto bad = [&](int reason) {
        return fail(Error::Code::Usage, fmt::format("--gdb {}: {}", address, std::strerror(reason)));
    };
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return bad(errno);
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in place{};
    place.sin_family = AF_INET;
    place.sin_port = htons(static_cast<u16>(port));
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof place;
    auto* const generic = reinterpret_cast<sockaddr*>(&place);
    if (::bind(fd, generic, sizeof place) != 0 || ::listen(fd, 1) != 0 || ::getsockname(fd, generic, &size) != 0) {
        const int reason = errno;
        ::close(fd);
        return bad(reason);
    }
    return TcpListener{fd, ntohs(place.sin_port)};
}

}  // namespace

Result<std::unique_ptr<GdbServer>> GdbServer::create(const std::string& address) {
    std::unique_ptr<GdbServer> server(new GdbServer());
    if (address.rfind("unix:", 0) == 0) {
        auto listener = UnixListener::create("--gdb", address);
        if (!listener) return Unexpected{listener.error()};
        server->unix_ = std::move(*listener);
        server->target_ = address.substr(5);
        return server;
    }
    const auto port = address.rfind("tcp:", 0) == 0 ? model::parse_number(address.substr(4)) : std::nullopt;
    if (!port || *port > 65535) return fail(Error::Code::Usage, fmt::format("--gdb {}: write tcp:PORT or unix:PATH", address));
    const auto listener = listen_tcp(address, static_cast<unsigned>(*port));
    if (!listener) return Unexpected{listener.error()};
    server->tcp_ = listener->fd;
    server->target_ = fmt::format("127.0.0.1:{}", listener->port);
    return server;
}

GdbServer::~GdbServer() {
    stub_.reset();
    if (client_ >= 0) ::close(client_);
    if (tcp_ >= 0) ::close(tcp_);
}

void GdbServer::drop() {
    if (stub_) stub_->leave();
    stub_.reset();
    ::close(client_);
    client_ = -1;
    out_.clear();
}

void GdbServer::serve(model::ControlLink& link) {
    for (int fd = ::accept4(listening(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK); fd >= 0;
         fd = ::accept4(listening(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)) {
        if (client_ >= 0) {
            ::close(fd);  // one at a time
            continue;
        }
        const int on = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // no effect on a unix socket
        client_ = fd;
        stub_ = std::make_unique<GdbStub>(link);
    }
    if (client_ < 0) {
        while (link.notice(0)) {  // nobody waits for them
        }
        return;
    }
    stub_->poll(0);
    receive();
    if (client_ < 0) return;
    stub_->poll(0);
    out_ += stub_->take_output();
    killed_ |= stub_->killed();
    send();
}

void GdbServer::receive() {
    char buffer[65536];
    const ssize_t count = ::recv(client_, buffer, sizeof buffer, MSG_DONTWAIT);
    if (count > 0) stub_->feed({buffer, static_cast<std::size_t>(count)});
    else if (count == 0 || (errno != EAGAIN && errno != EINTR)) drop();
}

void GdbServer::send() {
    while (!out_.empty()) {
        const ssize_t count = ::send(client_, out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count > 0) out_.erase(0, static_cast<std::size_t>(count));
        else if (count < 0 && errno == EINTR) continue;
        else if (count < 0 && errno == EAGAIN && out_.size() < kMaxWaiting) return;
        else return drop();
    }
    if (stub_->closing()) drop();
}

void GdbServer::descriptors(std::vector<pollfd>& list) const {
    list.push_back({listening(), POLLIN, 0});
    if (client_ >= 0) list.push_back({client_, static_cast<short>(POLLIN | (out_.empty() ? 0 : POLLOUT)), 0});
}

void GdbServer::drain(int most_ms) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(most_ms);
    while (client_ >= 0 && !out_.empty()) {
        send();
        if (client_ < 0 || out_.empty()) return;
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd descriptor{client_, POLLOUT, 0};
        if (left.count() <= 0 || ::poll(&descriptor, 1, static_cast<int>(left.count())) <= 0) return;
    }
}

}  // namespace vg::cli
