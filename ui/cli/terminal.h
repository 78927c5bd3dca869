// The user's terminal, or whatever standard input is, as a guest console.
#pragma once

#include <termios.h>

#include <string>

#include "base/types.h"

namespace vg::cli {

/// Puts standard input into raw mode for its life, if it and standard output are terminals. Ctrl-A X asks to leave,
/// Ctrl-A Ctrl-A sends one Ctrl-A. The settings come back however the program ends.
class Terminal {
  public:
    Terminal();
    ~Terminal();
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;

    [[nodiscard]] bool interactive() const { return interactive_; }
    /// What was typed since the last call, waiting at most `timeout_ms` for the first byte. Sets leave() on Ctrl-A X.
    std::string poll_input(int timeout_ms);
    [[nodiscard]] bool leave() const { return leave_; }
    /// Readable when poll_input has something to read; -1 when it would not read.
    [[nodiscard]] int input_descriptor() const;
    /// True if nothing will ever be typed: standard input is at its end.
    [[nodiscard]] bool closed() const { return closed_; }

  private:
    std::string unescaped(std::string_view typed);

    bool interactive_ = false, escape_ = false, leave_ = false, closed_ = false;
    termios saved_{};
};

}  // namespace vg::cli
