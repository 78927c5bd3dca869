// The parallel scheduler: the VPs of a round side by side, each on its own thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "cpu/guest_gate.h"
#include "jit/kick.h"
#include "machine/scheduler.h"

namespace vg::machine {

/// Rounds as the deterministic scheduler makes them, except that all runnable VPs execute theirs at the same time.
/// There is one lock. A VP's thread holds it whenever it is not in translated code (cpu::GuestGate), so everything else
/// of the machine is as if there were one thread. The thread that ends a round handles the events behind it and begins
/// the next; the machine's own thread sleeps from the call of run() to its end.
class Scheduler::Parallel {
  public:
    Parallel(Scheduler& scheduler, mmu::PhysicalMemory& memory);
    ~Parallel();

    /// As run_until.
    Pause run(VTime limit, u64 count);
    /// A call of run() is under way.
    [[nodiscard]] bool active() const { return active_; }

    // ---- with the lock held
    /// The round's end has come nearer.
    void round_shortened();
    /// Every VP looks at once whether it is to go on.
    void interrupt();
    /// Not during run(): the VP goes away.
    void forget(const cpu::Vp& vp);

  private:
    class Worker;

    void lock();
    void unlock() { mutex_.unlock(); }
    void make_workers();
    void set_gates(bool on);
    void wait(Worker& worker);
    void slice_over();
    void advance();

    Scheduler& s_;
    mmu::PhysicalMemory& memory_;
    std::mutex mutex_;
    std::condition_variable done_;
    std::vector<std::unique_ptr<Worker>> workers_;
    bool may_spin_ = false;  ///< the host has a processor for each thread
    bool active_ = false, in_round_ = false;
    u32 slices_ = 0;  ///< that are being executed
    VTime limit_ = 0;
    u64 count_ = 0;
    std::optional<Pause> pause_;
};

}  // namespace vg::machine
