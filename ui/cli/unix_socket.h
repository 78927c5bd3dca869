// Unix sockets that the program listens on: the control socket, a console.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace vg::cli {

/// A listening socket with mode 0600. Its path goes when the object does, if it is still this socket's.
class UnixListener {
  public:
    /// @param option   what the user wrote before the address, for messages: "--control"
    /// @param address  "unix:PATH". A socket that nobody listens on is replaced; one that is in use, and any other file,
    ///                 is an error (Usage).
    static Result<std::unique_ptr<UnixListener>> create(const std::string& option, const std::string& address);
    ~UnixListener();
    UnixListener(const UnixListener&) = delete;
    UnixListener& operator=(const UnixListener&) = delete;

    [[nodiscard]] int fd() const { return fd_; }
    /// A waiting client's descriptor, non-blocking, the caller's to close; -1 if there is none.
    [[nodiscard]] int accept() const;

  private:
    UnixListener(int fd, std::string path, u64 device, u64 inode)
        : fd_(fd), path_(std::move(path)), device_(device), inode_(inode) {}
    int fd_;
    std::string path_;
    u64 device_, inode_;
};

/// Connects to "unix:PATH". The descriptor blocks. Error (Usage) if nobody listens there.
[[nodiscard]] Result<int> connect_unix(const std::string& address);

using Deadline = std::chrono::steady_clock::time_point;

/// A line without its end, of at most `limit` bytes; what came until the deadline, if that is earlier.
[[nodiscard]] std::string read_line(int fd, std::size_t limit, Deadline deadline);
/// False if the peer is gone or has not taken everything by the deadline.
bool send_all(int fd, std::string_view text, Deadline deadline);

}  // namespace vg::cli
