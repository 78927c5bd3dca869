// Disks of the root that are written and read back while children come and go: their controllers' DMA goes on beside
// deposits and withdrawals.
#pragma once

#include <sys/types.h>

#include <string>

namespace vg::vmm {

/// A process that does it until end_disks().
class Disks {
  public:
    /// @param names  "sda,nvme0n1"; what is on them is lost
    explicit Disks(const std::string& names);
    /// Lets the round that runs end. True if every byte came back; the process has said so, with its rounds, or what
    /// was wrong.
    [[nodiscard]] bool end();

  private:
    pid_t process_ = -1;
    int stop_ = -1;  ///< closed: stop
};

}  // namespace vg::vmm
