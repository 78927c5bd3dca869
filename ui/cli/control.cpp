#include "ui/cli/control.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>

#include "ui/cli/commands.h"

namespace vg::cli {

namespace {

constexpr std::chrono::milliseconds kClientTime{10'000};

}  // namespace

std::string answer_request(std::string_view request, const model::InspectSources& sources) {
    const std::size_t space = request.find(' ');
    const std::string_view verb = request.substr(0, space);
    const std::string path(space == std::string_view::npos ? "" : request.substr(space + 1));
    const bool json = verb == "inspect-json";
    if (!json && verb != "inspect") return "error: known requests are: inspect PATH, inspect-json PATH\n";
    return model::inspect(path, json, sources);
}

Result<std::unique_ptr<ControlSocket>> ControlSocket::create(const std::string& address) {
    auto listener = UnixListener::create("--control", address);
    if (!listener) return Unexpected{listener.error()};
    return std::unique_ptr<ControlSocket>(new ControlSocket(std::move(*listener)));
}

ControlSocket::~ControlSocket() {
    if (heard_ != nullptr) heard_->remove(listening_);
    for (const Client& client : clients_) ::close(client.fd);
}

void ControlSocket::hear(model::ControlService& service) {
    if (heard_ == &service) return;
    heard_ = &service;
    listening_ = service.listen([this](const model::Json& notice) {
        const std::string line = model::json_line(notice) + "\n";
        for (Client& client : clients_) {
            if (client.form != Client::Form::Json) continue;
            client.out += line;
            if (client.out.size() > kMaxNotices) client.gone = true;
        }
    });
}

void ControlSocket::accept() {
    for (int fd = listener_->accept(); fd >= 0; fd = listener_->accept()) {
        if (clients_.size() >= kMaxClients) {
            // Whoever has said nothing for longest makes room.
            const auto silent = std::find_if(clients_.begin(), clients_.end(), [](const Client& c) { return c.form != Client::Form::Json; });
            if (silent == clients_.end()) {
                ::close(fd);
                continue;
            }
            ::close(silent->fd);
            clients_.erase(silent);
        }
        clients_.emplace_back().fd = fd;
    }
}

void ControlSocket::receive(Client& client) {
    char buffer[65536];
    while (!client.at_end && client.in.size() <= kMaxLine) {
        const ssize_t count = ::recv(client.fd, buffer, sizeof buffer, 0);
        if (count > 0) client.in.append(buffer, static_cast<std::size_t>(count));
        else if (count < 0 && errno == EINTR) continue;
        else if (count < 0 && errno == EAGAIN) return;
        else client.at_end = true;
    }
}

void ControlSocket::answer_lines(Client& client, machine::Machine& machine, model::ControlService& service,
                                 const jit::Survey* survey) {
    for (unsigned answered = 0; answered < kMaxRequests && !client.closing && client.out.size() < kMaxWaiting; ++answered) {
        const std::size_t end = client.in.find('\n');
        const bool json = client.form == Client::Form::Json || (client.form == Client::Form::Unknown && client.in.rfind('{', 0) == 0);
        const std::size_t limit = json ? kMaxLine : kMaxText;
        if (std::min(end, client.in.size()) > limit) {
            if (!client.over_long) answer_line(client, json ? "{" : client.in.substr(0, limit), machine, service, survey);
            client.over_long = true;
            if (end == std::string::npos) client.in.clear();
        }
        if (end == std::string::npos) break;
        const std::string line = client.in.substr(0, end);
        client.in.erase(0, end + 1);
        if (!client.over_long) answer_line(client, line, machine, service, survey);
        client.over_long = false;
    }
    if (!client.at_end || client.in.find('\n') != std::string::npos) return;
    // The last line of the text form may lack its end.
    if (client.form == Client::Form::Unknown && !client.in.empty()) answer_line(client, client.in, machine, service, survey);
    client.closing = true;
}

void ControlSocket::answer_line(Client& client, std::string_view line, machine::Machine& machine, model::ControlService& service,
                                const jit::Survey* survey) {
    if (client.form == Client::Form::Unknown) client.form = line.substr(0, 1) == "{" ? Client::Form::Json : Client::Form::Text;
    if (client.form == Client::Form::Json) {
        client.out += service.answer(line) + "\n";
        service.tell_due();
        return;
    }
    client.out += answer_request(line, model::inspect_sources(machine, survey));
    client.closing = true;
}

void ControlSocket::send(Client& client) {
    while (!client.out.empty() && !client.gone) {
        const ssize_t count = ::send(client.fd, client.out.data(), client.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count > 0) client.out.erase(0, static_cast<std::size_t>(count));
        else if (count < 0 && errno == EINTR) continue;
        else if (count < 0 && errno == EAGAIN) return;
        else client.gone = true;
    }
    if (client.closing) client.gone = true;
}

void ControlSocket::drop_gone() {
    std::erase_if(clients_, [](const Client& client) {
        if (client.gone) ::close(client.fd);
        return client.gone;
    });
}

void ControlSocket::serve(machine::Machine& machine, model::ControlService& service, const jit::Survey* survey) {
    hear(service);
    accept();
    for (Client& client : clients_) {
        if (client.out.size() < kMaxWaiting) receive(client);
        answer_lines(client, machine, service, survey);
    }
    for (Client& client : clients_) send(client);
    drop_gone();
}

void ControlSocket::descriptors(std::vector<pollfd>& list) const {
    list.push_back({listener_->fd(), POLLIN, 0});
    for (const Client& client : clients_) {
        const bool reads = !client.at_end && client.out.size() < kMaxWaiting;
        const short events = static_cast<short>((reads ? POLLIN : 0) | (client.out.empty() ? 0 : POLLOUT));
        list.push_back({events != 0 ? client.fd : -1, events, 0});
    }
}

bool ControlSocket::pending() const {
    return std::any_of(clients_.begin(), clients_.end(), [](const Client& client) {
        return !client.closing && client.out.size() < kMaxWaiting && client.in.find('\n') != std::string::npos;
    });
}

bool ControlSocket::attended() const {
    return std::any_of(clients_.begin(), clients_.end(), [](const Client& client) { return client.form == Client::Form::Json; });
}

void ControlSocket::drain(int most_ms) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(most_ms);
    while (true) {
        std::vector<pollfd> list;
        for (Client& client : clients_) {
            send(client);
            if (!client.gone && !client.out.empty()) list.push_back({client.fd, POLLOUT, 0});
        }
        drop_gone();
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        if (list.empty() || left.count() <= 0) return;
        (void)::poll(list.data(), list.size(), static_cast<int>(left.count()));
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
