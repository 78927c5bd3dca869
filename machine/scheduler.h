// The schedulers. Deterministic: one thread, VPs in turn by virtual-time slices, events at their exact instruction. Parallel:
// the VPs of a round side by side, each on a thread of its own.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/events.h"
#include "cpu/engine.h"
#include "cpu/vp.h"

namespace vg {
class StateVisitor;
}

namespace vg::mmu {
class PhysicalMemory;
}

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
    Reached,  ///< virtual time is the limit, or the instructions are executed
    Idle,     ///< every VP waits and the next event lies beyond the limit: time has been moved to the limit
    Hang,     ///< every VP waits and nothing will ever happen
    Asked     ///< stop() or stop_after_round() was called
};

/// All VPs of a machine in one round-robin, whichever partition they belong to. In a round each runnable VP executes
/// the same span of virtual time, so N VPs behave like N processors side by side. A round never goes past the next
/// event; an event that a VP arms during its slice ends the round there.
///
/// Where a run is paused changes nothing in it: rounds of several VPs end at multiples of kQuantum whatever limits are
/// asked for, and a pause in the middle of a round (in_round) keeps the rest of the round for the next call. What
/// enters from outside must wait for the end of a round, so that virtual time says exactly where it entered.
class Scheduler {
  public:
    /// Rounds of more than one VP end at multiples of this, in virtual nanoseconds (instructions), unless set_quantum says
    /// something else.
    static constexpr VTime kQuantum = 50'000;
    /// The same where firmware runs, whose processors contend for locks that a spinning holder lets go for an instruction
    /// or two: a prime length, so that no loop is cut at the same place for ever.
    static constexpr VTime kFirmwareQuantum = 49'999;
    static constexpr u64 kNoCount = ~u64{0};

    /// Rounds of VPs that execute side by side are longer: their ends cost more.
    static constexpr VTime kParallelQuantum = 1'000'000;

    Scheduler(EventQueue& events, MachineClock& clock, cpu::Engine& engine);
    ~Scheduler();
    Scheduler(const Scheduler&) = delete;
    Scheduler& operator=(const Scheduler&) = delete;

    /// From now on the VPs of a round execute at the same time, each on its own thread, unless there is only one or somebody
    /// looks at single instructions (Engine::watched, step). What is promised of exact times holds no more: a run ends between
    /// rounds, an event may be late by a round, and no two runs are equal. The engine can run different VPs on different
    /// threads at once; all else of the machine is only touched by one thread at a time.
    void run_side_by_side(mmu::PhysicalMemory& memory);

    /// From any time on, but during a run of the parallel scheduler: a VP that is added in the middle of a round runs from the
    /// next one.
    void add(cpu::Vp& vp);
    /// The VP is about to be destroyed. Not from within its own slice.
    void remove(cpu::Vp& vp);
    /// The VP executes nothing more, whatever wakes it; its own slice ends at the next instruction boundary.
    void retire(const cpu::Vp& vp);
    /// For tests: an engine executes no more than so many instructions at a time (0: as many as there are to execute).
    /// Rounds stay what they are, so nothing else changes.
    void set_longest_slice(VTime instructions) { longest_slice_ = instructions != 0 ? instructions : kNever; }
    /// Before the machine runs: where rounds of several VPs end.
    void set_quantum(VTime quantum) { quantum_ = quantum; }
    /// All VPs, in the order of their rounds.
    [[nodiscard]] std::vector<cpu::Vp*> processors() const;
    /// Runs until virtual time `limit` (exactly with one VP, else to the end of the round in which it lies), until
    /// instructions() is `count` (exactly, in the middle of a round if need be), or an earlier pause.
    Pause run_until(VTime limit, u64 count = kNoCount);
    /// Runs until `vp` has executed one instruction or delivered one event, `limit` is reached or instructions() is
    /// `count`, or an earlier pause.
    Pause step(const cpu::Vp& vp, VTime limit, u64 count = kNoCount);
    /// Makes run_until return at the next instruction boundary. From the machine's thread only.
    void stop();
    /// How often stop() was called. Between two runs it has no other effect.
    [[nodiscard]] u64 stops_asked() const { return stops_asked_; }
    /// Makes run_until return at the end of the round; with one VP that is the next instruction boundary.
    void stop_after_round();
    /// The last pause was in the middle of a round.
    [[nodiscard]] bool in_round() const { return round_.active; }
    /// In the middle of a round: the VP whose slice the pause cut, or that is next. Else null.
    [[nodiscard]] cpu::Vp* current() const;

    [[nodiscard]] VTime now() const { return clock_.now(); }
    /// Instructions executed by all VPs (virtual time that they did not sleep).
    [[nodiscard]] u64 instructions() const { return instructions_; }
    /// The same when the VP that executes right now is, or was in this slice, at virtual time `now`.
    [[nodiscard]] u64 instructions_at(VTime now) const { return instructions_ + (now - round_.at); }
    void fields(StateVisitor& v);

  private:
    struct Processor {
        cpu::Vp* vp;  ///< null: removed, the entry goes before the next round
        bool retired = false;
        [[nodiscard]] bool runnable() const;
    };
    /// What is left of a round. A pause may fall into it, so it is part of the machine's state.
    struct Round {
        bool active = false;
        VTime from = 0, end = 0;   ///< `end` may come nearer while it runs
        VTime reached = 0;         ///< by the VPs that are through
        u64 index = 0, count = 0;  ///< of the VP whose turn it is; those that are added later wait for the next round
        VTime at = 0;              ///< how far that VP is
    };
    class Parallel;
    Pause run(VTime limit, u64 count, const cpu::Vp* stepped);
    /// Between rounds: events, then a new round, or why there is none.
    std::optional<Pause> next_round(VTime limit, u64 count);
    [[nodiscard]] bool side_by_side() const;
    void begin_round(VTime until);
    /// Runs what is left of the round. False: it was paused.
    bool run_round(u64 count, const cpu::Vp* stepped);
    void run_slice(cpu::Vp& vp, VTime until);

    EventQueue& events_;
    MachineClock& clock_;
    cpu::Engine& engine_;
    std::vector<std::unique_ptr<Processor>> processors_;
    cpu::Vp* running_ = nullptr;
    Round round_;
    VTime longest_slice_ = kNever;
    bool stopping_ = false, stopping_after_round_ = false;
    u64 instructions_ = 0;
    u64 stops_asked_ = 0;
    VTime quantum_ = kQuantum;
    std::unique_ptr<Parallel> parallel_;
};

}  // namespace vg::machine
