#include <catch2/catch.hpp>

#include "devices/pit8254.h"
#include "tests/support/device_contract.h"
#include "tests/support/devices.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

constexpr VTime kSecond = 1'000'000'000;

struct Board {
    TestTime time;
    RecordingIrq irq;
    Pit8254 pit{time.events, irq};
    void program(unsigned channel, u8 mode, u16 count, u8 bcd = 0) {
        out8(pit, 3, static_cast<u8>(channel << 6 | 0x30u | u32{mode} << 1 | bcd));
        out8(pit, static_cast<u16>(channel), static_cast<u8>(count));
        out8(pit, static_cast<u16>(channel), static_cast<u8>(count >> 8));
    }
    u16 latch(unsigned channel) {
        out8(pit, 3, static_cast<u8>(channel << 6));
        const u8 low = in8(pit, static_cast<u16>(channel));
        return static_cast<u16>(in8(pit, static_cast<u16>(channel)) << 8 | low);
    }
    /// To `clocks` of the chip after the count was loaded, at time 0.
    void to_clock(u64 clocks) { time.run_to((clocks + 1) * kSecond / Pit8254::kHz + 1); }
};

}  // namespace

TEST_CASE("pit: keeps the device contract", "[devices][pit]") {
    std::vector<std::unique_ptr<TestTime>> times;
    RecordingIrq irq;
    check_device_contract<Pit8254>(
        [&] {
            times.push_back(std::make_unique<TestTime>());
            return std::make_unique<Pit8254>(times.back()->events, irq);
        },
        [](Pit8254& pit) {
            out8(pit, 3, 0x34);
            out8(pit, 0, 0xa9);
            out8(pit, 0, 0x04);
        },
        Pit8254::kPortCount);
    TestTime time;
    Pit8254 pit(time.events, irq);
    sweep_ports(pit.speaker_port(), 1);
    for (unsigned mode = 0; mode < 8; ++mode) {
        for (u8 count = 0; count < 4; ++count) {
            for (u16 channel = 0; channel < 3; ++channel) {
                out8(pit, 3, static_cast<u8>(u32{channel} << 6 | 0x10u | mode << 1));
                out8(pit, channel, count);
                out8(pit, channel, count);
                out8(pit.speaker_port(), 0, static_cast<u8>(mode & 1u));
                time.run_for(20'000);
                (void)in8(pit, channel);
                (void)in8(pit.speaker_port(), 0);
            }
        }
    }
}

TEST_CASE("pit: the timer tick of Linux comes at its rate", "[devices][pit]") {
    const u8 mode = GENERATE(u8{2}, u8{3});
    Board b;
    b.program(0, mode, 4772);  // HZ=250
    b.irq.rises = 0;
    b.time.run_to(10 * kSecond);
    CHECK(b.irq.rises == static_cast<int>(10 * Pit8254::kHz / 4772));
}

TEST_CASE("pit: mode 0 interrupts once on terminal count", "[devices][pit]") {
    Board b;
    b.program(0, 0, 1000);
    CHECK_FALSE(b.irq.high);
    b.to_clock(400);
    CHECK(b.latch(0) == 600);
    b.to_clock(998);
    CHECK_FALSE(b.irq.high);
    b.to_clock(1001);
    CHECK(b.irq.high);
    b.time.run_for(kSecond);
    CHECK(b.irq.rises == 1);
    b.program(0, 0, 10);
    CHECK_FALSE(b.irq.high);
}

TEST_CASE("pit: one-shot mode of Linux' clock event", "[devices][pit]") {
    Board b;
    b.program(0, 4, 0x1000);
    b.irq.rises = 0;
    b.time.run_for(kSecond);
    CHECK(b.irq.rises == 1);  // the strobe's end
    CHECK(b.time.events.next() == kNever);
}

TEST_CASE("pit: Linux calibrates the TSC with the gated counter", "[devices][pit]") {
    // arch/x86/kernel/tsc.c pit_calibrate_tsc: gate on, mode 0, wait for OUT2.
    Board b;
    out8(b.pit.speaker_port(), 0, static_cast<u8>((in8(b.pit.speaker_port(), 0) & ~0x02) | 0x01));
    out8(b.pit, 3, 0xb0);
    const u16 latch = static_cast<u16>(Pit8254::kHz / 20);  // 50 ms
    out8(b.pit, 2, latch & 0xff);
    out8(b.pit, 2, latch >> 8);
    VTime waited = 0;
    while ((in8(b.pit.speaker_port(), 0) & 0x20) == 0 && waited < kSecond) {
        b.time.run_for(1000);
        waited += 1000;
    }
    CHECK(waited >= 49'990'000);
    CHECK(waited <= 50'010'000);
}

TEST_CASE("pit: a closed gate stops counter 2 where it is", "[devices][pit]") {
    Board b;
    out8(b.pit.speaker_port(), 0, 1);
    b.program(2, 0, 50000);
    b.to_clock(1000);
    out8(b.pit.speaker_port(), 0, 0);
    const u16 stopped = b.latch(2);
    b.time.run_for(kSecond);
    CHECK(b.latch(2) == stopped);
    out8(b.pit.speaker_port(), 0, 1);
    CHECK(b.latch(2) == stopped);
    b.time.run_for(kSecond / 100);
    CHECK(stopped - b.latch(2) >= 11930);
}

TEST_CASE("pit: counts down, by two in mode 3, and in BCD", "[devices][pit]") {
    Board b;
    b.program(0, 2, 1000);
    b.to_clock(10);
    CHECK(b.latch(0) == 990);
    Board c;
    c.program(0, 3, 1000);
    c.to_clock(10);
    CHECK(c.latch(0) == 980);
    Board d;
    d.program(0, 2, 0x1000, 1);
    d.to_clock(10);
    CHECK(d.latch(0) == 0x0990);
}

TEST_CASE("pit: a new count waits for the end of the cycle", "[devices][pit]") {
    Board b;
    b.program(0, 2, 1000);
    b.to_clock(500);
    out8(b.pit, 0, 0xc8);
    out8(b.pit, 0, 0x00);
    CHECK(b.latch(0) == 500);
    b.to_clock(1050);
    CHECK(b.latch(0) == 150);
}

TEST_CASE("pit: a new count waits for the end of a later cycle, too", "[devices][pit]") {
    const auto channel = GENERATE(0u, 2u);
    Board b;
    if (channel == 2) out8(b.pit.speaker_port(), 0, 1);
    b.program(channel, 2, 1000);
    b.to_clock(5500);
    out8(b.pit, static_cast<u16>(channel), 0xc8);
    out8(b.pit, static_cast<u16>(channel), 0x00);
    CHECK(b.latch(channel) == 500);
    b.to_clock(5900);
    CHECK(b.latch(channel) == 100);
    b.to_clock(6050);
    CHECK(b.latch(channel) == 150);
    b.to_clock(6250);
    CHECK(b.latch(channel) == 150);
}

TEST_CASE("pit: a count that waits for the gate is a null count", "[devices][pit]") {
    Board b;
    b.program(2, 1, 1000);
    out8(b.pit, 3, 0xe8);
    CHECK((in8(b.pit, 2) & 0x40) != 0);
    out8(b.pit.speaker_port(), 0, 1);
    b.to_clock(2);
    out8(b.pit, 3, 0xe8);
    CHECK((in8(b.pit, 2) & 0x40) == 0);
}

TEST_CASE("pit: read-back latches status and count", "[devices][pit]") {
    Board b;
    b.program(0, 2, 1000);
    b.to_clock(100);
    out8(b.pit, 3, 0xc2);
    CHECK(in8(b.pit, 0) == 0xb4);
    b.time.run_for(kSecond / 10000);
    CHECK(in8(b.pit, 0) == (900 & 0xff));
    CHECK(in8(b.pit, 0) == 900 >> 8);
}
