#include "ui/cli/terminal.h"

#include <poll.h>
#include <unistd.h>

namespace vg::cli {

Terminal::Terminal() {
    interactive_ = ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0 && ::tcgetattr(STDIN_FILENO, &saved_) == 0;
    if (!interactive_) return;
    termios raw = saved_;
    ::cfmakeraw(&raw);
    raw.c_oflag |= OPOST;  // log lines of ours still end in a newline only
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

Terminal::~Terminal() {
    if (interactive_) ::tcsetattr(STDIN_FILENO, TCSANOW, &saved_);
}

std::string Terminal::poll_input(int timeout_ms) {
    std::string typed;
    pollfd descriptor{STDIN_FILENO, POLLIN, 0};
    if (closed_ || ::poll(&descriptor, 1, timeout_ms) <= 0) return typed;
    char buffer[256];
    const ssize_t count = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (count <= 0) {
        closed_ = true;
        return typed;
    }
    constexpr char kCtrlA = 1;
    for (ssize_t i = 0; i < count; ++i) {
        const char c = buffer[i];
        if (interactive_ && escape_) {
            escape_ = false;
            if (c == 'x' || c == 'X') leave_ = true;
            else typed += c;
        } else if (interactive_ && c == kCtrlA) {
            escape_ = true;
        } else {
            typed += c;
        }
    }
    return typed;
}

}  // namespace vg::cli
