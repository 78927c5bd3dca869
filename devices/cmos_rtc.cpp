#include "devices/cmos_rtc.h"

#include <algorithm>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

namespace {

enum Index : u8 {
    kSeconds = 0,
    kSecondsAlarm,
    kMinutes,
    kMinutesAlarm,
    kHours,
    kHoursAlarm,
    kWeekday,
    kDay,
    kMonth,
    kYear,
    kRegA,
    kRegB,
    kRegC,
    kRegD,
    kFirstNvram
};

constexpr u8 kUip = 0x80;
constexpr u8 kSet = 0x80, kBinary = 0x04, k24Hour = 0x02;
constexpr u8 kPeriodic = 0x40, kAlarm = 0x20, kUpdate = 0x10;  // same bits in B (enable) and C (flag)
constexpr u8 kIrqFlag = 0x80;
constexpr u8 kValidRam = 0x80;
constexpr u8 kPm = 0x80;
constexpr s64 kSecondNs = 1'000'000'000;
// Data sheet, "Update Cycle": UIP rises 244 us before the update, which takes 1984 us with a 32768 Hz crystal.
constexpr s64 kUpdateNs = 2'228'000;

bool is_time(u8 index) {
    switch (index) {
        case kSeconds:
        case kMinutes:
        case kHours:
        case kWeekday:
        case kDay:
        case kMonth:
        case kYear:
        case CmosRtc::kCentury:
            return true;
        default:
            return false;
    }
}

s64 floor_div(s64 a, s64 b) { return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0); }

// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, and back; years start in March so that the
// leap day is the last of the year.
s64 days_from_date(s64 year, u32 month, u32 day) {
    year -= month <= 2 ? 1 : 0;
    const s64 era = floor_div(year, 400);
    const s64 year_of_era = year - era * 400;
    const s64 day_of_year = (153 * (s64{month} + (month > 2 ? -3 : 9)) + 2) / 5 + s64{day} - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}
struct Date {
    s64 year;
    u32 month, day;
};
Date date_from_days(s64 days) {
    days += 719468;
    const s64 era = floor_div(days, 146097);
    const s64 day_of_era = days - era * 146097;
    const s64 year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const s64 day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const s64 march_month = (5 * day_of_year + 2) / 153;
    const u32 day = static_cast<u32>(day_of_year - (153 * march_month + 2) / 5 + 1);
    const u32 month = static_cast<u32>(march_month < 10 ? march_month + 3 : march_month - 9);
    return {year_of_era + era * 400 + (month <= 2 ? 1 : 0), month, day};
}
/// 1 is Sunday.
u32 weekday_from_days(s64 days) { return static_cast<u32>(((days + 4) % 7 + 7) % 7) + 1; }

}  // namespace

CmosRtc::CmosRtc(EventQueue& events, IrqLine& irq8, s64 start_unix_seconds)
    : events_(events),
      irq_(irq8),
      start_(start_unix_seconds),
      timer_(events.add("cmos_rtc/event", [this](VTime) { update(); })),
      state_(fresh()) {}

CmosRtc::State CmosRtc::fresh() const {
    State state;
    state.epoch_seconds = start_;
    return state;
}

void CmosRtc::reset() {
    state_ = fresh();
    events_.cancel(timer_);
    irq_.set(false);
}

void CmosRtc::silence() {
    change_control(state_.reg_a, static_cast<u8>(state_.reg_b & ~(kPeriodic | kAlarm | kUpdate)), events_.now());
    state_.reg_c = 0;
    state_.index = 0;
    update();
}

void CmosRtc::fields(StateVisitor& v) {
    State& s = state_;
    v("index", s.index);
    v("reg_a", s.reg_a, Fmt::Bin);
    v("reg_b", s.reg_b, Fmt::Bin);
    v("reg_c", s.reg_c, Fmt::Bin);
    v("irq_level", s.irq_level);
    v("weekday_shift", s.weekday_shift, Fmt::Dec);
    v("epoch_seconds", s.epoch_seconds, Fmt::Dec);
    v("epoch_ns", s.epoch_ns, Fmt::Dec);
    v("checked", s.checked, Fmt::Dec);
    v("memory", s.memory);
}

// Runs unless SET is on or the divider chain is not in its 32768 Hz setting (other settings stop or reset it).
bool CmosRtc::running() const { return (state_.reg_b & kSet) == 0 && bits(state_.reg_a, 6, 4) == 2; }

s64 CmosRtc::seconds_at(VTime now) const {
    return state_.epoch_seconds + floor_div(static_cast<s64>(now) - state_.epoch_ns, kSecondNs);
}
VTime CmosRtc::second_start(s64 seconds) const {
    return static_cast<VTime>(state_.epoch_ns + (seconds - state_.epoch_seconds) * kSecondNs);
}
bool CmosRtc::updating(VTime now) const {
    if (!running()) return false;
    const s64 phase = static_cast<s64>(now) - static_cast<s64>(second_start(seconds_at(now)));
    return phase >= kSecondNs - kUpdateNs;
}

u8 CmosRtc::encode(u32 value) const {
    return static_cast<u8>((state_.reg_b & kBinary) != 0 ? value : (value / 10 << 4) | value % 10);
}
u32 CmosRtc::decode(u8 value) const {
    return (state_.reg_b & kBinary) != 0 ? value : (value >> 4) * 10u + (value & 15u);
}
u8 CmosRtc::encode_hour(u32 hour) const {
    if ((state_.reg_b & k24Hour) != 0) return encode(hour);
    return static_cast<u8>(encode(hour % 12 == 0 ? 12 : hour % 12) | (hour >= 12 ? kPm : 0));
}
u32 CmosRtc::decode_hour(u8 value) const {
    if ((state_.reg_b & k24Hour) != 0) return decode(value);
    return decode(value & 0x7f) % 12 + ((value & kPm) != 0 ? 12 : 0);
}

void CmosRtc::store_time(s64 seconds, std::array<u8, kSize>& memory) const {
    const s64 days = floor_div(seconds, 86400);
    const u32 of_day = static_cast<u32>(seconds - days * 86400);
    const Date date = date_from_days(days);
    const u32 year = static_cast<u32>(std::clamp<s64>(date.year, 0, 9999));
    memory[kSeconds] = encode(of_day % 60);
    memory[kMinutes] = encode(of_day / 60 % 60);
    memory[kHours] = encode_hour(of_day / 3600);
    memory[kWeekday] = encode((weekday_from_days(days) - 1 + state_.weekday_shift) % 7 + 1);
    memory[kDay] = encode(date.day);
    memory[kMonth] = encode(date.month);
    memory[kYear] = encode(year % 100);
    memory[kCentury] = encode(year / 100);
}

// Whatever the registers hold becomes a time; values out of range count on from the start of their unit.
s64 CmosRtc::parse_time() {
    const auto& m = state_.memory;
    const s64 year = s64{decode(m[kCentury])} * 100 + decode(m[kYear]);
    const u32 month = std::clamp(decode(m[kMonth]), 1u, 12u);
    const s64 days = days_from_date(year, month, std::max(decode(m[kDay]), 1u));
    const u32 weekday = std::max(decode(m[kWeekday]), 1u) - 1;
    state_.weekday_shift = static_cast<u8>((weekday % 7 + 7 - (weekday_from_days(days) - 1)) % 7);
    return days * 86400 + decode_hour(m[kHours]) * 3600 + decode(m[kMinutes]) * 60 + decode(m[kSeconds]);
}

void CmosRtc::change_control(u8 reg_a, u8 reg_b, VTime now) {
    const bool was_running = running();
    const bool divider_was_on = bits(state_.reg_a, 6, 4) == 2;
    const s64 seconds = seconds_at(now);
    if (was_running) store_time(seconds, state_.memory);
    const bool format_changes = ((reg_b ^ state_.reg_b) & (kBinary | k24Hour)) != 0;
    state_.reg_a = reg_a & 0x7f;
    state_.reg_b = reg_b;
    if ((reg_b & kSet) != 0) state_.reg_b = static_cast<u8>(reg_b & ~kUpdate);  // data sheet, SET: "clears UIE"
    if (was_running && running() && format_changes) return;                     // linear time is untouched
    if (was_running || !running()) return;

    const s64 phase = divider_was_on ? static_cast<s64>(now) - static_cast<s64>(second_start(seconds)) : kSecondNs / 2;
    // Data sheet, "Divider Control": the first update comes half a second after the divider is released.
    state_.epoch_seconds = parse_time();
    state_.epoch_ns = static_cast<s64>(now) - phase;
}

void CmosRtc::write_time(u8 index, u8 value, VTime now) {
    const bool live = running();
    if (live) store_time(seconds_at(now), state_.memory);
    state_.memory[index] = value;
    if (!live) return;
    const s64 phase_start = static_cast<s64>(second_start(seconds_at(now)));
    state_.epoch_seconds = parse_time();
    state_.epoch_ns = phase_start;
}

// Tick k of the periodic rate is at epoch + k * 2^(RS-1) / 32768 s; rates 1 and 2 repeat 8 and 9.
VTime CmosRtc::next_periodic(VTime after) const {
    u32 rate = state_.reg_a & 15u;
    if (rate == 0 || bits(state_.reg_a, 6, 4) != 2) return kNever;
    if (rate <= 2) rate += 7;
    const u128 period = u128{u64{1} << (rate - 1)} * kVTimeHz;  // in units of 1/32768 ns
    // Ticks are counted from a start of a second at or before `after`: every rate divides a second.
    const s64 base = static_cast<s64>(second_start(seconds_at(after)));
    const u128 elapsed = static_cast<u128>(static_cast<s64>(after) - base);
    const u128 tick = elapsed * 32768 / period + 1;
    VTime when = static_cast<VTime>(base + static_cast<s64>((tick * period + 32767) / 32768));
    if (when <= after) when = static_cast<VTime>(base + static_cast<s64>(((tick + 1) * period + 32767) / 32768));
    return when;
}

VTime CmosRtc::next_update(VTime after) const { return running() ? second_start(seconds_at(after) + 1) : kNever; }

VTime CmosRtc::next_alarm(VTime after) const {
    if (!running()) return kNever;
    // Data sheet, "Alarm": the two top bits of an alarm byte set mean "don't care".
    const auto any = [](u8 value) { return value >= 0xc0; };
    const auto& m = state_.memory;
    const bool possible = (any(m[kHoursAlarm]) || decode_hour(m[kHoursAlarm]) < 24) &&
                          (any(m[kMinutesAlarm]) || decode(m[kMinutesAlarm]) < 60) &&
                          (any(m[kSecondsAlarm]) || decode(m[kSecondsAlarm]) < 60);
    if (!possible) return kNever;
    // Skipping whole hours and minutes that do not match keeps this under 200 steps.
    for (s64 t = seconds_at(after) + 1;;) {
        const u32 of_day = static_cast<u32>(((t % 86400) + 86400) % 86400);
        if (!any(m[kHoursAlarm]) && decode_hour(m[kHoursAlarm]) != of_day / 3600) {
            t += 3600 - of_day % 3600;
        } else if (!any(m[kMinutesAlarm]) && decode(m[kMinutesAlarm]) != of_day / 60 % 60) {
            t += 60 - of_day % 60;
        } else if (!any(m[kSecondsAlarm]) && decode(m[kSecondsAlarm]) != of_day % 60) {
            ++t;
        } else {
            return second_start(t);
        }
    }
}

void CmosRtc::collect(VTime now) {
    const VTime from = state_.checked;
    if (now <= from) return;
    if (next_periodic(from) <= now) state_.reg_c |= kPeriodic;
    if (next_update(from) <= now) state_.reg_c |= kUpdate;
    if ((state_.reg_c & kAlarm) == 0 && next_alarm(from) <= now) state_.reg_c |= kAlarm;
    state_.checked = now;
}

void CmosRtc::update() {
    const VTime now = events_.now();
    collect(now);
    const u8 raised = state_.reg_c & state_.reg_b & (kPeriodic | kAlarm | kUpdate);
    const u8 waiting = static_cast<u8>(state_.reg_b & ~state_.reg_c);
    // A raised interrupt holds the line until register C is read: no further event can change anything.
    VTime next = kNever;
    if (raised == 0) {
        if ((waiting & kPeriodic) != 0) next = std::min(next, next_periodic(now));
        if ((waiting & kUpdate) != 0) next = std::min(next, next_update(now));
        if ((waiting & kAlarm) != 0) next = std::min(next, next_alarm(now));
    }
    events_.arm(timer_, next);
    state_.reg_c = static_cast<u8>(raised != 0 ? state_.reg_c | kIrqFlag : state_.reg_c & ~kIrqFlag);
    const bool level = raised != 0;
    if (level == state_.irq_level) return;
    state_.irq_level = level;
    irq_.set(level);
}

u8 CmosRtc::read_register(u8 index) {
    const VTime now = events_.now();
    if (is_time(index) && running()) {
        std::array<u8, kSize> image{};
        store_time(seconds_at(now), image);
        return image[index];
    }
    switch (index) {
        case kRegA:
            return static_cast<u8>(state_.reg_a | (updating(now) ? kUip : 0));
        case kRegB:
            return state_.reg_b;
        case kRegC: {
            update();
            const u8 value = state_.reg_c;
            state_.reg_c = 0;
            update();
            return value;
        }
        case kRegD:
            return kValidRam;
        default:
            return state_.memory[index];
    }
}

void CmosRtc::write_register(u8 index, u8 value) {
    const VTime now = events_.now();
    collect(now);
    switch (index) {
        case kRegA:
            change_control(value, state_.reg_b, now);
            break;
        case kRegB:
            change_control(state_.reg_a, value, now);
            break;
        case kRegC:
        case kRegD:
            return;  // read-only
        default:
            if (is_time(index)) {
                write_time(index, value, now);
            } else {
                state_.memory[index] = value;
            }
    }
    update();
}

IoStatus CmosRtc::port_read(u16 offset, unsigned size, u32& value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset > 1) return IoStatus::NoRegister;
    value = offset == 0 ? 0xff : read_register(state_.index & 0x7f);  // the index port is write-only
    return IoStatus::Ok;
}

IoStatus CmosRtc::port_write(u16 offset, unsigned size, u32 value) {
    if (size != 1) return IoStatus::BadSize;
    if (offset > 1) return IoStatus::NoRegister;
    if (offset == 0) {
        state_.index = static_cast<u8>(value);
    } else {
        write_register(state_.index & 0x7f, static_cast<u8>(value));
    }
    return IoStatus::Ok;
}

void CmosRtc::set_nvram(u8 index, u8 value) {
    VG_ASSERT(index >= kFirstNvram && index < kSize && index != kCentury);
    state_.memory[index] = value;
}
u8 CmosRtc::nvram(u8 index) const {
    VG_ASSERT(index >= kFirstNvram && index < kSize);
    return state_.memory[index];
}

}  // namespace vg::devices
