#include <catch2/catch.hpp>

#include <vector>

#include "devices/acpi_pm.h"
#include "devices/debug_exit.h"
#include "devices/reset_control.h"
#include "tests/support/device_contract.h"
#include "tests/support/devices.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

struct Board {
    TestTime time;
    RecordingIrq sci;
    std::vector<u8> sleeps;
    AcpiPm pm{time.events, sci, [this](u8 type) { sleeps.push_back(type); }};
    u32 in(u16 offset, unsigned size) {
        u32 value = 0;
        REQUIRE(pm.port_read(offset, size, value) == IoStatus::Ok);
        return value;
    }
    void out(u16 offset, unsigned size, u32 value) { REQUIRE(pm.port_write(offset, size, value) == IoStatus::Ok); }
};

}  // namespace

TEST_CASE("acpi pm: keeps the device contract", "[devices][acpi]") {
    std::vector<std::unique_ptr<TestTime>> times;
    RecordingIrq sci;
    check_device_contract<AcpiPm>(
        [&] {
            times.push_back(std::make_unique<TestTime>());
            return std::make_unique<AcpiPm>(times.back()->events, sci, nullptr);
        },
        [](AcpiPm& pm) {
            (void)pm.port_write(2, 2, 0x0121);
            pm.press_power_button();
        },
        AcpiPm::kPortCount);
}

TEST_CASE("acpi pm: the timer runs at 3.579545 MHz of virtual time", "[devices][acpi]") {
    Board b;
    CHECK(b.in(8, 4) == 0);
    b.time.run_to(1'000'000'000);
    CHECK(b.in(8, 4) == 3'579'545);
    CHECK(b.in(8, 2) == (3'579'545 & 0xffff));
    CHECK(b.in(11, 1) == 0);
    b.out(8, 4, 0);
    CHECK(b.in(8, 4) == 3'579'545);
    b.time.run_to(u64{1200} * 1'000'000'000);
    CHECK(b.in(8, 4) == static_cast<u32>(u64{1200} * 3'579'545));
}

TEST_CASE("acpi pm: timer status follows the top bit", "[devices][acpi]") {
    Board b;
    b.out(2, 2, 1);
    const VTime half = b.time.events.next();
    b.time.run_to(half - 1);
    CHECK_FALSE(b.sci.high);
    CHECK((b.in(8, 4) >> 31) == 0);
    b.time.run_to(half);
    CHECK(b.sci.high);
    CHECK((b.in(8, 4) >> 31) == 1);
    CHECK(b.in(0, 2) == 1);
    b.out(0, 2, 1);
    CHECK_FALSE(b.sci.high);
    b.time.run_to(2 * half);
    CHECK(b.sci.high);
}

TEST_CASE("acpi pm: the power button raises SCI until its status is cleared", "[devices][acpi]") {
    Board b;
    b.pm.press_power_button();
    CHECK_FALSE(b.sci.high);
    b.out(2, 2, 0x100);
    CHECK(b.sci.high);
    b.out(0, 2, 0x100);
    CHECK_FALSE(b.sci.high);
}

TEST_CASE("acpi pm: SLP_EN reports the sleep type, in one or two steps", "[devices][acpi]") {
    Board b;
    b.out(4, 2, (5 << 10) | 1);
    CHECK(b.sleeps.empty());
    b.out(4, 2, (5 << 10) | 0x2000 | 1);
    CHECK(b.sleeps == std::vector<u8>{5});
    CHECK(b.in(4, 2) == ((5 << 10) | 1));  // SLP_EN reads as zero
    b.out(5, 1, 0x20 | (3 << 2));
    CHECK(b.sleeps == std::vector<u8>{5, 3});
}

TEST_CASE("acpi pm: refuses what is not there", "[devices][acpi]") {
    Board b;
    u32 value = 0;
    CHECK(b.pm.port_read(1, 2, value) == IoStatus::Unaligned);
    CHECK(b.pm.port_read(12, 1, value) == IoStatus::NoRegister);
    CHECK(b.pm.port_write(12, 4, 0) == IoStatus::NoRegister);
}

TEST_CASE("reset control: bit 2 rising resets, bit 1 says which", "[devices][reset]") {
    std::vector<bool> resets;
    ResetControl chip([&](bool hard) { resets.push_back(hard); });
    out8(chip, 0, 0x02);
    CHECK(resets.empty());
    out8(chip, 0, 0x06);
    CHECK(resets == std::vector<bool>{true});
    out8(chip, 0, 0x06);
    CHECK(resets.size() == 1);
    out8(chip, 0, 0x00);
    out8(chip, 0, 0x04);
    CHECK(resets == std::vector<bool>{true, false});
    check_device_contract<ResetControl>([] { return std::make_unique<ResetControl>(nullptr); },
                                        [](ResetControl& reset) { out8(reset, 0, 2); }, 1);
}

TEST_CASE("debug exit: hands on the raw value", "[devices][debug_exit]") {
    std::vector<u32> values;
    DebugExit chip([&](u32 value) { values.push_back(value); });
    CHECK(chip.port_write(0, 4, 0x12345678) == IoStatus::Ok);
    CHECK(chip.port_write(0, 1, 1) == IoStatus::Ok);
    CHECK(values == std::vector<u32>{0x12345678, 1});
    check_device_contract<DebugExit>([] { return std::make_unique<DebugExit>(nullptr); },
                                     [](DebugExit& exit) { out8(exit, 0, 2); }, DebugExit::kPortCount);
}
