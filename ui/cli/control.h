// The control socket of a machine: `verdigris inspect` and the control protocol (docs/control.md) for any number of clients.
#pragma once

#include <poll.h>

#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ui/cli/unix_socket.h"
#include "ui/model/control_service.h"
#include "ui/model/inspect.h"

namespace vg::cli {

/// Serves clients on a unix socket for the life of the object. A connection whose first line begins with '{' speaks JSON, a
/// request a line, until it ends. Any other first line is `inspect PATH` or `inspect-json PATH`; the answer is text up to end
/// of file. Nothing here waits for a client.
class ControlSocket {
  public:
    /// @param address "unix:PATH", see UnixListener
    static Result<std::unique_ptr<ControlSocket>> create(const std::string& address);
    ~ControlSocket();
    ControlSocket(const ControlSocket&) = delete;
    ControlSocket& operator=(const ControlSocket&) = delete;

    /// Takes what has come, answers it, hands on what was not taken yet. A client gets at most kMaxRequests answers in one
    /// call, so that the machine goes on whatever clients send.
    /// @param survey  nullptr: blocks are not counted
    void serve(machine::Machine& machine, model::ControlService& service, const jit::Survey* survey);
    /// What poll(2) has to watch for serve() to have something to do.
    void descriptors(std::vector<pollfd>& list) const;
    /// Requests are there that serve() left for its next call.
    [[nodiscard]] bool pending() const;
    /// Somebody who speaks JSON is there.
    [[nodiscard]] bool attended() const;
    /// Hands on what clients have not taken, for at most so long; for the end of a run.
    void drain(int most_ms);

  private:
    static constexpr std::size_t kMaxClients = 16;
    static constexpr unsigned kMaxRequests = 64;
    static constexpr std::size_t kMaxText = 1024, kMaxLine = 1 << 20;     ///< of a request
    static constexpr std::size_t kMaxWaiting = 1 << 20;                   ///< answers wait: no more requests are read
    static constexpr std::size_t kMaxNotices = 4 << 20;                   ///< more than this waits: the client is dropped

    struct Client {
        int fd = -1;
        enum class Form : u8 { Unknown, Text, Json } form = Form::Unknown;
        std::string in, out;
        bool over_long = false;  ///< the rest of a line that was too long is dropped
        bool at_end = false;     ///< it sends no more
        bool closing = false;    ///< once `out` is taken
        bool gone = false;
    };
    explicit ControlSocket(std::unique_ptr<UnixListener> listener) : listener_(std::move(listener)) {}
    void accept();
    void receive(Client& client);
    void answer_lines(Client& client, machine::Machine& machine, model::ControlService& service, const jit::Survey* survey);
    void answer_line(Client& client, std::string_view line, machine::Machine& machine, model::ControlService& service,
                     const jit::Survey* survey);
    void hear(model::ControlService& service);
    static void send(Client& client);
    void drop_gone();

    std::unique_ptr<UnixListener> listener_;
    std::list<Client> clients_;
    model::ControlService* heard_ = nullptr;  ///< whose notices go to clients
    unsigned listening_ = 0;
};

/// What the server says to one request line of the text form, whatever is in it. A part of the tree that does not exist is
/// empty.
[[nodiscard]] std::string answer_request(std::string_view request, const model::InspectSources& sources);

/// Client side of the text form: sends a request and returns the answer.
[[nodiscard]] Result<std::string> control_request(const std::string& address, const std::string& request);

}  // namespace vg::cli
