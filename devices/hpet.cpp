#include "devices/hpet.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bits.h"

namespace vg::devices {

using namespace hpet;

namespace {

constexpr u64 kPeriodFs = Hpet::kTickNs * 1'000'000;
constexpr VTime kMinimumGap = 1000;

}  // namespace

Hpet::Hpet(EventQueue& events, Wiring wiring) : events_(events), wiring_(std::move(wiring)) {
    for (u32 i = 0; i < kTimerCount; ++i)
        ids_[i] = events.add(fmt::format("hpet.timer{}", i), [this, i](VTime) { expire(i); });
}

void Hpet::reset() {
    for (u32 i = 0; i < kTimerCount; ++i) {
        events_.cancel(ids_[i]);
        if (IrqLine* line = line_of(i); line != nullptr) line->set(false);
    }
    state_ = State{};
    if (wiring_.legacy) wiring_.legacy(false);
}

void Hpet::fields(StateVisitor& v) {
    v("configuration", state_.configuration);
    v("status", state_.status);
    v("counter", state_.counter);
    v("started_at", state_.started_at, Fmt::Dec);
    for (u32 i = 0; i < kTimerCount; ++i) {
        VisitScope scope(v, fmt::format("timer{}", i));
        v("configuration", state_.timers[i].configuration);
        v("comparator", state_.timers[i].comparator);
        v("period", state_.timers[i].period);
        v("high", state_.timers[i].high);
    }
    if (v.loading() && wiring_.legacy) wiring_.legacy((state_.configuration & kLegacyReplacement) != 0);
}

u64 Hpet::counter() const {
    return on() ? state_.counter + (events_.now() - state_.started_at) / kTickNs : state_.counter;
}

// ---- Registers

u64 Hpet::read_register(u64 offset) const {
    switch (offset) {
        case kCapabilities:
            return kIdentity | kPeriodFs << 32;
        case kConfiguration:
            return state_.configuration;
        case kStatus:
            return state_.status;
        case kCounter:
            return counter();
        default:
            break;
    }
    const u64 index = (offset - kTimers) / kTimerStride;
    if (offset < kTimers || index >= kTimerCount) return 0;
    const Timer& timer = state_.timers[index];
    switch (offset % kTimerStride) {
        case kTimerConfiguration: {
            u64 routes = 0;
            for (u32 i = 0; i < 32; ++i) routes |= u64{wiring_.routes[i] != nullptr} << i;
            return timer.configuration | routes << 32;
        }
        case kTimerComparator:
            return (timer.configuration & k32Bit) != 0 ? timer.comparator & 0xffffffff : timer.comparator;
        default:
            return 0;
    }
}

void Hpet::write_register(u64 offset, u64 value, u64 mask) {
    if (offset >= kTimers) {
        const u64 index = (offset - kTimers) / kTimerStride;
        if (index < kTimerCount) write_timer(static_cast<u32>(index), offset % kTimerStride, value, mask);
        return;
    }
    const u64 merged = (read_register(offset) & ~mask) | (value & mask);
    switch (offset) {
        case kConfiguration:
            configure(merged & (kEnable | kLegacyReplacement));
            break;
        case kStatus:
            state_.status &= ~(value & mask);
            drive_all();
            break;
        case kCounter:
            // "Writes to this register should only be done while the counter is halted."
            state_.counter = merged;
            state_.started_at = events_.now();
            arm_all();
            break;
        default:
            break;
    }
}

void Hpet::configure(u64 value) {
    const u64 changed = state_.configuration ^ value;
    if ((changed & kLegacyReplacement) != 0) {
        for (u32 i = 0; i < kTimerCount; ++i) {
            if (IrqLine* line = line_of(i); line != nullptr && state_.timers[i].high) line->set(false);
        }
    }
    if ((changed & kEnable) != 0) {
        state_.counter = counter();
        state_.started_at = events_.now();
    }
    state_.configuration = value;
    if ((changed & kLegacyReplacement) != 0 && wiring_.legacy) wiring_.legacy((value & kLegacyReplacement) != 0);
    drive_all();
    arm_all();
}

void Hpet::write_timer(u32 index, u64 offset, u64 value, u64 mask) {
    Timer& timer = state_.timers[index];
    if (offset == kTimerConfiguration) {
        if (IrqLine* line = line_of(index); line != nullptr && timer.high) line->set(false);
        timer.high = false;
        const u64 writable = kTimerWritable & mask;
        timer.configuration = (timer.configuration & ~writable) | (value & writable);
        if (const u64 route = bits(timer.configuration, kRouteHigh, kRouteLow); wiring_.routes[route] == nullptr) {
            timer.configuration =
                with_bits(timer.configuration, kRouteHigh, kRouteLow, 0);  // "the value is not accepted"
        }
        drive(index);
    } else if (offset == kTimerComparator) {
        const bool periodic = (timer.configuration & kPeriodic) != 0;
        if (!periodic || (timer.configuration & kSetValue) != 0)
            timer.comparator = (timer.comparator & ~mask) | (value & mask);
        if (periodic) timer.period = (timer.period & ~mask) | (value & mask);
        timer.configuration &= ~kSetValue;
    }
    arm(index, events_.now());
}

/// Eight bytes at once or one half; other accesses are not defined and see or change the bytes of the register.
u64 Hpet::mmio_read(u64 offset, unsigned size) {
    const u64 at = align_down(offset, 8);
    const u64 value = read_register(at) >> ((offset - at) * 8);
    return value & low_mask(size * 8);
}

void Hpet::mmio_write(u64 offset, unsigned size, u64 value) {
    const u64 at = align_down(offset, 8);
    const unsigned shift = static_cast<unsigned>(offset - at) * 8;
    write_register(at, value << shift, low_mask(size * 8) << shift);
}

// ---- Comparators

void Hpet::arm_all() {
    for (u32 i = 0; i < kTimerCount; ++i) arm(i, events_.now());
}

/// @param earliest not before this time, whatever the comparator says
void Hpet::arm(u32 index, VTime earliest) {
    const Timer& timer = state_.timers[index];
    if (!on() || (timer.configuration & kInterrupt) == 0) return events_.cancel(ids_[index]);
    const bool narrow = (timer.configuration & k32Bit) != 0;
    const u64 now = counter();
    u64 ticks = timer.comparator - now;
    if (narrow) ticks &= 0xffffffff;
    // A comparator that the counter has passed waits for the counter to come round.
    if (ticks == 0) ticks = narrow ? u64{1} << 32 : 0;
    constexpr u64 kFarAway = u64{1} << 58;
    if (ticks == 0 || ticks > kFarAway) return events_.cancel(ids_[index]);
    const VTime tick_began = events_.now() - (events_.now() - state_.started_at) % kTickNs;
    events_.arm(ids_[index], std::max(tick_began + ticks * kTickNs, earliest));
}

void Hpet::expire(u32 index) {
    Timer& timer = state_.timers[index];
    if ((timer.configuration & kLevel) != 0) {
        state_.status |= u64{1} << index;
        drive(index);
    } else if (IrqLine* line = line_of(index); line != nullptr) {
        line->pulse();
    }
    if ((timer.configuration & kPeriodic) == 0 || timer.period == 0) return arm(index, events_.now());
    // To the first match that lies ahead: those missed within the minimum gap are one interrupt.
    const u64 behind = counter() - timer.comparator;
    const bool narrow = (timer.configuration & k32Bit) != 0;
    const u64 period = narrow ? std::max<u64>(timer.period & 0xffffffff, 1) : timer.period;
    timer.comparator += ((narrow ? behind & 0xffffffff : behind) / period + 1) * period;
    arm(index, events_.now() + kMinimumGap);
}

IrqLine* Hpet::line_of(u32 index) const {
    if ((state_.configuration & kLegacyReplacement) != 0 && index < 2)
        return index == 0 ? &wiring_.irq0 : &wiring_.irq8;
    return wiring_.routes[bits(state_.timers[index].configuration, kRouteHigh, kRouteLow)];
}

/// The line of a level-triggered timer.
void Hpet::drive(u32 index) {
    Timer& timer = state_.timers[index];
    const bool high =
        (timer.configuration & kLevel) != 0 && (timer.configuration & kInterrupt) != 0 && bit(state_.status, index);
    if (high == timer.high) return;
    timer.high = high;
    if (IrqLine* line = line_of(index); line != nullptr) line->set(high);
}

void Hpet::drive_all() {
    for (u32 i = 0; i < kTimerCount; ++i) drive(i);
}

}  // namespace vg::devices
