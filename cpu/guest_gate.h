// Between a VP's translated code and everything else, in a machine whose VPs execute at the same time.
#pragma once

#include "base/types.h"
#include "cpu/vp_state.h"

namespace vg::cpu {

/// One VP's. The machine has one lock. Translated code runs without it, all else with it: the VP's thread lets it go at
/// enter() and takes it again at leave(). So nothing but guest memory is ever touched by two threads at once, and it
/// is enough that nobody changes what belongs to a VP (its state, TLB and APIC, translations of its code) while that VP
/// is inside: whoever is about to do so, with the lock held, holds it off first.
class GuestGate {
  public:
    virtual ~GuestGate() = default;
    /// The VP's thread is about to execute translated code in [begin, begin + size), which keeps to kBudgetMark.
    virtual void enter(const u8* begin, u64 size) = 0;
    /// It has come back; the budget is plain again. Nothing if it was not inside. True: something that belongs to the
    /// VP has changed meanwhile, so that what the code knew when it was entered may not hold.
    [[nodiscard]] virtual bool leave() = 0;
    /// The VP is not inside when this returns, and looks at everything anew before it is again.
    virtual void hold_off() = 0;
    /// No VP is inside when this returns.
    virtual void hold_off_all() = 0;
};

/// Taken off the budget of a VP that is to come out of translated code: negative, so that the next block leaves. No
/// slice is longer than 2^31 instructions where gates are in use, so the low half of the budget says what is left
/// either way.
inline constexpr s64 kBudgetMark = s64{1} << 62;

inline bool marked(s64 budget) { return budget < -(kBudgetMark / 2); }
inline s64 without_mark(s64 budget) { return marked(budget) ? budget + kBudgetMark : budget; }
inline s64 with_mark(s64 budget) { return marked(budget) ? budget : budget - kBudgetMark; }

}  // namespace vg::cpu
