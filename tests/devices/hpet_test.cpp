#include <catch2/catch.hpp>

#include <deque>

#include "base/bits.h"
#include "devices/hpet.h"
#include "tests/support/device_contract.h"
#include "tests/support/devices.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::devices::hpet;
using namespace vg::test;

namespace {

struct Board {
    Board() : chip(time.events, {irq0, irq8, routes(), [this](bool on) { replaced = on; }}) {}
    std::array<IrqLine*, 32> routes() {
        std::array<IrqLine*, 32> lines{};
        lines[11] = &irq11;
        return lines;
    }
    u64 read(u64 offset, unsigned size = 8) { return chip.mmio_read(offset, size); }
    void write(u64 offset, u64 value, unsigned size = 8) { chip.mmio_write(offset, size, value); }
    void timer(u32 index, u64 configuration, u64 comparator) {
        write(kTimers + index * kTimerStride, configuration);
        write(kTimers + index * kTimerStride + kTimerComparator, comparator);
    }
    TestTime time;
    RecordingIrq irq0, irq8, irq11;
    bool replaced = false;
    Hpet chip;
};

constexpr u64 kRoute11 = 11 << kRouteLow;

}  // namespace

TEST_CASE("hpet: keeps the device contract", "[devices][hpet]") {
    NoIrq none;
    std::deque<TestTime> times;
    check_device_contract<Hpet>(
        [&] {
            return std::make_unique<Hpet>(times.emplace_back().events, Hpet::Wiring{none, none, {}, nullptr});
        },
        [](Hpet& chip) {
            chip.mmio_write(kTimers, 8, kInterrupt | kPeriodic | kSetValue);
            chip.mmio_write(kTimers + kTimerComparator, 8, 1000);
            chip.mmio_write(kConfiguration, 8, 3);
        },
        0, Hpet::kSize);
}

TEST_CASE("hpet: the counter runs at 100 MHz while it is enabled", "[devices][hpet]") {
    Board b;
    CHECK(b.read(kCapabilities) >> 32 == 10'000'000);
    CHECK((b.read(kCapabilities, 4) & 0x1f00) == 0x200);
    b.time.run_for(1000);
    CHECK(b.read(kCounter) == 0);
    b.write(kConfiguration, kEnable);
    b.time.run_for(12345);
    CHECK(b.read(kCounter) == 1234);
    b.write(kConfiguration, 0);
    b.time.run_for(1000);
    CHECK(b.read(kCounter) == 1234);
    b.write(kCounter, 0xffff'ffff'ffff);
    b.write(kConfiguration, kEnable);
    b.time.run_for(10);
    CHECK(b.read(kCounter) == 0x1'0000'0000'0000);
    CHECK(b.read(kCounter + 4, 4) == 0x10000);
}

TEST_CASE("hpet: one-shot and periodic comparators interrupt on their tick", "[devices][hpet]") {
    Board b;
    b.timer(2, kInterrupt | kRoute11, 100);
    b.write(kConfiguration, kEnable);
    b.time.run_for(999);
    CHECK(b.irq11.rises == 0);
    b.time.run_for(1);
    CHECK(b.irq11.rises == 1);
    b.time.run_for(1'000'000'000);
    CHECK(b.irq11.rises == 1);

    // As Linux does it: the first match, then the period.
    b.timer(2, kInterrupt | kPeriodic | kSetValue | k32Bit | kRoute11, b.read(kCounter) + 1000);
    b.write(kTimers + 2 * kTimerStride + kTimerComparator, 500, 4);
    b.time.run_for(10'000);
    CHECK(b.irq11.rises == 2);
    b.time.run_for(5'000);
    CHECK(b.irq11.rises == 3);
    b.time.run_for(50'000);
    CHECK(b.irq11.rises == 13);
    b.write(kTimers + 2 * kTimerStride, 0);
    b.time.run_for(50'000);
    CHECK(b.irq11.rises == 13);
    // A comparator in the past, 32 bits: when the counter comes round.
    b.timer(2, kInterrupt | k32Bit | kRoute11, (b.read(kCounter) - 1) & 0xffffffff);
    b.time.run_for((u64{1} << 32) * 10 - 11);
    CHECK(b.irq11.rises == 13);
    b.time.run_for(11);
    CHECK(b.irq11.rises == 14);
}

TEST_CASE("hpet: level-triggered timers hold their line until acknowledged", "[devices][hpet]") {
    Board b;
    b.timer(1, kInterrupt | kLevel | kRoute11, 10);
    b.write(kConfiguration, kEnable);
    b.time.run_for(200);
    CHECK(b.irq11.high);
    CHECK(b.read(kStatus) == 2);
    b.write(kStatus, 1);
    CHECK(b.irq11.high);
    b.write(kStatus, 2);
    CHECK_FALSE(b.irq11.high);
}

TEST_CASE("hpet: legacy replacement takes interrupts 0 and 8", "[devices][hpet]") {
    Board b;
    b.timer(0, kInterrupt, 10);
    b.timer(1, kInterrupt, 20);
    b.write(kConfiguration, kEnable | kLegacyReplacement);
    CHECK(b.replaced);
    b.time.run_for(300);
    CHECK(b.irq0.rises == 1);
    CHECK(b.irq8.rises == 1);
    b.write(kConfiguration, kEnable);
    CHECK_FALSE(b.replaced);
    // Routes that are not there are not taken.
    b.write(kTimers, kInterrupt | u64{5} << kRouteLow);
    CHECK(bits(b.read(kTimers), kRouteHigh, kRouteLow) == 0);
    CHECK(b.read(kTimers) >> 32 == 1 << 11);
}

TEST_CASE("hpet: the shortest period does not stop time", "[devices][hpet]") {
    Board b;
    b.timer(2, kInterrupt | kPeriodic | kSetValue | kRoute11, 1);
    b.write(kTimers + 2 * kTimerStride + kTimerComparator, 1);
    b.write(kConfiguration, kEnable);
    b.time.run_for(1'000'000);
    CHECK(b.irq11.rises > 900);
    CHECK(b.irq11.rises <= 1001);
    b.write(kTimers + 2 * kTimerStride + kTimerComparator, 0);
    b.time.run_for(1'000'000);
    CHECK(b.irq11.rises <= 1003);
}
