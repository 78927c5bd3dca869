#include <catch2/catch.hpp>

#include "devices/cmos_rtc.h"
#include "tests/support/device_contract.h"
#include "tests/support/devices.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

constexpr s64 kStart = 1767225599;  // 2025-12-31 23:59:59 UTC, a Wednesday
constexpr VTime kSecond = 1'000'000'000;

struct Board {
    explicit Board(s64 start = kStart) : rtc(time.events, irq, start) {}
    TestTime time;
    RecordingIrq irq;
    CmosRtc rtc;
    u8 read(u8 index) {
        out8(rtc, 0, index);
        return in8(rtc, 1);
    }
    void write(u8 index, u8 value) {
        out8(rtc, 0, index);
        out8(rtc, 1, value);
    }
};

}  // namespace

TEST_CASE("rtc: keeps the device contract", "[devices][rtc]") {
    std::vector<std::unique_ptr<TestTime>> times;
    RecordingIrq irq;
    check_device_contract<CmosRtc>(
        [&] {
            times.push_back(std::make_unique<TestTime>());
            return std::make_unique<CmosRtc>(times.back()->events, irq, kStart);
        },
        [](CmosRtc& rtc) {
            out8(rtc, 0, 0x0b);
            out8(rtc, 1, 0x72);
            out8(rtc, 0, 0x40);
            out8(rtc, 1, 0x99);
            out8(rtc, 0, 0x04);
            out8(rtc, 1, 0x05);
        },
        2);
}

TEST_CASE("rtc: shows the configured start plus virtual time, in BCD", "[devices][rtc]") {
    Board b;
    CHECK(b.read(0x00) == 0x59);
    CHECK(b.read(0x02) == 0x59);
    CHECK(b.read(0x04) == 0x23);
    CHECK(b.read(0x06) == 4);
    CHECK(b.read(0x07) == 0x31);
    CHECK(b.read(0x08) == 0x12);
    CHECK(b.read(0x09) == 0x25);
    CHECK(b.read(0x32) == 0x20);
    b.time.run_for(kSecond);
    CHECK(b.read(0x00) == 0);
    CHECK(b.read(0x04) == 0);
    CHECK(b.read(0x06) == 5);
    CHECK(b.read(0x07) == 1);
    CHECK(b.read(0x08) == 1);
    CHECK(b.read(0x09) == 0x26);
    CHECK(b.read(0x0d) == 0x80);
}

TEST_CASE("rtc: binary and 12-hour formats", "[devices][rtc]") {
    Board b;
    b.write(0x0b, 0x06);
    CHECK(b.read(0x00) == 59);
    CHECK(b.read(0x04) == 23);
    CHECK(b.read(0x09) == 25);
    b.write(0x0b, 0x04);
    CHECK(b.read(0x04) == (11 | 0x80));
    b.write(0x0b, 0x00);
    CHECK(b.read(0x04) == (0x11 | 0x80));
    b.time.run_for(kSecond);
    CHECK(b.read(0x04) == 0x12);  // midnight is 12 AM
    b.time.run_for(12 * 3600 * kSecond);
    CHECK(b.read(0x04) == (0x12 | 0x80));
}

TEST_CASE("rtc: known dates", "[devices][rtc]") {
    struct Row {
        s64 unix_seconds;
        u8 century, year, month, day, weekday, hour;
    };
    const Row row = GENERATE(Row{0, 0x19, 0x70, 1, 1, 5, 0}, Row{951782400, 0x20, 0x00, 2, 0x29, 3, 0},
                             Row{4107542400, 0x21, 0x00, 3, 0x01, 2, 0}, Row{-86400, 0x19, 0x69, 0x12, 0x31, 4, 0},
                             Row{1709208000, 0x20, 0x24, 2, 0x29, 5, 0x12});
    Board b(row.unix_seconds);
    CHECK(b.read(0x32) == row.century);
    CHECK(b.read(0x09) == row.year);
    CHECK(b.read(0x08) == row.month);
    CHECK(b.read(0x07) == row.day);
    CHECK(b.read(0x06) == row.weekday);
    CHECK(b.read(0x04) == row.hour);
}

TEST_CASE("rtc: UIP covers the end of every second, at the same moments in every run", "[devices][rtc]") {
    Board b;
    CHECK((b.read(0x0a) & 0x80) == 0);
    b.time.run_to(kSecond - 2'228'001);
    CHECK((b.read(0x0a) & 0x80) == 0);
    b.time.run_to(kSecond - 2'228'000);
    CHECK((b.read(0x0a) & 0x80) != 0);
    b.time.run_to(kSecond - 1);
    CHECK((b.read(0x0a) & 0x80) != 0);
    b.time.run_to(kSecond);
    CHECK((b.read(0x0a) & 0x80) == 0);
}

TEST_CASE("rtc: setting the time as Linux does", "[devices][rtc]") {
    // drivers/rtc/rtc-mc146818-lib.c: SET, divider reset, registers, restore.
    Board b;
    const u8 control = b.read(0x0b);
    b.write(0x0b, control | 0x80);
    const u8 select = b.read(0x0a);
    b.write(0x0a, select | 0x70);
    b.write(0x09, 0x30);
    b.write(0x08, 0x06);
    b.write(0x07, 0x15);
    b.write(0x04, 0x10);
    b.write(0x02, 0x20);
    b.write(0x00, 0x30);
    b.write(0x32, 0x20);
    b.time.run_for(5 * kSecond);
    CHECK(b.read(0x00) == 0x30);
    b.write(0x0b, control);
    b.time.run_for(5 * kSecond);
    CHECK(b.read(0x00) == 0x30);
    b.write(0x0a, select);
    b.time.run_for(kSecond / 2 - 1);
    CHECK(b.read(0x00) == 0x30);
    b.time.run_for(1);
    CHECK(b.read(0x00) == 0x31);
    CHECK(b.read(0x07) == 0x15);
    CHECK(b.read(0x09) == 0x30);
    b.time.run_for(24 * 3600 * kSecond);
    CHECK(b.read(0x07) == 0x16);
}

TEST_CASE("rtc: a time register written while running keeps the rest", "[devices][rtc]") {
    Board b(1767225600);
    b.write(0x04, 0x07);
    CHECK(b.read(0x04) == 0x07);
    b.time.run_for(61 * kSecond);
    CHECK(b.read(0x02) == 1);
    CHECK(b.read(0x00) == 1);
}

TEST_CASE("rtc: the update interrupt comes once a second until read", "[devices][rtc]") {
    Board b(1767268800);  // noon: the alarm at 00:00:00 stays out of the way
    b.write(0x0b, 0x12);
    CHECK_FALSE(b.irq.high);
    b.time.run_to(kSecond);
    CHECK(b.irq.high);
    b.time.run_to(5 * kSecond);
    CHECK(b.irq.rises == 1);
    CHECK(b.read(0x0c) == 0xd0);  // the periodic flag is set whether enabled or not
    CHECK_FALSE(b.irq.high);
    CHECK(b.read(0x0c) == 0);
    b.time.run_to(6 * kSecond);
    CHECK(b.irq.rises == 2);
    b.write(0x0b, 0x92);
    CHECK((b.read(0x0b) & 0x10) == 0);  // SET clears UIE
}

TEST_CASE("rtc: periodic interrupts do not drift", "[devices][rtc]") {
    Board b;
    b.write(0x0a, 0x26);
    b.write(0x0b, 0x42);
    int ticks = 0;
    while (true) {
        const VTime next = b.time.events.next();
        REQUIRE(next != kNever);
        if (next > 10 * kSecond) break;
        b.time.run_to(next);
        REQUIRE(b.irq.high);
        REQUIRE((b.read(0x0c) & 0xc0) == 0xc0);
        ++ticks;
    }
    CHECK(ticks == 10240);
    b.write(0x0a, 0x20);
    CHECK(b.time.events.next() == kNever);
}

TEST_CASE("rtc: every periodic rate has its frequency", "[devices][rtc]") {
    const u8 rate = static_cast<u8>(GENERATE(range(1, 16)));
    Board b;
    b.write(0x0a, 0x20 | rate);
    b.write(0x0b, 0x42);
    const int expected = rate == 1 ? 256 : rate == 2 ? 128 : 32768 >> (rate - 1);
    int ticks = 0;
    for (VTime next = b.time.events.next(); next <= kSecond; next = b.time.events.next()) {
        b.time.run_to(next);
        (void)b.read(0x0c);
        ++ticks;
    }
    CHECK(ticks == expected);
}

TEST_CASE("rtc: the alarm fires at its time and honours don't-care bytes", "[devices][rtc]") {
    Board b(1767225600);
    b.write(0x05, 0x01);
    b.write(0x03, 0x02);
    b.write(0x01, 0x03);
    b.write(0x0b, 0x22);
    b.time.run_to((3600 + 123) * kSecond - 1);
    CHECK_FALSE(b.irq.high);
    b.time.run_for(1);
    CHECK(b.irq.high);
    CHECK((b.read(0x0c) & 0xa0) == 0xa0);
    b.write(0x05, 0xff);
    b.time.run_for(3600 * kSecond - 1);
    CHECK_FALSE(b.irq.high);
    b.time.run_for(1);
    CHECK(b.irq.high);
    (void)b.read(0x0c);
    b.write(0x01, 0x77);
    CHECK(b.time.events.next() == kNever);
}

TEST_CASE("rtc: flags are set without interrupts being enabled", "[devices][rtc]") {
    Board b(1767268800);
    b.time.run_for(2 * kSecond);
    CHECK(b.read(0x0c) == 0x50);
    b.time.run_for(1);
    CHECK(b.read(0x0c) == 0);
}

TEST_CASE("rtc: memory bytes are kept and settable by the board", "[devices][rtc]") {
    Board b;
    b.rtc.set_nvram(0x5b, 0x7e);
    CHECK(b.read(0x5b) == 0x7e);
    b.write(0x7f, 0x12);
    CHECK(b.rtc.nvram(0x7f) == 0x12);
    b.write(0x80 | 0x7f, 0x34);  // bit 7 is the NMI mask
    CHECK(b.read(0x7f) == 0x34);
}
