// Memory of a machine that idles goes back to the host.
#pragma once

#include "base/types.h"
#include "mmu/shared_pages.h"

namespace vg::machine {

class Machine;

/// Called while a front end waits for the wall clock. Once a machine has done next to nothing for a while, it gives back
/// what its guests have not (zero pages of RAM) and what only makes it faster (translated code), a piece at a time, and lets
/// it merge pages that several children have alike: those at the same place by itself, the others by KSM where the host runs it.
/// Nothing that a guest, a hash or a snapshot could see depends on when, or whether, that is done.
class IdleMemory {
  public:
    /// A machine is quiet while its processors execute less than one instruction in so many of virtual time.
    static constexpr u64 kQuietShare = 20;
    static constexpr double kQuietSeconds = 2;
    /// Afterwards it has to execute so many instructions before it is worth another look.
    static constexpr u64 kWorkBetween = 200'000'000;
    /// RAM that one step looks at.
    static constexpr u64 kStepBytes = u64{32} << 20;

    explicit IdleMemory(Machine& machine) : machine_(machine) {}
    /// @param seconds  wall clock, of any origin
    void step(double seconds);

  private:
    [[nodiscard]] bool quiet(double seconds);
    /// False: all of it has been looked at.
    bool look_at_memory();
    /// False: all of it has been looked at.
    bool look_for_equals();

    Machine& machine_;
    enum class Stage : u8 { Waiting, Caches, Memory, Equals, Done } stage_ = Stage::Waiting;
    double since_ = -1;  ///< quiet since then
    u64 instructions_ = 0, done_at_ = 0;
    u64 now_ = 0;
    u64 next_ = 0;  ///< byte of RAM, counted through all regions; Equals: within each
    mmu::SharedPages shared_;
};

}  // namespace vg::machine
