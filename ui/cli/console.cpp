#include "ui/cli/console.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "ui/cli/host_signals.h"
#include "ui/cli/output_file.h"
#include "ui/cli/terminal.h"
#include "ui/cli/unix_socket.h"

namespace vg::cli {

namespace {

constexpr std::size_t kBuffer = 64 * 1024;

class NoConsole final : public Console {
  public:
    void put(u8) override {}
};

/// Output to a descriptor, in blocks.
class FdConsole : public Console {
  public:
    explicit FdConsole(int fd) : fd_(fd) {}
    void put(u8 byte) override {
        pending_.push_back(static_cast<char>(byte));
        if (pending_.size() >= kBuffer) flush();
    }
    void flush() override {
        if (!failure_ && !pending_.empty() && !write_all(fd_, pending_) && errno != EINTR) {
            failure_ = {errno == EPIPE, errno == EPIPE ? "whoever read the console is gone"
                                                       : fmt::format("the console cannot be written: {}; check free space",
                                                                     std::strerror(errno))};
        }
        pending_.clear();
    }

  private:
    int fd_;
    std::string pending_;
};

class FileConsole final : public FdConsole {
  public:
    explicit FileConsole(std::unique_ptr<OutputFile> file) : FdConsole(file->fd()), file_(std::move(file)) {}
    ~FileConsole() override { flush(); }
    void begin() override { file_->begin(); }

  private:
    std::unique_ptr<OutputFile> file_;
};

class StdioConsole final : public FdConsole {
  public:
    StdioConsole() : FdConsole(STDOUT_FILENO) {}
    void begin() override { terminal_.emplace(); }
    std::string poll_input(int timeout_ms) override { return terminal_->poll_input(timeout_ms); }
    [[nodiscard]] int input_descriptor() const override { return terminal_ ? terminal_->input_descriptor() : -1; }
    [[nodiscard]] bool interactive() const override { return terminal_ && terminal_->interactive(); }
    [[nodiscard]] bool leave() const override { return terminal_ && terminal_->leave(); }
    [[nodiscard]] bool input_closed() const override { return !terminal_ || terminal_->closed(); }

  private:
    std::optional<Terminal> terminal_;
};

/// One client at a time. Who comes later finds the last 64 KiB; a client that does not read loses the oldest, it does not
/// stop the machine.
class SocketConsole final : public Console {
  public:
    explicit SocketConsole(std::unique_ptr<UnixListener> listener) : listener_(std::move(listener)) {}
    ~SocketConsole() override {
        flush();
        drop();
    }
    void put(u8 byte) override {
        pending_.push_back(static_cast<char>(byte));
        if (pending_.size() >= 2 * kBuffer) pending_.erase(0, pending_.size() - kBuffer);
    }
    void flush() override {
        if (client_ < 0) client_ = listener_->accept();
        while (client_ >= 0 && !pending_.empty()) {
            const ssize_t count = ::send(client_, pending_.data(), pending_.size(), MSG_NOSIGNAL);
            if (count > 0) pending_.erase(0, static_cast<std::size_t>(count));
            else if (count < 0 && errno == EAGAIN) return;
            else if (count == 0 || errno != EINTR) drop();
        }
    }
    std::string poll_input(int timeout_ms) override {
        pollfd descriptor{client_ >= 0 ? client_ : listener_->fd(), POLLIN, 0};
        if (::poll(&descriptor, 1, timeout_ms) <= 0 || client_ < 0) return {};
        char buffer[256];
        const ssize_t count = ::read(client_, buffer, sizeof buffer);
        if (count > 0) return {buffer, static_cast<std::size_t>(count)};
        if (count == 0 || (errno != EINTR && errno != EAGAIN)) drop();
        return {};
    }
    [[nodiscard]] int input_descriptor() const override { return client_ >= 0 ? client_ : listener_->fd(); }
    [[nodiscard]] bool interactive() const override { return true; }
    [[nodiscard]] bool input_closed() const override { return false; }

  private:
    void drop() {
        if (client_ >= 0) ::close(client_);
        client_ = -1;
    }
    std::unique_ptr<UnixListener> listener_;
    int client_ = -1;
    std::string pending_;
};

}  // namespace

std::string Console::poll_input(int timeout_ms) {
    if (timeout_ms > 0) ::poll(nullptr, 0, timeout_ms);  // a signal ends it
    return {};
}

Result<std::unique_ptr<Console>> Console::create(const std::string& where) {
    if (where == "stdio") return std::unique_ptr<Console>(std::make_unique<StdioConsole>());
    if (where == "none") return std::unique_ptr<Console>(std::make_unique<NoConsole>());
    if (where.rfind("unix:", 0) == 0) {
        auto listener = UnixListener::create("--serial", where);
        if (!listener) return Unexpected{listener.error()};
        return std::unique_ptr<Console>(std::make_unique<SocketConsole>(std::move(*listener)));
    }
    if (where.rfind("file:", 0) == 0) {
        auto file = OutputFile::open("--serial", where.substr(5));
        if (!file) return Unexpected{file.error()};
        return std::unique_ptr<Console>(std::make_unique<FileConsole>(std::move(*file)));
    }
    return fail(Error::Code::Usage, fmt::format("--serial {}: write stdio, file:PATH, unix:PATH or none", where));
}

}  // namespace vg::cli
