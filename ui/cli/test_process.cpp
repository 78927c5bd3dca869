#include "ui/cli/test_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace vg::cli {

namespace {

/// Between fork and exec: nothing here may allocate.
[[noreturn]] void become(char* const* arguments, int log, pid_t parent) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(127);  // it died before the line above
    const int nothing = ::open("/dev/null", O_RDONLY);
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::execv("/proc/self/exe", arguments);
    ::_exit(127);
}

}  // namespace

Result<TestProcess> TestProcess::start(const std::vector<std::string>& words, const std::string& log) {
    const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return fail(Error::Code::Usage, fmt::format("test: {}: cannot be written: {}", log, std::strerror(errno)));
    std::vector<std::string> copy = words;
    std::string name = "verdigris";
    std::vector<char*> arguments = {name.data()};
    for (std::string& word : copy) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    const int reason = errno;
    if (pid == 0) become(arguments.data(), fd, parent);
    ::close(fd);
    if (pid < 0)
        return fail(Error::Code::Host,
                    fmt::format("test: no process can be made: {}; give -j a smaller number", std::strerror(reason)));
    return TestProcess(pid);
}

TestProcess& TestProcess::operator=(TestProcess&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(start_, other.start_);
    return *this;
}

TestProcess::~TestProcess() {
    if (pid_ < 0) return;
    kill();
    ::waitpid(pid_, nullptr, 0);
}

std::optional<Ending> TestProcess::ended() {
    int status = 0;
    if (pid_ < 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
    pid_ = -1;
    Ending out;
    out.seconds = seconds();
    if (WIFSIGNALED(status))
        out.signal = WTERMSIG(status);
    else
        out.code = WEXITSTATUS(status);
    return out;
}

void TestProcess::interrupt() {
    if (pid_ > 0) ::kill(pid_, SIGINT);
}
void TestProcess::kill() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
}
double TestProcess::seconds() const { return std::chrono::duration<double>(SteadyClock::now() - start_).count(); }

}  // namespace vg::cli
