// A run of this program in a process of its own.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace vg::cli {

/// How a process ended.
struct Ending {
    int code = 0;    ///< its exit code, if no signal ended it
    int signal = 0;  ///< what ended it, or 0
    double seconds = 0;
};

/// Started with this program's own file and nothing to type. It has a process group of its own, so a terminal's Ctrl-C
/// reaches it through interrupt() only, and it is stopped if this process dies.
class TestProcess {
  public:
    /// @param words  the command line behind the program's name
    /// @param log    the file that takes its standard output and standard error
    /// Errors: Usage (the log cannot be written), Host (no process can be made).
    static Result<TestProcess> start(const std::vector<std::string>& words, const std::string& log);

    TestProcess(TestProcess&& other) noexcept : pid_(other.pid_), start_(other.start_) { other.pid_ = -1; }
    TestProcess& operator=(TestProcess&& other) noexcept;
    /// Ends the process if it still runs.
    ~TestProcess();

    /// How it ended, once it has. Does not wait.
    [[nodiscard]] std::optional<Ending> ended();
    /// As Ctrl-C would: it keeps what it has written.
    void interrupt();
    void kill();
    [[nodiscard]] double seconds() const;

  private:
    using SteadyClock = std::chrono::steady_clock;
    explicit TestProcess(pid_t pid) : pid_(pid), start_(SteadyClock::now()) {}
    pid_t pid_;  ///< -1: has ended
    SteadyClock::time_point start_;
};

}  // namespace vg::cli
