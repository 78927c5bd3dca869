// The deterministic scheduler: one thread, VPs in turn by virtual-time slices, events at their exact instruction.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/events.h"
#include "cpu/engine.h"
#include "cpu/vp.h"

namespace vg::machine {

/// Virtual time of a machine: that of the running VP while one runs, else the scheduler's.
class MachineClock final : public Clock {
  public:
    [[nodiscard]] VTime now() const override { return running_ != nullptr ? running_->now() : now_; }
    void set(VTime now) { now_ = now; }
    void set_running(const cpu::Vp* vp) { running_ = vp; }
    [[nodiscard]] const cpu::Vp* running() const { return running_; }

  private:
    VTime now_ = 0;
    const cpu::Vp* running_ = nullptr;
};

/// Why a call of run_until came back.
enum class Pause : u8 {
    Reached,  ///< virtual time is the limit
    Idle,     ///< every VP waits and the next event lies beyond the limit: time has been moved to the limit
    Hang,     ///< every VP waits and nothing will ever happen
    Asked     ///< stop() was called
};

/// All VPs of a machine in one round-robin, whichever partition they belong to. In a round each runnable VP executes
/// the same span of virtual time, so N VPs behave like N processors side by side. A round never goes past the next
/// event; an event that a VP arms during its slice ends the round there.
class Scheduler {
  public:
    /// Longest span of a round with more than one VP, in virtual nanoseconds (instructions).
    static constexpr VTime kQuantum = 50'000;

    Scheduler(EventQueue& events, MachineClock& clock, cpu::Engine& engine);

    /// From any time on: a VP that is added in the middle of a round runs from the next one.
    void add(cpu::Vp& vp);
    /// The VP is about to be destroyed. Not from within its own slice.
    void remove(cpu::Vp& vp);
    /// The VP executes nothing more, whatever wakes it; its own slice ends at the next instruction boundary.
    void retire(const cpu::Vp& vp);
    /// For tests: an engine executes no more than so many instructions at a time (0: as many as there are to execute).
    /// Rounds stay what they are, so nothing else changes.
    void set_longest_slice(VTime instructions) { longest_slice_ = instructions != 0 ? instructions : kNever; }
    /// All VPs, in the order of their rounds.
    [[nodiscard]] std::vector<cpu::Vp*> processors() const;
    /// Runs until virtual time `limit` (exactly) or an earlier pause.
    Pause run_until(VTime limit);
    /// Makes run_until return at the next instruction boundary. From the machine's thread only.
    void stop();

    [[nodiscard]] VTime now() const { return clock_.now(); }
    /// Instructions executed by all VPs (virtual time that they did not sleep).
    [[nodiscard]] u64 instructions() const { return instructions_; }

  private:
    struct Processor {
        cpu::Vp* vp;  ///< null: removed, the entry goes before the next round
        bool retired = false;
        [[nodiscard]] bool runnable() const;
    };
    VTime run_round(VTime from, VTime until);

    EventQueue& events_;
    MachineClock& clock_;
    cpu::Engine& engine_;
    std::vector<std::unique_ptr<Processor>> processors_;
    cpu::Vp* running_ = nullptr;
    VTime round_end_ = 0;
    VTime longest_slice_ = kNever;
    bool stopping_ = false;
    u64 instructions_ = 0;
};

}  // namespace vg::machine
