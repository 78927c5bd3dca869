// A machine in a process of its own, started for one client of the control protocol and ended with it.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "ui/cli/socket_link.h"

namespace vg::cli {

/// Starts this very program with `arguments` ("{folder}" in one is a private folder that goes with the link) and `--control unix:...` behind them, at the first request: building a
/// machine takes a while, and whoever draws a window has the link on another thread. The process ends when the link
/// does, or its owner dies.
class WorkerLink final : public model::ControlLink {
  public:
    explicit WorkerLink(std::vector<std::string> arguments) : arguments_(std::move(arguments)) {}
    ~WorkerLink() override;
    WorkerLink(const WorkerLink&) = delete;
    WorkerLink& operator=(const WorkerLink&) = delete;

    /// Error (Host) also if the process ended before it listened: with the last line it said.
    [[nodiscard]] Result<model::Json> call(const model::Json& request) override;
    [[nodiscard]] std::optional<model::Json> notice(int wait_ms) override;

  private:
    Result<void> start();
    Result<void> spawn();
    Result<void> connect();
    [[nodiscard]] bool ended();
    [[nodiscard]] std::string last_words() const;

    std::vector<std::string> arguments_;
    std::string folder_;  ///< private: the socket and what the process says
    pid_t pid_ = -1;
    std::unique_ptr<SocketLink> link_;
    std::string failure_;
};

}  // namespace vg::cli
