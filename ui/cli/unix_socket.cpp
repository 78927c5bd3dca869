#include "ui/cli/unix_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace vg::cli {

namespace {

constexpr std::string_view kPrefix = "unix:";

Result<sockaddr_un> parse_address(const std::string& address) {
    sockaddr_un parsed{};
    parsed.sun_family = AF_UNIX;
    const std::string path = address.rfind(kPrefix, 0) == 0 ? address.substr(kPrefix.size()) : "";
    if (path.empty() || path.size() >= sizeof parsed.sun_path) {
        return fail(Error::Code::Usage, fmt::format("\"{}\" is not a socket address; write unix:PATH with a path under {} characters",
                                                    address, sizeof parsed.sun_path));
    }
    std::memcpy(parsed.sun_path, path.c_str(), path.size());
    return parsed;
}

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

/// True if somebody accepts connections there.
bool is_served(const sockaddr_un& address) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    // A full backlog is somebody's, too.
    const bool served = fd >= 0 && (::connect(fd, generic(address), sizeof address) == 0 || errno == EAGAIN);
    if (fd >= 0) ::close(fd);
    return served;
}

/// Waits until the descriptor is ready for `events`; false at the deadline.
bool wait_for(int fd, short events, Deadline deadline) {
    while (true) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
        pollfd descriptor{fd, events, 0};
        const int ready = ::poll(&descriptor, 1, static_cast<int>(std::max<s64>(left, 0)));
        if (ready > 0) return true;
        if (ready == 0 || errno != EINTR) return false;
    }
}

}  // namespace

Result<std::unique_ptr<UnixListener>> UnixListener::create(const std::string& option, const std::string& address) {
    auto parsed = parse_address(address);
    if (!parsed) return Unexpected{parsed.error().in(option)};
    const auto bad = [&](std::string_view why) {
        return fail(Error::Code::Usage, fmt::format("{} {}: {}", option, address, why));
    };
    const std::string path = parsed->sun_path;
    struct stat info {};
    if (::lstat(path.c_str(), &info) == 0) {
        if (!S_ISSOCK(info.st_mode)) return bad("the path is taken by a file that is not a socket; name another");
        if (is_served(*parsed)) return bad("another program listens there; name another path, or stop that one");
        ::unlink(path.c_str());
    }
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    // Nobody can connect before listen(): the mode is right from the first moment.
    if (fd < 0 || ::bind(fd, generic(*parsed), sizeof *parsed) != 0 || ::chmod(path.c_str(), 0600) != 0 ||
        ::listen(fd, 4) != 0 || ::lstat(path.c_str(), &info) != 0) {
        const int reason = errno;
        if (fd >= 0) ::close(fd);
        return bad(std::strerror(reason));
    }
    return std::unique_ptr<UnixListener>(new UnixListener(fd, path, info.st_dev, info.st_ino));
}

UnixListener::~UnixListener() {
    ::close(fd_);
    struct stat info {};
    if (::lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) ::unlink(path_.c_str());
}

int UnixListener::accept() const { return ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK); }

Result<int> connect_unix(const std::string& address) {
    auto parsed = parse_address(address);
    if (!parsed) return Unexpected{parsed.error()};
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ::connect(fd, generic(*parsed), sizeof *parsed) == 0) return fd;
    const int reason = errno;
    if (fd >= 0) ::close(fd);
    return fail(Error::Code::Usage,
                fmt::format("{}: {}; is a machine running with --control {}?", address, std::strerror(reason), address));
}

std::string read_line(int fd, std::size_t limit, Deadline deadline) {
    std::string line;
    while (line.size() < limit && wait_for(fd, POLLIN, deadline)) {
        char c = 0;
        const ssize_t count = ::read(fd, &c, 1);
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (count <= 0 || c == '\n') break;
        line += c;
    }
    return line;
}

bool send_all(int fd, std::string_view text, Deadline deadline) {
    while (!text.empty()) {
        const ssize_t count = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
        else if (count < 0 && errno == EINTR) continue;
        else if (count == 0 || errno != EAGAIN || !wait_for(fd, POLLOUT, deadline)) return false;
        if (std::chrono::steady_clock::now() > deadline && !text.empty()) return false;
    }
    return true;
}

}  // namespace vg::cli
