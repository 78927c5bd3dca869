#include "machine/scheduler.h"

#include <algorithm>

#include "base/assert.h"

namespace vg::machine {

bool Scheduler::Processor::runnable() const {
    return vp != nullptr && !retired && !vp->held() && (vp->activity() == cpu::Activity::Active || vp->event_pending());
}

Scheduler::Scheduler(EventQueue& events, MachineClock& clock, cpu::Engine& engine)
    : events_(events), clock_(clock), engine_(engine) {
    events_.on_arm([this](VTime when) {
        if (running_ == nullptr) return;
        // The event is handled between rounds: the round ends no later than it is due.
        round_end_ = std::min(round_end_, std::max(when, running_->now()));
        running_->shorten_slice(round_end_);
    });
}

void Scheduler::stop() {
    stopping_ = true;
    if (running_ != nullptr) running_->request_stop();
}

void Scheduler::add(cpu::Vp& vp) {
    processors_.push_back(std::make_unique<Processor>(Processor{&vp}));
    events_.end_slice();
}

void Scheduler::remove(cpu::Vp& vp) {
    VG_ASSERT(running_ != &vp);
    engine_.forget(vp);
    for (const auto& processor : processors_) {
        if (processor->vp == &vp) processor->vp = nullptr;
    }
}

void Scheduler::retire(const cpu::Vp& vp) {
    for (const auto& processor : processors_) {
        if (processor->vp == &vp) processor->retired = true;
    }
    if (running_ == &vp) running_->request_stop();
}

std::vector<cpu::Vp*> Scheduler::processors() const {
    std::vector<cpu::Vp*> all;
    for (const auto& processor : processors_)
        if (processor->vp != nullptr) all.push_back(processor->vp);
    return all;
}

/// Runs every runnable VP from `from` to the round's end. Returns the virtual time reached.
VTime Scheduler::run_round(VTime from, VTime until) {
    round_end_ = until;
    VTime reached = from;
    const std::size_t count = processors_.size();  // those that are added meanwhile wait for the next round
    for (std::size_t i = 0; i < count; ++i) {
        const Processor& processor = *processors_[i];
        cpu::Vp* const vp = processor.vp;
        if (!processor.runnable()) continue;
        VTime at = from;
        while (at < round_end_ && processor.runnable() && !stopping_) {
            vp->begin_slice(at, at + std::min(round_end_ - at, longest_slice_));
            running_ = vp;
            clock_.set_running(vp);
            const cpu::Stop stop = engine_.run(*vp);
            running_ = nullptr;
            vp->end_slice();
            const VTime now = vp->now();
            clock_.set_running(nullptr);
            instructions_ += now - at;
            at = now;
            if (stop == cpu::Stop::Request) vp->state().request = 0;  // answered: the next slice runs again
        }
        reached = std::max(reached, at);
    }
    return reached;
}

Pause Scheduler::run_until(VTime limit) {
    stopping_ = false;
    while (true) {
        events_.run_due(clock_.now());
        if (stopping_) return Pause::Asked;
        const VTime now = clock_.now();
        if (now >= limit) return Pause::Reached;
        const VTime next = events_.next();
        std::erase_if(processors_, [](const auto& p) { return p->vp == nullptr; });
        const bool any = std::any_of(processors_.begin(), processors_.end(), [](const auto& p) { return p->runnable(); });
        if (!any) {
            if (next == kNever) return Pause::Hang;
            clock_.set(std::min(next, limit));
            if (next > limit) return Pause::Idle;
            continue;
        }
        VTime until = std::min(limit, next);
        if (processors_.size() > 1) until = std::min(until, now + kQuantum);
        clock_.set(run_round(now, until));
    }
}

}  // namespace vg::machine
