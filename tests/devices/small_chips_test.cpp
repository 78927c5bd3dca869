#include <catch2/catch.hpp>

#include <string>

#include "devices/coprocessor_error.h"
#include "devices/fw_cfg.h"
#include "devices/i8042.h"
#include "devices/system_ports.h"
#include "devices/test_device.h"
#include "tests/support/device_contract.h"
#include "tests/support/devices.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

TEST_CASE("test device: keeps the device contract", "[devices][test_device]") {
    RecordingIrq irq;
    check_device_contract<TestDevice>(
        [&] { return std::make_unique<TestDevice>(std::vector<IrqLine*>(24, &irq), nullptr); },
        [](TestDevice& device) {
            (void)device.latch_ports().port_write(0, 4, 0x1234);
            device.mmio_write(0x100, 8, 0x1122334455667788);
        },
        0, TestDevice::kMmioSize);
    TestDevice device(std::vector<IrqLine*>(24, &irq), nullptr);
    sweep_ports(device.latch_ports(), TestDevice::kLatchPortCount);
    sweep_ports(device.line_ports(), 24);
}

TEST_CASE("test device: the latch has byte lanes and an alias", "[devices][test_device]") {
    u32 flushed = 0;
    RecordingIrq irq;
    TestDevice device({&irq}, [&](u32 address) { flushed = address; });
    PortIo& ports = device.latch_ports();
    CHECK(ports.port_write(0, 4, 0x44332211) == IoStatus::Ok);
    CHECK(in8(ports, 2) == 0x33);
    CHECK(in8(ports, 8 + 3) == 0x44);
    CHECK(ports.port_write(2, 2, 0xbbaa) == IoStatus::Ok);
    u32 value = 0;
    CHECK(ports.port_read(8, 4, value) == IoStatus::Ok);
    CHECK(value == 0xbbaa2211);
    CHECK(ports.port_write(4, 4, 0xdeadb000) == IoStatus::Ok);
    CHECK(flushed == 0xdeadb000);
    out8(device.line_ports(), 0, 1);
    CHECK(irq.high);
    out8(device.line_ports(), 0, 0);
    CHECK_FALSE(irq.high);
    CHECK(device.line_ports().port_write(1, 1, 1) == IoStatus::NoRegister);
}

TEST_CASE("fw_cfg: reads as kvm-unit-tests and SeaBIOS do", "[devices][fw_cfg]") {
    FwCfg chip;
    chip.set_number(FwCfg::kCpuCount, 4, 2);
    chip.set_number(FwCfg::kRamSize, u64{3} << 30, 8);
    chip.add_file("etc/e820", {1, 2, 3, 4, 5});
    chip.add_file("bootorder", {9});
    const auto read = [&](u16 key, unsigned count) {
        (void)chip.port_write(0, 2, key);
        std::vector<u8> out;
        for (unsigned i = 0; i < count; ++i) out.push_back(in8(chip, 1));
        return out;
    };
    CHECK(read(0, 4) == std::vector<u8>{'Q', 'E', 'M', 'U'});
    CHECK(read(1, 4) == std::vector<u8>{1, 0, 0, 0});
    CHECK(read(5, 3) == std::vector<u8>{4, 0, 0});
    CHECK(read(3, 8) == std::vector<u8>{0, 0, 0, 0xc0, 0, 0, 0, 0});
    CHECK(read(0x11, 8) == std::vector<u8>(8, 0));
    const std::vector<u8> directory = read(0x19, 4 + 2 * 64);
    CHECK(directory[3] == 2);
    CHECK(std::string(reinterpret_cast<const char*>(&directory[12])) == "bootorder");
    CHECK(std::string(reinterpret_cast<const char*>(&directory[76])) == "etc/e820");
    CHECK(directory[68 + 3] == 5);
    const u16 key = static_cast<u16>(directory[72] << 8 | directory[73]);
    CHECK(read(key, 6) == std::vector<u8>{1, 2, 3, 4, 5, 0});
    check_device_contract<FwCfg>([] { return std::make_unique<FwCfg>(); },
                                 [](FwCfg& f) { (void)f.port_write(0, 2, 5); }, FwCfg::kPortCount);
}

TEST_CASE("system ports: POST code and port 92", "[devices][ports]") {
    check_device_contract<PostPort>([] { return std::make_unique<PostPort>(); }, [](PostPort& p) { out8(p, 0, 0x42); },
                                    1);
    int resets = 0;
    std::vector<bool> gate;
    SystemControlPort port([&] { ++resets; }, [&](bool open) { gate.push_back(open); });
    CHECK(in8(port, 0) == 0x02);
    out8(port, 0, 0x00);
    out8(port, 0, 0x02);
    CHECK(gate == std::vector<bool>{false, true});
    out8(port, 0, 0x03);
    out8(port, 0, 0x03);
    CHECK(resets == 1);
    check_device_contract<SystemControlPort>([] { return std::make_unique<SystemControlPort>(nullptr, nullptr); },
                                             [](SystemControlPort& p) { out8(p, 0, 0); }, 1);
}

namespace {

struct Keyboard {
    RecordingIrq irq1, irq12;
    int resets = 0;
    bool a20 = true;
    I8042 chip{irq1, irq12, {[this] { ++resets; }, [this](bool open) { a20 = open; }}};
    void command(u8 value) { out8(chip.command_port(), 0, value); }
    void data(u8 value) { out8(chip.data_port(), 0, value); }
    u8 status() { return in8(chip.command_port(), 0); }
    u8 read() { return in8(chip.data_port(), 0); }
};

}  // namespace

TEST_CASE("i8042: keeps the device contract", "[devices][i8042]") {
    RecordingIrq irq;
    check_device_contract<I8042>([&] { return std::make_unique<I8042>(irq, irq, I8042::Callbacks{}); },
                                 [](I8042& chip) {
                                     out8(chip.command_port(), 0, 0x60);
                                     out8(chip.data_port(), 0, 0x47);
                                 });
    I8042 chip(irq, irq, {});
    sweep_ports(chip.data_port(), 1);
    sweep_ports(chip.command_port(), 1);
}

TEST_CASE("i8042: Linux finds a controller and no devices", "[devices][i8042]") {
    // drivers/input/serio/i8042.c: flush, self test, command byte, auxiliary loop.
    Keyboard k;
    CHECK((k.status() & 0x01) == 0);
    k.command(0xaa);
    CHECK((k.status() & 0x01) != 0);
    CHECK(k.read() == 0x55);
    k.command(0x60);
    k.data(0x43);
    k.command(0x20);
    CHECK(k.read() == 0x43);
    k.command(0xd3);
    k.data(0x5a);
    CHECK((k.status() & 0x21) == 0x21);
    CHECK(k.irq12.high);
    CHECK(k.read() == 0x5a);
    CHECK_FALSE(k.irq12.high);
    k.data(0xf2);  // identify keyboard
    CHECK((k.status() & 0x61) == 0x41);
    CHECK(k.irq1.high);
    CHECK(k.read() == 0xfe);
    k.command(0xd4);
    k.data(0xf2);
    CHECK((k.status() & 0x61) == 0x61);
    CHECK(k.read() == 0xfe);
    CHECK((k.status() & 0x61) == 0);
}

TEST_CASE("i8042: reset and A20", "[devices][i8042]") {
    Keyboard k;
    k.command(0xfe);
    CHECK(k.resets == 1);
    k.command(0xff);
    CHECK(k.resets == 1);
    k.command(0xd1);
    k.data(0x01);
    CHECK_FALSE(k.a20);
    k.command(0xd1);
    k.data(0x02);
    CHECK(k.a20);
    CHECK(k.resets == 2);
    k.command(0xd0);
    CHECK(k.read() == 0x03);
}

TEST_CASE("coprocessor error: FERR# interrupts, port 0xF0 asserts IGNNE# until the error is gone", "[devices]") {
    RecordingIrq irq;
    check_device_contract<CoprocessorError>([&] { return std::make_unique<CoprocessorError>(irq); },
                                            [](CoprocessorError& chip) {
                                                chip.set_error(true);
                                                out8(chip, 0, 0);
                                            },
                                            1);
    CoprocessorError chip(irq);
    out8(chip, 0, 0);
    CHECK_FALSE(chip.ignored());  // without an error the write does nothing
    chip.set_error(true);
    CHECK(irq.high);
    CHECK_FALSE(chip.ignored());
    out8(chip, 0, 0);
    CHECK_FALSE(irq.high);
    CHECK(chip.ignored());
    chip.set_error(true);  // the same error, met again
    CHECK_FALSE(irq.high);
    chip.set_error(false);
    CHECK_FALSE(chip.ignored());
    chip.set_error(true);
    CHECK(irq.high);
}
