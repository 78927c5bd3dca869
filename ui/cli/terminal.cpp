#include "ui/cli/terminal.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string_view>

#include "ui/cli/host_signals.h"

namespace vg::cli {

namespace {

/// True if reading would stop the process: a terminal whose foreground is another job.
bool in_background() { return ::isatty(STDIN_FILENO) != 0 && ::tcgetpgrp(STDIN_FILENO) != ::getpgrp(); }

void sleep_ms(int milliseconds) {
    if (milliseconds > 0) ::poll(nullptr, 0, milliseconds);  // a signal ends it
}

}  // namespace

Terminal::Terminal() {
    interactive_ = ::isatty(STDOUT_FILENO) != 0 && ::tcgetattr(STDIN_FILENO, &saved_) == 0 && !in_background();
    if (!interactive_) return;
    restore_at_exit(&saved_);
    termios raw = saved_;
    ::cfmakeraw(&raw);
    raw.c_oflag |= OPOST;  // log lines of ours still end in a newline only
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

Terminal::~Terminal() {
    if (!interactive_) return;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &saved_);
    restore_at_exit(nullptr);
}

std::string Terminal::poll_input(int timeout_ms) {
    pollfd descriptor{STDIN_FILENO, POLLIN, 0};
    if (closed_ || in_background()) {
        sleep_ms(timeout_ms);
        return {};
    }
    if (::poll(&descriptor, 1, timeout_ms) <= 0) return {};
    char buffer[256];
    const ssize_t count = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return {};
    if (count <= 0) {
        closed_ = true;
        return {};
    }
    const std::string_view typed(buffer, static_cast<std::size_t>(count));
    return interactive_ ? unescaped(typed) : std::string(typed);
}

int Terminal::input_descriptor() const { return closed_ || in_background() ? -1 : STDIN_FILENO; }

std::string Terminal::unescaped(std::string_view typed) {
    constexpr char kCtrlA = 1;
    std::string out;
    for (const char c : typed) {
        if (escape_ && (c == 'x' || c == 'X')) leave_ = true;
        else if (escape_ || c != kCtrlA) out += c;
        escape_ = !escape_ && c == kCtrlA;
    }
    return out;
}

}  // namespace vg::cli
