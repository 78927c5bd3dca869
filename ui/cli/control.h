// The control socket of a running machine: one request per connection, answered between slices.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "jit/survey.h"
#include "machine/machine.h"

namespace vg::cli {

/// Listens on a unix socket for the life of the object (mode 0600; an old socket at the path is replaced, any other
/// file is not). A request is one line, `inspect PATH` or `inspect-json PATH`; the answer is text up to end of file.
class ControlSocket {
  public:
    /// @param address "unix:PATH"
    static Result<std::unique_ptr<ControlSocket>> create(const std::string& address);
    ~ControlSocket();
    ControlSocket(const ControlSocket&) = delete;
    ControlSocket& operator=(const ControlSocket&) = delete;

    /// Answers what is waiting; never blocks for longer than a client needs to send one line (100 ms at most).
    /// @param survey  nullptr: blocks are not counted
    void serve(machine::Machine& machine, const jit::Survey* survey);

  private:
    ControlSocket(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
    int fd_;
    std::string path_;
};

/// The state tree, or the part below `path` ("hypervisor/"), as lines or as JSON. Empty if there is no such part.
[[nodiscard]] std::string inspect_text(machine::Machine& machine, const std::string& path, bool json);

/// Client side: sends a request and returns the answer.
[[nodiscard]] Result<std::string> control_request(const std::string& address, const std::string& request);

}  // namespace vg::cli
