#include "hv/stimer.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/log.h"
#include "base/state.h"
#include "hv/hypervisor.h"
#include "hv/spec/cpuid.h"
#include "hv/synic.h"
#include "hv/vp.h"

namespace vg::hv {

SyntheticTimers::SyntheticTimers(Vp& vp) : vp_(vp) {
    EventQueue& events = vp.partition().hypervisor().events();
    for (unsigned i = 0; i < kStimerCount; ++i)
        timers_[i].event = events.add(fmt::format("hv.p{}.vp{}.stimer{}", vp.partition().id(), vp.index(), i),
                                      [this, i](VTime due) { fired(i, due); });
}

SyntheticTimers::~SyntheticTimers() {
    for (const Timer& timer : timers_) vp_.partition().hypervisor().events().remove(timer.event);
}

u64 SyntheticTimers::now_100ns() const { return vp_.partition().reference_time(); }

bool SyntheticTimers::set_config(unsigned index, u64 value) {
    if ((value & stimer::kReserved) != 0) return false;
    const bool direct = (value & stimer::kDirect) != 0;
    if (direct && !vp_.partition().allows(Gate::DirectTimers)) return false;
    Timer& timer = timers_[index];
    stop(index);
    // S-82: an enabled timer that is re-configured to message mode on SINT0 is disabled.
    const bool was_enabled = (timer.config & stimer::kEnable) != 0;
    if (was_enabled && !direct && stimer::sintx(value) == 0) value &= ~stimer::kEnable;
    timer.config = value;
    start(index);
    return true;
}

void SyntheticTimers::set_count(unsigned index, u64 value) {
    Timer& timer = timers_[index];
    stop(index);
    timer.count = value;
    if (value == 0)
        timer.config &= ~stimer::kEnable;
    else if ((timer.config & stimer::kAutoEnable) != 0)
        timer.config |= stimer::kEnable;
    start(index);
}

void SyntheticTimers::start(unsigned index) {
    Timer& timer = timers_[index];
    if ((timer.config & stimer::kEnable) == 0 || timer.count == 0) return;
    const bool periodic = (timer.config & stimer::kPeriodic) != 0;
    // A period that runs past the end of time never expires; wait() sees that as a time that is not reached.
    const u64 now = now_100ns();
    timer.expiry = periodic ? (timer.count > ~u64{0} - now ? ~u64{0} : now + timer.count) : timer.count;
    wait(index);
}

void SyntheticTimers::stop(unsigned index) {
    timers_[index].pending = false;
    vp_.partition().hypervisor().events().cancel(timers_[index].event);
}

void SyntheticTimers::wait(unsigned index) {
    Timer& timer = timers_[index];
    if (vp_.partition().policy().time_frozen) return;
    if (timer.expiry <= now_100ns()) {
        expire(index);
        return;
    }
    const VTime when = vp_.partition().reference_clock().reaches(timer.expiry);
    if (when != kNever) vp_.partition().hypervisor().events().arm(timer.event, when);
}

void SyntheticTimers::fired(unsigned index, VTime due) {
    const ReferenceTime& clock = vp_.partition().reference_clock();
    const VTime now = std::max(due, vp_.partition().hypervisor().events().now());
    if (clock.at(now) >= timers_[index].expiry)
        expire(index);
    else
        wait(index);  // the clock was rebased since this was armed, and is a tick behind
}

void SyntheticTimers::expire(unsigned index) {
    Timer& timer = timers_[index];
    if ((timer.config & stimer::kDirect) != 0) {
        const u8 vector = stimer::vector(timer.config);
        vp_.partition().hypervisor().log().trace(Area::Hv, "{}: STIMER{} expires, vector {:#x}", vp_.processor().name(),
                                                 index, vector);
        if (vector >= kFirstLegalVector) vp_.processor().apic().accept(vector, false);
    } else if (!deliver_message(index)) {
        timer.pending = true;
        return;
    }
    finish(index);
}

bool SyntheticTimers::deliver_message(unsigned index) {
    const Timer& timer = timers_[index];
    const TimerMessage message{index, 0, timer.expiry, now_100ns()};
    u8 payload[sizeof message];
    std::memcpy(payload, &message, sizeof message);
    return vp_.synic().try_deliver(stimer::sintx(timer.config), kMessageTypeTimerExpired, 0, payload) ==
           Synic::Attempt::Delivered;
}

void SyntheticTimers::finish(unsigned index) {
    Timer& timer = timers_[index];
    timer.pending = false;
    // A period of 0 can only come from saved state: no register leaves one in an enabled timer.
    if ((timer.config & stimer::kPeriodic) == 0 || timer.count == 0) {
        timer.config &= ~stimer::kEnable;
        return;
    }
    // Periods missed while the VP was stopped or the slot busy are one expiration (S-80).
    const u64 now = now_100ns();
    const u64 missed = now > timer.expiry ? (now - timer.expiry) / timer.count : 0;
    timer.expiry += (missed + 1) * timer.count;
    wait(index);
}

void SyntheticTimers::retry_pending() {
    for (unsigned i = 0; i < kStimerCount; ++i)
        if (timers_[i].pending && deliver_message(i)) finish(i);
}

void SyntheticTimers::time_changed() {
    for (unsigned i = 0; i < kStimerCount; ++i) {
        const Timer& timer = timers_[i];
        vp_.partition().hypervisor().events().cancel(timer.event);
        if ((timer.config & stimer::kEnable) != 0 && timer.count != 0 && !timer.pending) wait(i);
    }
}

SyntheticTimersState SyntheticTimers::save() const {
    SyntheticTimersState state{};
    for (unsigned i = 0; i < kStimerCount; ++i) {
        const Timer& timer = timers_[i];
        state.timer[i] = {timer.pending ? 1u : 0u, 0, timer.config, timer.count, 0, timer.pending ? timer.expiry : 0};
    }
    return state;
}

bool SyntheticTimers::load(const SyntheticTimersState& state) {
    for (const SyntheticTimersState::Timer& timer : state.timer)
        if ((timer.config & stimer::kReserved) != 0) return false;
    for (unsigned i = 0; i < kStimerCount; ++i) {
        const SyntheticTimersState::Timer& from = state.timer[i];
        stop(i);
        timers_[i].config = from.config;
        timers_[i].count = from.count;
        if ((from.undelivered_pending & 1) != 0) {
            timers_[i].expiry = from.undelivered_expiration;
            timers_[i].pending = true;
        } else {
            start(i);
        }
    }
    return true;
}

void SyntheticTimers::reset() {
    for (unsigned i = 0; i < kStimerCount; ++i) {
        stop(i);
        timers_[i].config = timers_[i].count = timers_[i].expiry = 0;
    }
}

void SyntheticTimers::fields(StateVisitor& v) {
    for (unsigned i = 0; i < kStimerCount; ++i) {
        VisitScope scope(v, std::to_string(i));
        v("config", timers_[i].config);
        v("count", timers_[i].count, Fmt::Dec);
        v("expiry", timers_[i].expiry, Fmt::Dec);
        v("pending", timers_[i].pending);
    }
}

}  // namespace vg::hv
