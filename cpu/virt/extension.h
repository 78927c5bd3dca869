// The processor's own virtualization extension, VMX or SVM, as the rest of the processor sees it.
//
// While a guest runs, the extension has a level on the VP's stack and is its owner; its entries and exits replace the VP's
// state and answer Exec::Switch or Action::Switch. What it keeps between two instructions is in its fields.
#pragma once

#include "cpu/exec.h"
#include "cpu/virt/controls.h"

namespace vg {
class StateVisitor;
}

namespace vg::cpu::virt {

/// Before which events of an instruction boundary an extension is asked. SDM 3A "Priority Among Concurrent Events".
enum class Boundary : u8 {
    Traps,       ///< before debug traps
    Nmis,        ///< behind debug traps, before NMIs
    Interrupts,  ///< behind NMIs, before external interrupts
    Virtual      ///< behind external interrupts
};

class Extension : public ExitOwner {
  public:
    /// Power-on reset: everything as if it had never been used. Leaves guest mode without an exit.
    virtual void reset() = 0;
    /// INIT waits (VMX root operation, SVM with GIF clear).
    [[nodiscard]] virtual bool blocks_init() const = 0;
    /// While a guest runs: take_event would do something now that Controls do not tell.
    [[nodiscard]] virtual bool event_pending(const Vp& vp) const = 0;
    /// While a guest runs, at an instruction boundary. @param shadow  what holds events back there (VpState::interrupt_shadow)
    /// @return Next if there is nothing to do, Switch behind an exit, Resync if the guest's state changed
    virtual Exec take_event(Vp& vp, Boundary where, u8 shadow) = 0;
    virtual void fields(StateVisitor& v) = 0;
    /// After everything of the VP was loaded: puts back what is derived, the level of a running guest first of all.
    virtual void loaded(Vp& vp) = 0;
};

/// The extension that the VP's model has; null: none.
[[nodiscard]] std::unique_ptr<Extension> make_extension(Vp& vp);

}  // namespace vg::cpu::virt
