#include "ui/cli/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "ui/cli/host_signals.h"

namespace vg::cli {

Result<std::unique_ptr<OutputFile>> OutputFile::open(const std::string& option, const std::string& path) {
    const bool made = ::access(path.c_str(), F_OK) != 0;
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return fail(Error::Code::Usage, fmt::format("{} {}: cannot be written: {}; check the path and its permissions", option, path,
                                                    std::strerror(errno)));
    }
    return std::unique_ptr<OutputFile>(new OutputFile(fd, option, path, made));
}

OutputFile::~OutputFile() {
    ::close(fd_);
    if (made_ && !begun_) ::unlink(path_.c_str());
}

void OutputFile::begin() {
    if (begun_) return;
    begun_ = true;
    const int ignored = ::ftruncate(fd_, 0);
    (void)ignored;
}

Result<void> OutputFile::replace(std::string_view text) {
    begin();
    if (write_all(fd_, text)) return {};
    return fail(Error::Code::Host, fmt::format("{} {}: cannot be written: {}; check free space", option_, path_, std::strerror(errno)));
}

bool write_all(int fd, std::string_view text) {
    const int before = interrupts();
    while (!text.empty()) {
        const ssize_t count = ::write(fd, text.data(), text.size());
        if (count > 0) {
            text.remove_prefix(static_cast<std::size_t>(count));
            continue;
        }
        if (count < 0 && errno == EAGAIN) {  // inherited from a parent that made it non-blocking
            pollfd descriptor{fd, POLLOUT, 0};
            if (::poll(&descriptor, 1, -1) >= 0) continue;
        }
        if (count < 0 && errno == EINTR && interrupts() == before) continue;
        return false;
    }
    return true;
}

}  // namespace vg::cli
