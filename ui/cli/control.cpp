#include "ui/cli/control.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/state.h"
#include "ui/cli/commands.h"
#include "ui/cli/inspect_jit.h"

namespace vg::cli {

namespace {

constexpr std::chrono::milliseconds kRequestTimeout(100);
constexpr std::size_t kMaxRequest = 1024;

Result<sockaddr_un> parse_address(const std::string& address) {
    sockaddr_un socket_address{};
    socket_address.sun_family = AF_UNIX;
    if (address.rfind("unix:", 0) != 0 || address.size() - 5 >= sizeof socket_address.sun_path || address.size() == 5) {
        return fail(Error::Code::Usage,
                    fmt::format("\"{}\" is not a socket address; write unix:PATH with a path under {} characters", address,
                                sizeof socket_address.sun_path));
    }
    std::memcpy(socket_address.sun_path, address.c_str() + 5, address.size() - 5);
    return socket_address;
}

bool send_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (count <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
}

std::string read_line(int fd) {
    using std::chrono::steady_clock;
    const auto end = steady_clock::now() + kRequestTimeout;
    std::string line;
    while (line.size() < kMaxRequest) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - steady_clock::now());
        pollfd descriptor{fd, POLLIN, 0};
        char c = 0;
        if (left.count() <= 0 || ::poll(&descriptor, 1, static_cast<int>(left.count())) <= 0 || ::read(fd, &c, 1) != 1 ||
            c == '\n') {
            break;
        }
        line += c;
    }
    return line;
}

/// The printed tree as nested objects.
nlohmann::ordered_json to_json(const std::string& text) {
    nlohmann::ordered_json root = nlohmann::ordered_json::object();
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t equals = line.find(" = ");
        if (equals == std::string::npos) continue;
        nlohmann::ordered_json* node = &root;
        std::istringstream parts(line.substr(0, equals));
        for (std::string part; std::getline(parts, part, '/');) {
            if (!node->is_object()) *node = nlohmann::ordered_json::object();
            node = &(*node)[part];
        }
        *node = line.substr(equals + 3);
    }
    return root;
}

/// The lines below `path` ("hypervisor/").
std::string select(const std::string& tree, std::string_view path) {
    std::string selected;
    std::istringstream lines(tree);
    for (std::string line; std::getline(lines, line);) {
        const bool below = line.size() > path.size() &&
                           (path.empty() || path.back() == '/' || line[path.size()] == '/' || line[path.size()] == ' ');
        if (below && line.compare(0, path.size(), path) == 0) selected += line + "\n";
    }
    return selected;
}

}  // namespace

std::string answer_request(std::string_view request, const std::function<std::string()>& print_tree,
                           const std::function<std::string(const std::string&, bool)>& print_jit) {
    const std::size_t space = request.find(' ');
    const std::string_view verb = request.substr(0, space);
    const std::string_view path = space == std::string_view::npos ? "" : request.substr(space + 1);
    const bool known = verb == "inspect" || verb == "inspect-json";
    if (known && is_jit_path(std::string(path))) return print_jit(std::string(path), verb == "inspect-json");
    if (verb == "inspect") return select(print_tree(), path);
    if (verb == "inspect-json") {
        // A name may hold bytes that are no UTF-8; they are shown as U+FFFD.
        using Json = nlohmann::ordered_json;
        return to_json(select(print_tree(), path)).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    }
    return "error: known requests are: inspect PATH, inspect-json PATH\n";
}

Result<std::unique_ptr<ControlSocket>> ControlSocket::create(const std::string& address) {
    auto socket_address = parse_address(address);
    if (!socket_address) return Unexpected{socket_address.error()};
    const std::string path = address.substr(5);
    struct stat info {};
    if (::lstat(path.c_str(), &info) == 0) {
        if (!S_ISSOCK(info.st_mode)) {
            return fail(Error::Code::Usage, fmt::format("--control {}: the path is taken by a file that is not a socket; "
                                                        "name another", address));
        }
        ::unlink(path.c_str());
    }
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const auto* generic = reinterpret_cast<const sockaddr*>(&*socket_address);
    if (fd < 0 || ::bind(fd, generic, sizeof(sockaddr_un)) != 0 || ::chmod(path.c_str(), 0600) != 0 ||
        ::listen(fd, 4) != 0) {
        const int code = errno;
        if (fd >= 0) ::close(fd);
        return fail(Error::Code::Usage, fmt::format("--control {}: {}", address, std::strerror(code)));
    }
    return std::unique_ptr<ControlSocket>(new ControlSocket(fd, path));
}

ControlSocket::~ControlSocket() {
    ::close(fd_);
    ::unlink(path_.c_str());
}

void ControlSocket::serve(machine::Machine& machine, const jit::Survey* survey) {
    while (true) {
        const int client = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
        if (client < 0) return;
        constexpr timeval kSendTimeout{.tv_sec = 1, .tv_usec = 0};
        ::setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &kSendTimeout, sizeof kSendTimeout);
        const auto print_tree = [&machine] {
            StatePrinter printer;
            machine.fields(printer);
            return printer.result();
        };
        const auto print_jit = [&](const std::string& path, bool json) { return inspect_jit(machine, survey, path, json); };
        send_all(client, answer_request(read_line(client), print_tree, print_jit));
        ::close(client);
    }
}

Result<std::string> control_request(const std::string& address, const std::string& request) {
    auto socket_address = parse_address(address);
    if (!socket_address) return Unexpected{socket_address.error()};
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto* generic = reinterpret_cast<const sockaddr*>(&*socket_address);
    if (fd < 0 || ::connect(fd, generic, sizeof(sockaddr_un)) != 0) {
        const int code = errno;
        if (fd >= 0) ::close(fd);
        return fail(Error::Code::Usage, fmt::format("{}: {}; is a machine running with --control {}?", address,
                                                    std::strerror(code), address));
    }
    std::string answer;
    if (send_all(fd, request + "\n")) {
        char buffer[65536];
        while (true) {
            const ssize_t count = ::read(fd, buffer, sizeof buffer);
            if (count <= 0) break;
            answer.append(buffer, static_cast<std::size_t>(count));
        }
    }
    ::close(fd);
    return answer;
}

int inspect(const std::string& socket, const std::string& path, bool json, bool watch) {
    while (true) {
        auto answer = control_request(socket, (json ? "inspect-json " : "inspect ") + path);
        if (!answer) return report(answer.error());
        if (answer->empty() || *answer == "{}\n") {
            return report({Error::Code::Usage, fmt::format("no state below \"{}\"; see: verdigris inspect {}", path, socket)});
        }
        if (watch) std::fputs("\x1b[H\x1b[2J", stdout);
        std::fputs(answer->c_str(), stdout);
        std::fflush(stdout);
        if (!watch) return kPass;
        ::sleep(1);
    }
}

}  // namespace vg::cli
