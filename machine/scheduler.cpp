#include "machine/scheduler.h"

#include <algorithm>

#include "base/assert.h"
#include "base/state.h"
#include "machine/parallel.h"

namespace vg::machine {

bool Scheduler::Processor::runnable() const {
    return vp != nullptr && !retired && !vp->held() && (vp->activity() == cpu::Activity::Active || vp->event_pending());
}

Scheduler::Scheduler(EventQueue& events, MachineClock& clock, cpu::Engine& engine)
    : events_(events), clock_(clock), engine_(engine) {
    events_.on_arm([this](VTime when) {
        if (running_ == nullptr) return;
        // Side by side, whoever changes another processor sees to it by itself (Vp::hold_off).
        if (when == 0 && side_by_side()) return;
        // The event is handled between rounds: the round ends no later than it is due.
        round_.end = std::min(round_.end, std::max(when, running_->now()));
        running_->shorten_slice(round_.end);
        if (side_by_side()) parallel_->round_shortened();
    });
}

Scheduler::~Scheduler() = default;

void Scheduler::run_side_by_side(mmu::PhysicalMemory& memory) {
    parallel_ = std::make_unique<Parallel>(*this, memory);
    quantum_ = kParallelQuantum;
}

bool Scheduler::side_by_side() const { return parallel_ != nullptr && parallel_->active(); }

void Scheduler::stop() {
    stopping_ = true;
    ++stops_asked_;
    if (running_ != nullptr) running_->request_stop();
    if (side_by_side()) parallel_->interrupt();
}

void Scheduler::stop_after_round() {
    stopping_after_round_ = true;
    // One VP's round may end anywhere, nobody can tell.
    if (processors_.size() == 1) events_.end_slice();
}

cpu::Vp* Scheduler::current() const {
    return round_.active && round_.index < processors_.size() ? processors_[round_.index]->vp : nullptr;
}

void Scheduler::add(cpu::Vp& vp) {
    VG_ASSERT(!side_by_side());  // it would have no thread
    processors_.push_back(std::make_unique<Processor>(Processor{&vp}));
    events_.end_slice();
}

void Scheduler::remove(cpu::Vp& vp) {
    VG_ASSERT(running_ != &vp && !side_by_side());
    if (parallel_) parallel_->forget(vp);
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
    if (side_by_side()) parallel_->interrupt();
}

std::vector<cpu::Vp*> Scheduler::processors() const {
    std::vector<cpu::Vp*> all;
    for (const auto& processor : processors_)
        if (processor->vp != nullptr) all.push_back(processor->vp);
    return all;
}

void Scheduler::run_slice(cpu::Vp& vp, VTime until) {
    const VTime from = round_.at;
    vp.state().request = 0;  // of an earlier slice that had ended before it was seen
    vp.begin_slice(from, until);
    running_ = &vp;
    clock_.set_running(&vp);
    const cpu::Stop stop = engine_.run(vp);
    running_ = nullptr;
    vp.end_slice();
    round_.at = vp.now();
    clock_.set_running(nullptr);
    instructions_ += round_.at - from;
    if (stop == cpu::Stop::Breakpoint) stopping_ = true;
}

void Scheduler::begin_round(VTime until) {
    const VTime now = clock_.now();
    if (processors_.size() > 1) until = std::min(until, (now / quantum_ + 1) * quantum_);
    round_ = {true, now, until, now, 0, processors_.size(), now};
}

bool Scheduler::run_round(u64 count, const cpu::Vp* stepped) {
    for (; round_.index < round_.count; ++round_.index, round_.at = round_.from) {
        const Processor& processor = *processors_[round_.index];
        while (round_.at < round_.end && processor.runnable()) {
            if (stopping_ || instructions_ >= count) return false;
            VTime span = std::min({round_.end - round_.at, longest_slice_, count - instructions_});
            if (processor.vp == stepped) span = 1;
            run_slice(*processor.vp, round_.at + span);
            if (processor.vp == stepped) stopping_ = true;
        }
        round_.reached = std::max(round_.reached, round_.at);
    }
    round_.active = false;
    clock_.set(round_.reached);
    return true;
}

Pause Scheduler::run_until(VTime limit, u64 count) { return run(limit, count, nullptr); }
Pause Scheduler::step(const cpu::Vp& vp, VTime limit, u64 count) { return run(limit, count, &vp); }

std::optional<Pause> Scheduler::next_round(VTime limit, u64 count) {
    while (true) {
        events_.run_due(clock_.now());
        if (stopping_ || stopping_after_round_) return Pause::Asked;
        const VTime now = clock_.now();
        if (now >= limit || instructions_ >= count) return Pause::Reached;
        const VTime next = events_.next();
        std::erase_if(processors_, [](const auto& p) { return p->vp == nullptr; });
        const bool any =
            std::any_of(processors_.begin(), processors_.end(), [](const auto& p) { return p->runnable(); });
        if (any) {
            begin_round(processors_.size() > 1 ? next : std::min(limit, next));
            return std::nullopt;
        }
        if (next == kNever) return Pause::Hang;
        clock_.set(std::min(next, limit));
        if (next > limit) return Pause::Idle;
    }
}

Pause Scheduler::run(VTime limit, u64 count, const cpu::Vp* stepped) {
    stopping_ = stopping_after_round_ = false;
    if (parallel_ && stepped == nullptr && processors_.size() > 1 && !round_.active && !engine_.watched())
        return parallel_->run(limit, count);
    while (true) {
        if (!round_.active)
            if (const auto pause = next_round(limit, count)) return *pause;
        if (!run_round(count, stepped)) {
            clock_.set(round_.at);
            if (round_.count == 1) round_.active = false;  // one VP's round may end anywhere: the next limit is free
            return stopping_ ? Pause::Asked : Pause::Reached;
        }
    }
}

void Scheduler::fields(StateVisitor& v) {
    Round round = round_.active ? round_ : Round{};
    v("in_round", round.active);
    v("from", round.from, Fmt::Dec);
    v("end", round.end, Fmt::Dec);
    v("reached", round.reached, Fmt::Dec);
    v("index", round.index, Fmt::Dec);
    v("count", round.count, Fmt::Dec);
    v("at", round.at, Fmt::Dec);
    v("instructions", instructions_, Fmt::Dec);
    std::vector<u8> retired;
    for (const auto& processor : processors_)
        if (processor->vp != nullptr) retired.push_back(processor->retired ? 1 : 0);
    v("retired", retired);
    if (!v.loading()) return;
    round.count = std::min<u64>(round.count, processors_.size());
    round_ = round;
    std::size_t next = 0;
    for (const auto& processor : processors_)
        if (processor->vp != nullptr && next < retired.size()) processor->retired = retired[next++] != 0;
}

}  // namespace vg::machine
