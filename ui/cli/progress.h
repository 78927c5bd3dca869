// Progress of long work, on standard error.
#pragma once

#include <chrono>
#include <string>

#include "base/types.h"

namespace vg::cli {

/// Says nothing for the first 300 ms; then a bar on a terminal, a line per 10 % elsewhere. cli.md §5.
class Progress {
  public:
    Progress(std::string what, u64 total);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    /// `done` of the total is done.
    void update(u64 done);

  private:
    std::string what_;
    u64 total_;
    std::chrono::steady_clock::time_point start_;
    bool terminal_;
    u64 shown_ = 0;  ///< percent
    bool drawn_ = false;
};

}  // namespace vg::cli
