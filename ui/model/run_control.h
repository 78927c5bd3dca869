// Whether a machine goes on, and how far: what `continue`, `step` and `stop` of the control protocol ask for.
#pragma once

#include <functional>
#include <optional>

#include "machine/debugger.h"
#include "ui/model/places.h"

namespace vg::model {

/// What makes the machine go on. A replay has its own, which feeds in what was recorded.
struct Runner {
    std::function<machine::DebugStop(VTime limit, u64 instructions)> run;
    std::function<machine::DebugStop(cpu::Vp& vp, VTime limit)> step;
};

/// The machine's thread only. The machine goes on in `run`, stretch by stretch, so that its caller can look after other
/// things in between.
class RunControl {
  public:
    /// @param running  it begins as if `continue` had been asked for
    RunControl(machine::Machine& machine, machine::Debugger& debugger, Runner runner, bool running);

    struct Steps {
        SymbolPlace place;
        u64 count = 1;
        bool over = false;  ///< calls and repeated strings as one
        /// Goes on until rip is outside [from, to); with `count` at most so many.
        std::optional<std::pair<u64, u64>> range;
    };
    /// To virtual time `time` or until so many instructions are executed in all, whichever is first.
    void go(VTime time, u64 instructions);
    void step(const Steps& steps);
    /// The machine stands. @return it ran
    bool stop();
    [[nodiscard]] bool running() const { return mode_ != Mode::Standing; }

    enum class Progress : u8 {
        Ran,      ///< up to the limit, or was paused by the machine itself
        Idle,     ///< nobody runs before the limit
        Hang,     ///< every VP waits for good
        Stopped,  ///< what was asked for is done: last_stop() is new
        Standing  ///< nothing was asked for
    };
    /// One stretch, up to virtual time `limit`.
    Progress run(VTime limit);
    /// The machine stands because its caller says so: Hang, Ended.
    void settle(machine::DebugStop::Reason reason, std::string text);

    /// Nothing before the first one.
    [[nodiscard]] const std::optional<machine::DebugStop>& last_stop() const { return last_; }
    /// Where people look: the VP of the last stop, or that runs next.
    [[nodiscard]] std::optional<SymbolPlace> focus();
    /// A rule of this object's own, which nobody should see.
    [[nodiscard]] bool is_own_rule(u32 number) const { return over_ && over_->rule == number; }

  private:
    enum class Mode : u8 { Standing, Going, Stepping };
    /// A call or repeated string that is being stepped over.
    struct Over {
        u32 rule;
        u64 rsp;  ///< deeper activations of the same code pass
        bool call;
    };
    Progress finish(machine::DebugStop stop);
    Progress judge(const machine::DebugStop& stop);
    Progress step_once(const FoundVp& at, VTime limit);
    Progress stepped(const FoundVp& at, const machine::DebugStop& stop);
    void begin_over(const FoundVp& at);
    void end_over();

    machine::Machine& machine_;
    machine::Debugger& debugger_;
    Runner runner_;
    Mode mode_;
    VTime time_ = kNever;
    u64 instructions_ = machine::Scheduler::kNoCount;
    Steps steps_;
    std::optional<Over> over_;
    std::optional<machine::DebugStop> last_;
};

}  // namespace vg::model
