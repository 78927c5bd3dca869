#include "ui/cli/progress.h"

#include <unistd.h>

#include <cstdio>

namespace vg::cli {

namespace {

constexpr std::chrono::milliseconds kQuiet{300};

}  // namespace

Progress::Progress(std::string what, u64 total)
    : what_(std::move(what)), total_(total), start_(std::chrono::steady_clock::now()), terminal_(::isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
    if (drawn_ && terminal_) std::fputs("\r\x1b[K", stderr);
}

void Progress::update(u64 done) {
    const u64 percent = total_ == 0 ? 100 : static_cast<u64>(static_cast<double>(done) * 100 / static_cast<double>(total_));
    const u64 step = terminal_ ? 1 : 10;
    if (percent / step == shown_ / step || std::chrono::steady_clock::now() - start_ < kQuiet) return;
    shown_ = percent;
    drawn_ = true;
    if (!terminal_) {
        std::fprintf(stderr, "%s: %u %%\n", what_.c_str(), static_cast<unsigned>(percent));
        return;
    }
    const std::string bar(static_cast<std::size_t>(percent / 4), '#');
    std::fprintf(stderr, "\r%s [%-25s] %3u %%", what_.c_str(), bar.c_str(), static_cast<unsigned>(percent));
}

}  // namespace vg::cli
