// What runs a VP: the interpreter alone (`step`) or the translator (`jit`).
#pragma once

#include "cpu/exec.h"

namespace vg::cpu {

class Breakpoints;
class ExecutionObserver;
class Vp;

class Engine {
  public:
    virtual ~Engine() = default;
    /// Runs until the VP's budget is used up (exactly: budget 0) or something stops it. Before each instruction
    /// boundary where it matters it takes pending events (vp.take_event). Both engines leave identical state.
    virtual Stop run(Vp& vp) = 0;
    /// Executes exactly one instruction (or delivers one event).
    virtual Stop step(Vp& vp) = 0;
    /// The VP is about to be destroyed. Not from within run() or step() of that VP.
    virtual void forget(Vp&) {}
    /// Gives memory back to the host that only makes things faster and can be filled again. Not from within run() or step().
    virtual void release_memory() {}

    /// Whom to ask before the instruction at any of these addresses executes; null: nobody. Again whenever the addresses
    /// have changed. Not from within run() or step(). They outlive the engine's next use.
    void set_breakpoints(Breakpoints* breakpoints) {
        breakpoints_ = breakpoints;
        breakpoints_changed();
    }

    /// Who is told what executes; null: nobody. Not from within run() or step(). It outlives the engine's next use, and the
    /// VPs' next use of memory.
    void set_observer(ExecutionObserver* observer) {
        observer_ = observer;
        observer_changed();
    }

    /// Somebody looks at single instructions.
    [[nodiscard]] bool watched() const { return breakpoints_ != nullptr || observer_ != nullptr; }

  protected:
    [[nodiscard]] Breakpoints* breakpoints() const { return breakpoints_; }
    virtual void breakpoints_changed() {}
    [[nodiscard]] ExecutionObserver* observer() const { return observer_; }
    virtual void observer_changed() {}
    /// For whoever runs a VP: tells the observer, if there is one, and has accesses noted for it.
    void observe(Vp& vp) const;

  private:
    Breakpoints* breakpoints_ = nullptr;
    ExecutionObserver* observer_ = nullptr;
};

}  // namespace vg::cpu
