#include "ui/model/message_channel.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/types.h"

namespace vg::model {
namespace {

/// In front of each message: how many bytes of JSON follow, and whether a descriptor came with it.
using Length = u32;
constexpr Length kWithFile = 1u << 31;

}  // namespace

MessageChannel& MessageChannel::operator=(MessageChannel&& other) noexcept {
    std::swap(file_, other.file_);
    std::swap(gone_, other.gone_);
    std::swap(in_, other.in_);
    std::swap(passed_, other.passed_);
    return *this;
}

Result<std::pair<MessageChannel, MessageChannel>> MessageChannel::make_pair() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return fail(Error::Code::Host, fmt::format("a pair of sockets: {}", std::strerror(errno)));
    }
    return std::pair(MessageChannel(ends[0]), MessageChannel(ends[1]));
}

void MessageChannel::close() {
    if (passed_ >= 0) ::close(passed_);
    if (file_ >= 0) ::close(file_);
    passed_ = file_ = -1;
    in_.clear();
}

bool MessageChannel::send(const Json& message, int file) {
    const std::string text = message.dump(-1, ' ', false, Json::error_handler_t::replace);
    std::string bytes(sizeof(Length), '\0');
    const Length length = static_cast<Length>(text.size()) | (file >= 0 ? kWithFile : 0);
    std::memcpy(bytes.data(), &length, sizeof length);
    bytes += text;
    std::size_t at = 0;
    while (at < bytes.size() && !closed()) {
        iovec part{bytes.data() + at, bytes.size() - at};
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
        msghdr header{};
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        if (file >= 0 && at == 0) {
            header.msg_control = control;
            header.msg_controllen = sizeof control;
            cmsghdr* const rights = CMSG_FIRSTHDR(&header);
            rights->cmsg_level = SOL_SOCKET;
            rights->cmsg_type = SCM_RIGHTS;
            rights->cmsg_len = CMSG_LEN(sizeof file);
            std::memcpy(CMSG_DATA(rights), &file, sizeof file);
        }
        const ssize_t done = ::sendmsg(file_, &header, MSG_NOSIGNAL);
        if (done > 0) at += static_cast<std::size_t>(done);
        else if (done < 0 && errno != EINTR) gone_ = true;
    }
    return at == bytes.size();
}

std::optional<MessageChannel::Message> MessageChannel::take() {
    Length length = 0;
    if (in_.size() < sizeof length) return std::nullopt;
    std::memcpy(&length, in_.data(), sizeof length);
    const bool with_file = (length & kWithFile) != 0;
    length &= ~kWithFile;
    if (in_.size() - sizeof length < length) return std::nullopt;
    Message message;
    message.json = Json::parse(in_.begin() + sizeof length, in_.begin() + static_cast<std::ptrdiff_t>(sizeof length + length), nullptr, false);
    in_.erase(0, sizeof length + length);
    if (with_file) message.file = std::exchange(passed_, -1);
    return message;
}

bool MessageChannel::read_more(int wait_ms) {
    pollfd poll_for{file_, POLLIN, 0};
    const int ready = ::poll(&poll_for, 1, wait_ms);
    if (ready == 0 || (ready < 0 && errno == EINTR)) return false;
    char buffer[65536];
    iovec part{buffer, sizeof buffer};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t count = ::recvmsg(file_, &header, MSG_CMSG_CLOEXEC);
    if (count < 0 && errno == EINTR) return false;
    if (count <= 0) {
        gone_ = true;
        return false;
    }
    for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
        if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
        if (passed_ >= 0) ::close(passed_);
        std::memcpy(&passed_, CMSG_DATA(each), sizeof passed_);
    }
    in_.append(buffer, static_cast<std::size_t>(count));
    return true;
}

std::optional<MessageChannel::Message> MessageChannel::receive(int wait_ms) {
    while (true) {
        if (auto message = take()) return message;
        if (closed()) return std::nullopt;
        // A message that has begun is waited for: its sender is writing the rest.
        if (!read_more(in_.empty() ? wait_ms : -1) && in_.empty() && wait_ms >= 0) return std::nullopt;
        if (gone_) return std::nullopt;
    }
}

}  // namespace vg::model
