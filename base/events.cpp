#include "base/events.h"

#include "base/assert.h"
#include "base/state.h"

namespace vg {

EventQueue::TimerId EventQueue::add(std::string name, Handler handler) {
    if (!removed_.empty()) {
        const TimerId timer = removed_.back();
        removed_.pop_back();
        timers_[timer] = {std::move(name), std::move(handler), kNever, 0};
        return timer;
    }
    timers_.push_back({std::move(name), std::move(handler), kNever, 0});
    return static_cast<TimerId>(timers_.size() - 1);
}

void EventQueue::remove(TimerId timer) {
    cancel(timer);
    timers_[timer] = {};
    removed_.push_back(timer);
}

void EventQueue::arm(TimerId timer, VTime when) {
    VG_ASSERT(timer < timers_.size());
    cancel(timer);
    if (when == kNever) return;
    Timer& t = timers_[timer];
    t.due = when;
    t.sequence = next_sequence_++;
    queue_.insert({when, t.sequence, timer});
    if (observer_) observer_(when);
}

void EventQueue::cancel(TimerId timer) {
    VG_ASSERT(timer < timers_.size());
    Timer& t = timers_[timer];
    if (t.due == kNever) return;
    queue_.erase({t.due, t.sequence, timer});
    t.due = kNever;
}

void EventQueue::run_due(VTime now) {
    while (!queue_.empty() && queue_.begin()->due <= now) {
        const Entry entry = *queue_.begin();
        cancel(entry.timer);
        timers_[entry.timer].handler(entry.due);
    }
}

void EventQueue::fields(StateVisitor& v) {
    v("next_sequence", next_sequence_);
    for (Timer& t : timers_) {
        if (!t.handler) continue;
        VisitScope scope(v, t.name);
        v("due", t.due);
        v("sequence", t.sequence);
    }
    if (!v.loading()) return;
    queue_.clear();
    for (TimerId i = 0; i < timers_.size(); ++i) {
        if (timers_[i].due != kNever) queue_.insert({timers_[i].due, timers_[i].sequence, i});
    }
}

}  // namespace vg
