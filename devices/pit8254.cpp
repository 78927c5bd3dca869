#include "devices/pit8254.h"

#include <algorithm>

#include "base/bits.h"

namespace vg::devices {

namespace {

constexpr u64 kNoClock = ~u64{0};
constexpr u8 kNullCount = 0x40, kOutputHigh = 0x80;
constexpr u8 kGate2 = 0x01, kRefresh = 0x10, kOutput2 = 0x20, kSpeakerWritable = 0x0f;

constexpr bool periodic(u8 mode) { return mode == 2 || mode == 3; }
constexpr bool started_by_gate(u8 mode) { return mode == 1 || mode == 5; }

VTime time_of(u64 clock) { return static_cast<VTime>((u128{clock} * kVTimeHz + Pit8254::kHz - 1) / Pit8254::kHz); }
u16 to_bcd(u32 value) {
    return static_cast<u16>((value / 1000 % 10) << 12 | (value / 100 % 10) << 8 | (value / 10 % 10) << 4 | value % 10);
}
u32 from_bcd(u16 value) {
    return (value >> 12) * 1000u + (value >> 8 & 15) * 100u + (value >> 4 & 15) * 10u + (value & 15u);
}

}  // namespace

Pit8254::Pit8254(EventQueue& events, IrqLine& irq0)
    : events_(events),
      irq_(irq0),
      timer_(events.add("pit/output", [this](VTime) { update(); })),
      speaker_port_(
          [this](u16 offset, unsigned size, u32& value) {
              if (size != 1) return IoStatus::BadSize;
              if (offset != 0) return IoStatus::NoRegister;
              const u64 now = clock();
              settle(state_.channels[2], now);
              value = state_.speaker;
              if ((now / 18 & 1) != 0) value |= kRefresh;  // channel 1 refreshes memory every 15 us on a PC
              if (output(state_.channels[2], now)) value |= kOutput2;
              return IoStatus::Ok;
          },
          [this](u16 offset, unsigned size, u32 value) {
              if (size != 1) return IoStatus::BadSize;
              if (offset != 0) return IoStatus::NoRegister;
              state_.speaker = static_cast<u8>(value) & kSpeakerWritable;
              set_gate(state_.channels[2], (value & kGate2) != 0);
              return IoStatus::Ok;
          }) {}

void Pit8254::reset() {
    state_ = State{};
    events_.cancel(timer_);
    irq_.set(state_.irq_level);
}

void Pit8254::fields(StateVisitor& v) {
    static constexpr std::string_view kNames[] = {"counter0", "counter1", "counter2"};
    for (unsigned i = 0; i < 3; ++i) {
        Channel& c = state_.channels[i];
        VisitScope scope(v, kNames[i]);
        v("mode", c.mode, Fmt::Dec);
        v("access", c.access, Fmt::Dec);
        v("bcd", c.bcd);
        v("gate", c.gate);
        v("loaded", c.loaded);
        v("triggered", c.triggered);
        v("count", c.count, Fmt::Dec);
        v("next_count", c.next_count, Fmt::Dec);
        v("start", c.start, Fmt::Dec);
        v("stopped_at", c.stopped_at, Fmt::Dec);
        v("write_high", c.write_high);
        v("read_high", c.read_high);
        v("low_byte", c.low_byte);
        v("count_latched", c.count_latched);
        v("status_latched", c.status_latched);
        v("latched_count", c.latched_count);
        v("latched_status", c.latched_status);
        if (!v.loading()) continue;
        c.mode = std::min<u8>(c.mode, 5);
        if (c.count == 0) c.loaded = c.triggered = false;
    }
    v("speaker", state_.speaker, Fmt::Bin);
    v("irq_level", state_.irq_level);
}

u64 Pit8254::clock() const { return static_cast<u64>(u128{events_.now()} * kHz / kVTimeHz); }

u64 Pit8254::elapsed(const Channel& c, u64 now) {
    if (!c.gate && !started_by_gate(c.mode)) return c.stopped_at;
    return now > c.start ? now - c.start : 0;
}

void Pit8254::settle(Channel& c, u64 now) {
    if (!periodic(c.mode) || c.next_count == 0 || elapsed(c, now) < c.count) return;
    c.start += c.count;
    c.count = c.next_count;
    c.next_count = 0;
}

bool Pit8254::output(const Channel& c, u64 now) {
    const u64 n = c.count, d = elapsed(c, now);
    switch (c.mode) {
        case 0:
            return c.loaded && d >= n;
        case 1:
            return !c.triggered || d >= n;
        case 2:
            return !c.loaded || !c.gate || d % n != n - 1 || n == 1;
        case 3:
            return !c.loaded || !c.gate || d % n < (n + 1) / 2;
        case 4:
            return !c.loaded || d != n;
        default:
            return !c.triggered || d != n;
    }
}

u16 Pit8254::counter(const Channel& c, u64 now) {
    if (c.count == 0) return 0;
    const u64 n = c.count, d = elapsed(c, now);
    u64 value = 0;
    if (started_by_gate(c.mode) && !c.triggered) {
        value = n;
    } else if (c.mode == 2) {
        value = n - d % n;
    } else if (c.mode == 3) {
        // Counts by two, once down for each half; an odd count's high half is one clock longer.
        const u64 phase = d % n, half = (n + 1) / 2;
        value = (n & ~u64{1}) - 2 * (phase < half ? phase : phase - half);
    } else {
        const u64 wrap = c.bcd ? 10000 : 65536;
        value = (n % wrap + wrap - d % wrap) % wrap;
    }
    return c.bcd ? to_bcd(static_cast<u32>(value % 10000)) : static_cast<u16>(value);
}

u64 Pit8254::next_change(const Channel& c, u64 now) {
    const bool counting = started_by_gate(c.mode) ? c.triggered : c.loaded && c.gate;
    if (!counting) return kNoClock;
    const u64 n = c.count, d = elapsed(c, now);
    const u64 base = std::max(c.start, now) - d;  // the clock at which d was 0
    switch (c.mode) {
        case 0:
        case 1:
            return d < n ? base + n : kNoClock;
        case 2:
        case 3: {
            if (n == 1) return kNoClock;
            const u64 phase = d % n, falls = c.mode == 2 ? n - 1 : (n + 1) / 2;
            return base + d - phase + (phase < falls ? falls : n);
        }
        default:
            return d < n ? base + n : d == n ? base + n + 1 : kNoClock;
    }
}

u8 Pit8254::status(const Channel& c, u64 now) {
    const bool waits_for_gate = started_by_gate(c.mode) && !c.triggered;
    const bool null_count = !c.loaded || waits_for_gate || c.next_count != 0 || now < c.start;
    return static_cast<u8>((output(c, now) ? kOutputHigh : 0) | (null_count ? kNullCount : 0) | c.access << 4 |
                           c.mode << 1 | (c.bcd ? 1 : 0));
}

void Pit8254::update() {
    Channel& c = state_.channels[0];
    const u64 now = clock();
    settle(c, now);
    const u64 next = next_change(c, now);
    events_.arm(timer_, next == kNoClock ? kNever : time_of(next));
    const bool level = output(c, now);
    if (level == state_.irq_level) return;
    state_.irq_level = level;
    irq_.set(level);
}

void Pit8254::load(Channel& c, u16 value) {
    const u64 now = clock();
    u32 count = c.bcd ? from_bcd(value) : value;
    if (count == 0) count = c.bcd ? 10000 : 65536;
    settle(c, now);
    // A running cycle or pulse ends with the old count.
    if ((periodic(c.mode) && c.loaded && c.gate) || c.triggered) {
        if (periodic(c.mode)) c.start += elapsed(c, now) / c.count * c.count;  // where the running cycle began
        c.next_count = count;
        return;
    }
    c.count = count;
    c.loaded = true;
    if (started_by_gate(c.mode)) return;
    c.start = now + 1;  // "the count will be loaded on the next CLK pulse"
    c.stopped_at = 0;
}

void Pit8254::write_count(Channel& c, u8 value) {
    switch (c.access) {
        case 1:
            return load(c, value);
        case 2:
            return load(c, static_cast<u16>(value << 8));
        default:
            break;
    }
    if (!c.write_high) {
        c.low_byte = value;
        c.write_high = true;
        if (c.mode == 0) c.loaded = false;  // "writing the first byte disables counting. OUT is set low immediately"
        return;
    }
    c.write_high = false;
    load(c, static_cast<u16>(value << 8 | c.low_byte));
}

void Pit8254::write_control(u8 value) {
    const unsigned select = value >> 6;
    const u64 now = clock();
    if (select == 3) {  // read-back command: bits 5 and 4 low ask for count and status
        for (unsigned i = 0; i < 3; ++i) {
            Channel& c = state_.channels[i];
            if ((value >> (i + 1) & 1) == 0) continue;
            settle(c, now);
            if ((value & 0x20) == 0 && !c.count_latched) {
                c.latched_count = counter(c, now);
                c.count_latched = true;
            }
            if ((value & 0x10) == 0 && !c.status_latched) {
                c.latched_status = status(c, now);
                c.status_latched = true;
            }
        }
        return;
    }
    Channel& c = state_.channels[select];
    const u8 access = value >> 4 & 3;
    if (access == 0) {
        settle(c, now);
        if (!c.count_latched) c.latched_count = counter(c, now);
        c.count_latched = true;
        return;
    }
    const bool gate = c.gate;
    c = Channel{};
    c.gate = gate;
    c.access = access;
    const u8 mode = value >> 1 & 7;
    c.mode = mode > 5 ? mode & 3 : mode;
    c.bcd = (value & 1) != 0;
}

u8 Pit8254::read_counter(Channel& c) {
    if (c.status_latched) {
        c.status_latched = false;
        return c.latched_status;
    }
    const u64 now = clock();
    settle(c, now);
    const u16 value = c.count_latched ? c.latched_count : counter(c, now);
    const bool high = c.access == 2 || (c.access == 3 && c.read_high);
    if (c.access == 3) c.read_high = !c.read_high;
    if (c.access != 3 || high) c.count_latched = false;
    return static_cast<u8>(high ? value >> 8 : value);
}

void Pit8254::set_gate(Channel& c, bool open) {
    if (open == c.gate) return;
    const u64 now = clock();
    settle(c, now);
    if (!open) {
        c.stopped_at = elapsed(c, now);
        c.gate = false;
        return;
    }
    c.gate = true;
    if (!started_by_gate(c.mode) && !periodic(c.mode)) {
        c.start = now - std::min(now, c.stopped_at);
        return;
    }
    // A rising gate loads the count and starts.
    if (c.next_count != 0) c.count = c.next_count;
    c.next_count = 0;
    c.triggered = started_by_gate(c.mode) && c.loaded;
    c.start = now + 1;
}

IoStatus Pit8254::port_read(u16 offset, unsigned size, u32& value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset >= 3) return IoStatus::NoRegister;  // the control word cannot be read
    value = read_counter(state_.channels[offset]);
    return IoStatus::Ok;
}

IoStatus Pit8254::port_write(u16 offset, unsigned size, u32 value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset > 3) return IoStatus::NoRegister;
    if (offset == 3) {
        write_control(static_cast<u8>(value));
    } else {
        write_count(state_.channels[offset], static_cast<u8>(value));
    }
    update();
    return IoStatus::Ok;
}

}  // namespace vg::devices
