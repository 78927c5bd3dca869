#include "roms/parent/wall_clock.h"

#include <array>

#include "devices/cmos_rtc.h"
#include "machine/acpi_tables.h"
#include "roms/parent/platform.h"
#include "roms/parent/processor.h"

namespace vg::parent {

namespace {

u8 cmos(u8 index) {
    out8(machine::board::kRtcPort, index);
    return in8(machine::board::kRtcPort + 1);
}

/// Seconds, minutes, hours, day, month, year, century (MC146818 data sheet; FADT.CENTURY).
constexpr u8 kRegisters[] = {0x00, 0x02, 0x04, 0x07, 0x08, 0x09, devices::CmosRtc::kCentury};
using Time = std::array<u8, sizeof kRegisters>;

Time read_once() {
    constexpr u8 kRegisterA = 0x0a, kUpdating = 0x80;
    while ((cmos(kRegisterA) & kUpdating) != 0) {
    }
    Time time{};
    for (std::size_t i = 0; i < time.size(); ++i) time[i] = cmos(kRegisters[i]);
    return time;
}

/// Days since 1970-01-01 of a date of the Gregorian calendar, years counted from March so that leap days come last.
s64 days(s64 year, s64 month, s64 day) {
    if (month <= 2) --year;
    const s64 of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    constexpr s64 kToEpoch = 719468;
    return 365 * year + year / 4 - year / 100 + year / 400 + of_year - kToEpoch;
}

}  // namespace

s64 wall_clock_at_start() {
    Time time = read_once();
    for (Time again = read_once(); again != time; again = read_once()) time = again;
    constexpr u8 kRegisterB = 0x0b, kBinary = 0x04;
    if ((cmos(kRegisterB) & kBinary) == 0) {
        for (u8& value : time) value = static_cast<u8>((value >> 4) * 10 + (value & 0xf));
    }
    const s64 since_epoch =
        days(time[6] * 100 + time[5], time[4], time[3]) * 86400 + time[2] * 3600 + time[1] * 60 + time[0];
    return since_epoch - static_cast<s64>(reference_time_100ns() / 10'000'000);
}

}  // namespace vg::parent
