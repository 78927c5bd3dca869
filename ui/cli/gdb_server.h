// Where gdb connects: `--gdb tcp:PORT|unix:PATH`.
#pragma once

#include <poll.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "ui/cli/gdb_stub.h"
#include "ui/cli/unix_socket.h"

namespace vg::cli {

/// Listens for one gdb at a time and carries its conversation with a GdbStub. Nothing here waits for gdb.
class GdbServer {
  public:
    /// @param address  "tcp:PORT" (on 127.0.0.1; port 0: a free one) or "unix:PATH"
    static Result<std::unique_ptr<GdbServer>> create(const std::string& address);
    ~GdbServer();
    GdbServer(const GdbServer&) = delete;
    GdbServer& operator=(const GdbServer&) = delete;

    /// What to write behind `target remote` in gdb.
    [[nodiscard]] const std::string& target() const { return target_; }
    /// Takes a connection, what gdb sent, notices of the link; hands on answers. @param link  outlives this
    void serve(model::ControlLink& link);
    /// What poll(2) has to watch for serve() to have something to do.
    void descriptors(std::vector<pollfd>& list) const;
    /// Hands on what gdb has not taken, for at most so long.
    void drain(int most_ms);
    [[nodiscard]] bool connected() const { return client_ >= 0; }
    /// gdb asked to end the machine.
    [[nodiscard]] bool killed() const { return killed_; }

  private:
    static constexpr std::size_t kMaxWaiting = 4 << 20;  ///< a gdb that does not read is dropped
    GdbServer() = default;
    [[nodiscard]] int listening() const { return unix_ ? unix_->fd() : tcp_; }
    void receive();
    void send();
    void drop();

    std::unique_ptr<UnixListener> unix_;
    int tcp_ = -1;
    int client_ = -1;
    std::string target_, out_;
    std::unique_ptr<GdbStub> stub_;
    bool killed_ = false;
};

}  // namespace vg::cli
