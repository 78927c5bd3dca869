#include "ui/cli/host_signals.h"

#include <execinfo.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/assert.h"
#include "ui/cli/commands.h"

namespace vg::cli {

namespace {

// Handlers reach nothing but globals, and may do little: everything is prepared before.
volatile std::sig_atomic_t interrupt_count = 0;  // tidy: for the handler
volatile std::sig_atomic_t terminal_is_raw = 0;  // tidy: for the handlers
termios saved_terminal;                          // tidy: for the handlers
char report_path[256];                           // tidy: for the handler
char report_head[4096];                          // tidy: for the handler
char assertion_text[1024];                       // tidy: for the handler
char alternate_stack[64 * 1024];                 // tidy: a stack overflow needs another stack

void restore_terminal() {
    if (terminal_is_raw != 0) ::tcsetattr(STDIN_FILENO, TCSANOW, &saved_terminal);
}

void on_interrupt(int) {
    interrupt_count = interrupt_count + 1;
    if (interrupt_count < 2) return;
    restore_terminal();
    ::_exit(kInterrupted);
}

void put(int fd, const char* text) {
    const ssize_t ignored = ::write(fd, text, std::strlen(text));
    (void)ignored;
}

const char* name_of(int signal) {
    switch (signal) {
        case SIGABRT: return "SIGABRT";
        case SIGSEGV: return "SIGSEGV";
        case SIGBUS: return "SIGBUS";
        case SIGILL: return "SIGILL";
        case SIGFPE: return "SIGFPE";
        default: return "signal";
    }
}

void on_own_bug(int signal) {
    restore_terminal();
    const int fd = ::open(report_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (signal != SIGABRT || assertion_text[0] == 0) {
        put(STDERR_FILENO, "verdigris: internal error: ");
        put(STDERR_FILENO, name_of(signal));
        put(STDERR_FILENO, "\n");
    }
    if (fd >= 0) {
        put(fd, report_head);
        put(fd, name_of(signal));
        put(fd, "\n");
        put(fd, assertion_text);
        put(fd, "\n");
        void* frames[64];
        ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), fd);
        ::close(fd);
        put(STDERR_FILENO, "verdigris: this is a mistake of the program, not of the guest; a report is in ");
        put(STDERR_FILENO, report_path);
        put(STDERR_FILENO, "\n");
    }
    ::_exit(kOurBug);
}

void keep_assertion(const char* text) { std::snprintf(assertion_text, sizeof assertion_text, "%s", text); }

void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigemptyset(&action.sa_mask);
    ::sigaction(signal, &action, nullptr);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif

}  // namespace

void catch_interrupts() {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) handle(signal, on_interrupt, 0);  // no SA_RESTART
    for (const int signal : {SIGPIPE, SIGXFSZ}) handle(signal, SIG_IGN, 0);  // the write fails instead
}

int interrupts() { return interrupt_count; }

void restore_at_exit(const termios* settings) {
    terminal_is_raw = 0;
    if (settings == nullptr) return;
    saved_terminal = *settings;
    terminal_is_raw = 1;
}

void report_own_bugs(int argc, char** argv) {
    if (kSanitized) return;
    const char* folder = std::getenv("TMPDIR");
    std::snprintf(report_path, sizeof report_path, "%s/verdigris-report-%d.txt", folder != nullptr && *folder != 0 ? folder : "/tmp",
                  static_cast<int>(::getpid()));
    std::string head = fmt::format("verdigris {}\n", kVersion);
    for (int i = 0; i < argc; ++i) head += fmt::format("argument {}: {}\n", i, argv[i]);
    std::snprintf(report_head, sizeof report_head, "%s", head.c_str());
    report_assertions_to(keep_assertion);
    void* frame = nullptr;
    ::backtrace(&frame, 1);  // the first call loads a library, which a handler must not
    stack_t stack{};
    stack.ss_sp = alternate_stack;
    stack.ss_size = sizeof alternate_stack;
    ::sigaltstack(&stack, nullptr);
    // Once only: a mistake in the handler itself ends the program the ordinary way.
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
        handle(signal, on_own_bug, static_cast<int>(SA_RESETHAND | SA_ONSTACK | SA_NODEFER));
    }
}

}  // namespace vg::cli
