#include "ui/cli/control.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/state.h"
#include "ui/cli/commands.h"
#include "ui/cli/inspect_hypervisor.h"
#include "ui/cli/inspect_jit.h"
#include "ui/cli/statistics.h"
#include "ui/model/inspect_symbols.h"

namespace vg::cli {

namespace {

constexpr std::size_t kMaxRequest = 1024;
constexpr std::chrono::milliseconds kRequestTime{100}, kAnswerTime{1000}, kClientTime{10'000};

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

std::string answer_request(std::string_view request, const InspectSources& sources) {
    const std::size_t space = request.find(' ');
    const std::string_view verb = request.substr(0, space);
    const std::string path(space == std::string_view::npos ? "" : request.substr(space + 1));
    const bool json = verb == "inspect-json";
    if (!json && verb != "inspect") return "error: known requests are: inspect PATH, inspect-json PATH\n";
    if (is_jit_path(path)) return sources.jit(path, json);
    const std::string lines = is_walk_path(path)            ? sources.walk(path)
                              : model::is_symbol_path(path) ? sources.symbols(path)
                                                            : select(sources.tree(), path);
    return json ? json_text(to_json(lines)) : lines;
}

Result<std::unique_ptr<ControlSocket>> ControlSocket::create(const std::string& address) {
    auto listener = UnixListener::create("--control", address);
    if (!listener) return Unexpected{listener.error()};
    return std::unique_ptr<ControlSocket>(new ControlSocket(std::move(*listener)));
}

void ControlSocket::serve(machine::Machine& machine, const jit::Survey* survey) {
    using Clock = std::chrono::steady_clock;
    InspectSources sources;
    sources.tree = [&machine] {
        StatePrinter printer;
        machine.fields(printer);
        show_hypervisor(machine, printer);
        return printer.result();
    };
    sources.jit = [&](const std::string& path, bool json) { return inspect_jit(machine, survey, path, json); };
    sources.walk = [&](const std::string& path) { return inspect_walk(machine, path); };
    sources.symbols = [&](const std::string& path) { return model::inspect_symbols(machine, symbols_, path); };
    for (int i = 0; i < kMaxClients; ++i) {
        const int client = listener_->accept();
        if (client < 0) return;
        const std::string request = read_line(client, kMaxRequest, Clock::now() + kRequestTime);
        send_all(client, answer_request(request, sources), Clock::now() + kAnswerTime);
        ::close(client);
    }
}

Result<std::string> control_request(const std::string& address, const std::string& request) {
    const auto fd = connect_unix(address);
    if (!fd) return Unexpected{fd.error()};
    std::string answer;
    if (send_all(*fd, request + "\n", std::chrono::steady_clock::now() + kClientTime)) {
        char buffer[65536];
        while (true) {
            const ssize_t count = ::read(*fd, buffer, sizeof buffer);
            if (count < 0 && errno == EINTR) continue;
            if (count <= 0) break;
            answer.append(buffer, static_cast<std::size_t>(count));
        }
    }
    ::close(*fd);
    return answer;
}

int inspect(const std::string& socket, const std::string& path, bool json, bool watch) {
    while (true) {
        auto answer = control_request(socket, (json ? "inspect-json " : "inspect ") + path);
        if (!answer) return report(answer.error());
        if (answer->empty() || *answer == "{}\n") {
            return report({Error::Code::Usage, fmt::format("no state below \"{}\"; see: verdigris inspect {}", path, socket)});
        }
        if (answer->rfind("error: ", 0) == 0) return report({Error::Code::Usage, fmt::format("{}: {}", socket, *answer)});
        if (watch && ::isatty(STDOUT_FILENO) != 0) std::fputs("\x1b[H\x1b[2J", stdout);
        std::fputs(answer->c_str(), stdout);
        if (std::fflush(stdout) != 0) return kPass;  // whoever read it has seen enough
        if (!watch) return kPass;
        ::sleep(1);
    }
}

}  // namespace vg::cli
