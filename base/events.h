// The event queue: everything that happens later happens through it, ordered by (virtual time, sequence).
#pragma once

#include <deque>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/types.h"

namespace vg {

class StateVisitor;

/// Timers that their owners register once and then arm and cancel. Two timers due at the same time fire in
/// the order in which they were armed. Not thread-safe: used from the machine's thread, between or inside VP slices.
class EventQueue {
  public:
    using Handler = std::function<void(VTime due)>;
    /// Identifies a registered timer; small and stable for the machine's life.
    using TimerId = u32;

    explicit EventQueue(const Clock& clock) : clock_(clock) {}

    /// Registers a timer, not armed. `name` is unique and stable: it names the timer in saved state.
    TimerId add(std::string name, Handler handler);
    /// The owner goes away: the timer never fires again, and its id may be given out anew. Not from its own handler.
    void remove(TimerId timer);
    /// Makes an armed or unarmed timer fire at `when` (a time in the past fires at the next chance).
    void arm(TimerId timer, VTime when);
    void cancel(TimerId timer);
    [[nodiscard]] bool armed(TimerId timer) const { return timers_[timer].due != kNever; }
    /// When it fires, or kNever.
    [[nodiscard]] VTime due(TimerId timer) const { return timers_[timer].due; }

    /// Time of the earliest armed timer, or kNever.
    [[nodiscard]] VTime next() const { return queue_.empty() ? kNever : queue_.begin()->due; }
    /// Fires, in order, every timer due at or before `now`, those armed by handlers included.
    void run_due(VTime now);
    /// The scheduler's ear: called with the time whenever a timer is armed, so that a running slice can be cut short.
    void on_arm(std::function<void(VTime when)> observer) { observer_ = std::move(observer); }

    /// Ends the running slice at the next instruction boundary, so that another processor sees at once what this one
    /// did to it. Nothing outside a slice.
    void end_slice() {
        if (observer_) observer_(0);
    }

    /// One more than the largest id given out.
    [[nodiscard]] TimerId end() const { return static_cast<TimerId>(timers_.size()); }
    /// Orders timers that are armed: those due at the same time fire by it.
    [[nodiscard]] u64 sequence(TimerId timer) const { return timers_[timer].sequence; }
    [[nodiscard]] VTime now() const { return clock_.now(); }
    [[nodiscard]] const Clock& clock() const { return clock_; }
    void fields(StateVisitor& v);

  private:
    struct Timer {
        std::string name;
        Handler handler;
        VTime due = kNever;
        u64 sequence = 0;
    };
    struct Entry {
        VTime due;
        u64 sequence;
        TimerId timer;
        auto operator<=>(const Entry&) const = default;
    };

    const Clock& clock_;
    std::deque<Timer> timers_;  // references hold while a handler adds timers; without a handler: removed
    std::vector<TimerId> removed_;
    std::set<Entry> queue_;
    u64 next_sequence_ = 0;
    std::function<void(VTime)> observer_;
};

}  // namespace vg
