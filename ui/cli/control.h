// The control socket of a running machine: one request per connection, answered between slices.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "jit/survey.h"
#include "machine/machine.h"
#include "ui/cli/unix_socket.h"
#include "ui/model/symbols.h"

namespace vg::cli {

/// Answers requests of clients on a unix socket for the life of the object. A request is one line, `inspect PATH` or
/// `inspect-json PATH`; the answer is text up to end of file.
class ControlSocket {
  public:
    /// @param address "unix:PATH", see UnixListener
    static Result<std::unique_ptr<ControlSocket>> create(const std::string& address);

    /// Answers what is waiting. However clients behave, it is back after kMaxClients times (100 ms for the request and
    /// 1 s for the answer); with clients that read it takes as long as printing the tree does.
    /// @param survey  nullptr: blocks are not counted
    void serve(machine::Machine& machine, const jit::Survey* survey);

  private:
    static constexpr int kMaxClients = 4;  ///< of one call
    explicit ControlSocket(std::unique_ptr<UnixListener> listener) : listener_(std::move(listener)) {}
    std::unique_ptr<UnixListener> listener_;
    model::GuestSymbols symbols_;
};

/// Where answers come from. Each is called only when the request needs it.
struct InspectSources {
    std::function<std::string()> tree;  ///< everything with a fixed place, as `path = value` lines
    std::function<std::string(const std::string& path, bool json)> jit;  ///< "jit" or below, as text or JSON
    std::function<std::string(const std::string& path)> walk;            ///< "walk/PARTITION/GPA", as lines
    std::function<std::string(const std::string& path)> symbols;         ///< "symbols/", "stack/", "explain/", as lines
};
/// What the server says to one request line, whatever is in it. A part of the tree that does not exist is empty.
[[nodiscard]] std::string answer_request(std::string_view request, const InspectSources& sources);

/// Client side: sends a request and returns the answer.
[[nodiscard]] Result<std::string> control_request(const std::string& address, const std::string& request);

}  // namespace vg::cli
