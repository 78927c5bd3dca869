// Fetching another thread out of translated code.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <atomic>

#include "base/types.h"

namespace vg::jit {

/// One thread that runs translated code. A signal finds it at some instruction: if that is code of a block, the budget
/// in its register is marked (cpu::kBudgetMark), so that it leaves in front of the next block. Elsewhere, on the way in
/// or out, nothing is done, and whoever has to be sure kicks again.
class KickTarget {
  public:
    /// Installs the signal's handler (SIGURG, which does nothing to a thread that has not asked) once for the process.
    KickTarget();
    /// From the thread itself, at its start.
    void attach();
    /// From the thread itself: where its translated code lies.
    void set_code(const u8* begin, u64 size) {
        begin_ = reinterpret_cast<u64>(begin);
        size_ = size;
    }
    /// From any thread, while the target's lives.
    void kick() const { pthread_kill(thread_, SIGURG); }

  private:
    static void on_signal(int, siginfo_t*, void* context);
    pthread_t thread_{};
    std::atomic<u64> begin_{0}, size_{0};  ///< lock-free: the handler reads them
};

}  // namespace vg::jit
