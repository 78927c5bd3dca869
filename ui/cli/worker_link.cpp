#include "ui/cli/worker_link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

namespace vg::cli {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kStart = std::chrono::seconds(30), kEnd = std::chrono::seconds(3);
constexpr auto kLook = std::chrono::milliseconds(10);

/// In the child, between fork and exec: only what is allowed there.
[[noreturn]] void become(char* const* arguments, pid_t owner, int words) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != owner) _exit(127);  // it died in between
    const int none = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(none, 0);
    dup2(none, 1);
    dup2(words, 2);
    execv("/proc/self/exe", arguments);
    _exit(127);
}

}  // namespace

WorkerLink::~WorkerLink() {
    link_.reset();
    if (pid_ > 0) {
        kill(pid_, SIGTERM);
        const auto deadline = Clock::now() + kEnd;
        while (!ended() && Clock::now() < deadline) std::this_thread::sleep_for(kLook);
        if (!ended()) {
            kill(pid_, SIGKILL);
            waitpid(pid_, nullptr, 0);
        }
    }
    std::error_code ignored;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

bool WorkerLink::ended() {
    if (pid_ <= 0) return true;
    if (waitpid(pid_, nullptr, WNOHANG) != pid_) return false;
    pid_ = -1;
    return true;
}

std::string WorkerLink::last_words() const {
    std::ifstream in(folder_ + "/words");
    std::string last = "it said nothing";
    for (std::string line; std::getline(in, line);)
        if (!line.empty()) last = line;
    return last.rfind("verdigris: ", 0) == 0 ? last.substr(11) : last;
}

Result<void> WorkerLink::spawn() {
    const char* base = std::getenv("XDG_RUNTIME_DIR");
    std::string name = (base && *base ? std::string(base) : std::string("/tmp")) + "/verdigris-gui.XXXXXX";
    if (!mkdtemp(name.data())) {
        name = "/tmp/verdigris-gui.XXXXXX";
        if (!mkdtemp(name.data())) return fail(Error::Code::Host, fmt::format("{}: {}", name, std::strerror(errno)));
    }
    folder_ = name;
    const int words = open((folder_ + "/words").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (words < 0) return fail(Error::Code::Host, fmt::format("{}: {}", folder_, std::strerror(errno)));
    constexpr std::string_view kFolder = "{folder}";
    for (std::string& argument : arguments_) {
        const std::size_t at = argument.rfind(kFolder, 0);
        if (at == 0) argument.replace(0, kFolder.size(), folder_);
    }
    arguments_.insert(arguments_.begin(), "verdigris");
    for (const std::string& more : {std::string("--control"), "unix:" + folder_ + "/socket"})
        arguments_.push_back(more);
    std::vector<char*> raw;
    for (std::string& argument : arguments_) raw.push_back(argument.data());
    raw.push_back(nullptr);
    const pid_t owner = getpid();
    pid_ = fork();
    if (pid_ == 0) become(raw.data(), owner, words);
    close(words);
    if (pid_ < 0) return fail(Error::Code::Host, fmt::format("a process cannot be started: {}", std::strerror(errno)));
    return {};
}

Result<void> WorkerLink::connect() {
    const auto deadline = Clock::now() + kStart;
    while (true) {
        std::error_code ignored;
        if (std::filesystem::exists(folder_ + "/socket", ignored)) {
            auto link = SocketLink::connect("unix:" + folder_ + "/socket");
            if (link) {
                link_ = std::move(*link);
                return {};
            }
        }
        if (ended()) return fail(Error::Code::Host, last_words());
        if (Clock::now() > deadline) return fail(Error::Code::Host, "the machine's process does not answer");
        std::this_thread::sleep_for(kLook);
    }
}

Result<void> WorkerLink::start() {
    if (auto spawned = spawn(); !spawned) return spawned;
    return connect();
}

Result<model::Json> WorkerLink::call(const model::Json& request) {
    if (!failure_.empty()) return fail(Error::Code::Host, failure_);
    if (!link_) {
        if (const auto started = start(); !started) {
            failure_ = started.error().text;
            return fail(Error::Code::Host, failure_);
        }
    }
    auto answer = link_->call(request);
    if (!answer && answer.error().code == Error::Code::Host) {
        failure_ = answer.error().text;
        if (ended()) failure_ = "the machine's process ended: " + last_words();
        return fail(Error::Code::Host, failure_);
    }
    return answer;
}

std::optional<model::Json> WorkerLink::notice(int wait_ms) {
    if (link_ && failure_.empty()) return link_->notice(wait_ms);
    std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
    return {};
}

}  // namespace vg::cli
