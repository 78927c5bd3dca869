// Files that a run writes: console, statistics, verdict.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace vg::cli {

/// A file of the user's choice, opened before anything is built, so that a wrong path is told at once, and left as it was
/// until begin().
class OutputFile {
  public:
    /// @param option  what the user wrote before the path, for messages: "--stats"
    /// Error (Usage): the path cannot be written.
    static Result<std::unique_ptr<OutputFile>> open(const std::string& option, const std::string& path);
    /// Removes a file that open() made and nobody began.
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;

    /// Empties the file; pipes and devices stay as they are.
    void begin();
    [[nodiscard]] int fd() const { return fd_; }
    /// begin(), and the whole content. Error (Host) with the reason.
    [[nodiscard]] Result<void> replace(std::string_view text);

  private:
    OutputFile(int fd, std::string option, std::string path, bool made)
        : fd_(fd), option_(std::move(option)), path_(std::move(path)), made_(made) {}
    int fd_;
    std::string option_, path_;
    bool made_, begun_ = false;
};

/// Writes everything. False with errno set when it cannot: also EINTR, once a signal asked the run to stop.
[[nodiscard]] bool write_all(int fd, std::string_view text);

}  // namespace vg::cli
