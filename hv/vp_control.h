// How a parent holds, runs and looks at a VP: suspension, the pages that show it, dispatching. Rows K-170, K-190, S-102,
// S-103, R-60..R-64.
#pragma once

#include <array>
#include <optional>
#include <span>

#include "base/events.h"
#include "base/types.h"
#include "hv/spec/intercept.h"
#include "hv/spec/status.h"
#include "hv/spec/system.h"
#include "hv/spec/vp_state.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv {

class Vp;

/// Every VP has one. VPs of the root and of the built-in parent's children are never suspended.
class VpControl {
  public:
    explicit VpControl(Vp& vp);
    ~VpControl();
    VpControl(const VpControl&) = delete;
    VpControl& operator=(const VpControl&) = delete;

    // ---- suspension (K-190). Whoever writes a register of a suspended VP does so between its instructions.
    [[nodiscard]] bool explicit_suspend() const { return explicit_; }
    [[nodiscard]] bool intercept_suspend() const { return intercept_; }
    [[nodiscard]] bool dispatch_suspend() const { return dispatch_; }
    void set_explicit_suspend(bool on);
    void set_intercept_suspend(bool on);
    void set_dispatch_suspend(bool on);
    /// Re-derives from everything that can suspend the VP whether its processor is held.
    void update();
    /// Registers that decide about mode or translation were set from outside.
    void registers_changed() { registers_changed_ = true; }

    /// Suspends the VP and tells the parent why. A message that the parent cannot take yet waits.
    void send_intercept(MessageType type, std::span<const u8> payload);

    // ---- pages (K-170). They are the child's own pool's, seen in the parent's space while they are mapped.
    /// InsufficientMemory: the pool is empty. A page that is mapped already is returned again.
    HvStatus map_page(StatePage which, Spa& page);
    /// NotFound: not mapped.
    HvStatus unmap_page(StatePage which);
    void unmap_pages();

    // ---- the root scheduler (K-156)
    /// Runs the VP on behalf of `caller`, whose hypercall is answered when it is over: deferred. Otherwise `out` says at
    /// once why not.
    HvStatus dispatch(Vp& caller, const DispatchVpIn& in, DispatchVpOut& out);
    /// The processor may have halted, or been woken.
    void activity_changed();
    /// It is about to halt: looks at it when it has.
    void halting();
    /// Ends the dispatch that `caller` waits for, because an interrupt of its own came.
    static void interrupt_caller(Vp& caller);

    void fields(StateVisitor& v);

  private:
    [[nodiscard]] bool is_child() const;
    [[nodiscard]] bool root_scheduled() const;
    [[nodiscard]] std::optional<Spa>& page(StatePage which) { return pages_[static_cast<unsigned>(which)]; }
    void publish_registers();
    /// Takes over what the parent marked dirty in the register page (S-103).
    void take_registers();
    void inject_vectors();
    void end_dispatch(DispatchState state, DispatchEvent event);
    /// The root scheduler waits for word of a VP that was not ready when it was last dispatched.
    void signal_root();

    Vp& vp_;
    bool explicit_ = false, intercept_ = false, dispatch_ = false;
    bool registers_changed_ = false;
    bool dispatched_ = false;       ///< a root VP runs it
    bool signal_wanted_ = false;    ///< the last dispatch ended Blocked
    Vp* caller_ = nullptr;          ///< who dispatched it
    std::array<std::optional<Spa>, 2> pages_;
    std::array<u8, kMessageSize> message_{};  ///< of the last intercept
    EventQueue::TimerId timer_, halt_timer_;
};

}  // namespace vg::hv
