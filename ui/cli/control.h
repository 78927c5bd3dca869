// The control socket of a running machine: one request per connection, answered between slices.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "machine/machine.h"
#include "ui/cli/unix_socket.h"

namespace vg::cli {

/// Answers requests of clients on a unix socket for the life of the object. A request is one line, `inspect PATH` or
/// `inspect-json PATH`; the answer is text up to end of file.
class ControlSocket {
  public:
    /// @param address "unix:PATH", see UnixListener
    static Result<std::unique_ptr<ControlSocket>> create(const std::string& address);

    /// Answers what is waiting. However clients behave, it is back after kMaxClients times (100 ms for the request and
    /// 1 s for the answer); with clients that read it takes as long as printing the tree does.
    void serve(machine::Machine& machine);

  private:
    static constexpr int kMaxClients = 4;  ///< of one call
    explicit ControlSocket(std::unique_ptr<UnixListener> listener) : listener_(std::move(listener)) {}
    std::unique_ptr<UnixListener> listener_;
};

/// The state tree, or the part below `path` ("hypervisor/"), as lines or as JSON. Empty if there is no such part.
[[nodiscard]] std::string inspect_text(machine::Machine& machine, const std::string& path, bool json);

/// Client side: sends a request and returns the answer.
[[nodiscard]] Result<std::string> control_request(const std::string& address, const std::string& request);

}  // namespace vg::cli
