#include "ui/cli/socket_link.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "ui/cli/unix_socket.h"
#include "ui/model/json_text.h"

namespace vg::cli {

using model::Json;

Result<std::unique_ptr<SocketLink>> SocketLink::connect(const std::string& address) {
    const auto fd = connect_unix(address);
    if (!fd) return Unexpected{fd.error()};
    std::unique_ptr<SocketLink> link(new SocketLink(*fd));
    const auto hello = link->call({{"op", "hello"}});
    if (!hello || !hello->is_object() || hello->value("protocol", Json()) != 1) {
        return fail(Error::Code::Usage, fmt::format("{}: who listens there does not speak this control protocol", address));
    }
    return link;
}

SocketLink::~SocketLink() { ::close(fd_); }

Result<std::optional<Json>> SocketLink::receive(int wait_ms) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + std::chrono::milliseconds(wait_ms);
    std::size_t seen = 0;
    while (!broken_) {
        const std::size_t end = in_.find('\n', seen);
        if (end != std::string::npos) {
            auto value = model::parse_json(std::string_view(in_).substr(0, end));
            in_.erase(0, end + 1);
            if (!value || !value->is_object()) break;
            return std::optional<Json>(std::move(*value));
        }
        seen = in_.size();
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        pollfd descriptor{fd_, POLLIN, 0};
        const int ready = ::poll(&descriptor, 1, static_cast<int>(std::max<s64>(left, 0)));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return std::optional<Json>();
        char buffer[65536];
        const ssize_t count = ::read(fd_, buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0 || in_.size() > kMaxLine) break;
        in_.append(buffer, static_cast<std::size_t>(count));
    }
    broken_ = true;
    return fail(Error::Code::Host, "the connection to the machine is gone");
}

Result<Json> SocketLink::call(const Json& request) {
    Json numbered = request;
    const u64 id = next_id_++;
    numbered["id"] = id;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kAnswerMs);
    if (broken_ || !send_all(fd_, model::json_line(numbered) + "\n", deadline)) {
        broken_ = true;
        return fail(Error::Code::Host, "the connection to the machine is gone");
    }
    while (true) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
        auto line = receive(static_cast<int>(std::max<s64>(left, 0)));
        if (!line) return Unexpected{line.error()};
        if (!*line) return fail(Error::Code::Host, "the machine does not answer");
        Json& reply = **line;
        if (reply.contains("event")) {
            notices_.push_back(std::move(reply));
        } else if (reply.value("id", Json()) == id) {
            if (reply.value("ok", Json()) == true) return reply.value("result", Json());
            const Json error = reply.value("error", Json());
            return fail(Error::Code::Usage, error.is_string() ? error.get<std::string>() : "refused");
        }
    }
}

std::optional<Json> SocketLink::notice(int wait_ms) {
    if (notices_.empty()) {
        auto line = receive(wait_ms);
        if (!line || !*line || !(*line)->contains("event")) return std::nullopt;
        return std::move(**line);
    }
    Json first = std::move(notices_.front());
    notices_.pop_front();
    return first;
}

}  // namespace vg::cli
