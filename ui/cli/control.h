// The control socket of a running machine: one request per connection, answered between slices.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

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

    /// Answers what is waiting. A client has 100 ms in all to send its line and a second to take each part of the answer;
    /// the rest of a slower one's is dropped. @param survey  nullptr: blocks are not counted
    void serve(machine::Machine& machine, const jit::Survey* survey);

  private:
    ControlSocket(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
    int fd_;
    std::string path_;
};

/// What the server says to one request line, whatever is in it. `print_tree` gives the state tree as `path = value` lines
/// and is called only when the request needs it; `print_jit` gives what there is to say of the translator at "jit" or below, as text
/// or JSON. A part of the tree that does not exist is empty.
[[nodiscard]] std::string answer_request(std::string_view request, const std::function<std::string()>& print_tree,
                                         const std::function<std::string(const std::string&, bool)>& print_jit);

/// Client side: sends a request and returns the answer.
[[nodiscard]] Result<std::string> control_request(const std::string& address, const std::string& request);

}  // namespace vg::cli
