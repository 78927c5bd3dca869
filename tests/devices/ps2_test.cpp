#include <catch2/catch.hpp>

#include "devices/i8042.h"
#include "tests/support/device_contract.h"
#include "tests/support/devices.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

struct Board {
    RecordingIrq irq1, irq12;
    Ps2Keyboard keyboard;
    Ps2Mouse mouse;
    I8042 chip{irq1, irq12, {}, &keyboard, &mouse};
    u8 status() { return in8(chip.command_port(), 0); }
    u8 data() { return in8(chip.data_port(), 0); }
    void command(u8 value) { out8(chip.command_port(), 0, value); }
    void command(u8 value, u8 argument) {
        command(value);
        out8(chip.data_port(), 0, argument);
    }
    void to_keyboard(u8 value) { out8(chip.data_port(), 0, value); }
    void to_mouse(u8 value) { command(0xd4, value); }
    /// All bytes that come.
    std::vector<u8> drain() {
        std::vector<u8> bytes;
        while ((status() & 1) != 0) bytes.push_back(data());
        return bytes;
    }
    using Bytes = std::vector<u8>;
};

struct Plugged final : Device {
    Board board;
    [[nodiscard]] std::string_view name() const override { return "i8042"; }
    void reset() override { board.chip.reset(); }
    void fields(StateVisitor& v) override { board.chip.fields(v); }
};

}  // namespace

TEST_CASE("ps2: controller, keyboard and mouse keep the device contract", "[devices][ps2]") {
    check_device_contract<Plugged>([] { return std::make_unique<Plugged>(); },
                                   [](Plugged& p) {
                                       p.board.command(0x60, 0x03);
                                       p.board.keyboard.key(0x1e, true, false);
                                       p.board.to_mouse(0xf3);
                                   });
    Board b;
    sweep_ports(b.chip.data_port(), 1);
    sweep_ports(b.chip.command_port(), 1);
}

TEST_CASE("ps2: a driver finds a keyboard of set 2 and a wheel mouse", "[devices][ps2]") {
    Board b;
    b.command(0x60, 0x03);
    b.to_keyboard(0xff);
    CHECK(b.drain() == Board::Bytes{0xfa, 0xaa});
    b.to_keyboard(0xf2);
    CHECK(b.drain() == Board::Bytes{0xfa, 0xab, 0x83});
    b.to_keyboard(0xed);
    b.to_keyboard(0x05);
    CHECK(b.drain() == Board::Bytes{0xfa, 0xfa});
    CHECK(b.keyboard.leds() == 5);
    b.to_keyboard(0xee);
    CHECK(b.drain() == Board::Bytes{0xee});
    b.to_keyboard(0x99);
    CHECK(b.drain() == Board::Bytes{0xfe});

    b.to_mouse(0xff);
    CHECK((b.status() & 0x21) == 0x21);
    CHECK(b.irq12.high);
    CHECK(b.drain() == Board::Bytes{0xfa, 0xaa, 0x00});
    for (const u8 rate : {u8{200}, u8{100}, u8{80}}) {
        b.to_mouse(0xf3);
        (void)b.drain();
        b.to_mouse(rate);
        (void)b.drain();
    }
    b.to_mouse(0xf2);
    CHECK(b.drain() == Board::Bytes{0xfa, 0x03});
    b.to_mouse(0xe9);
    CHECK(b.drain() == Board::Bytes{0xfa, 0x00, 2, 80});
}

TEST_CASE("ps2: keys come as set 2, or translated to set 1", "[devices][ps2]") {
    Board b;
    b.command(0x60, 0x03);
    b.keyboard.key(0x1e, false, true);
    b.keyboard.key(0x1e, false, false);
    CHECK(b.irq1.high);
    CHECK(b.drain() == Board::Bytes{0x1c, 0xf0, 0x1c});
    CHECK_FALSE(b.irq1.high);
    CHECK(b.irq1.rises == 3);
    b.command(0x60, 0x43);
    b.keyboard.key(0x1e, false, true);
    b.keyboard.key(0x1e, false, false);
    b.keyboard.key(0x48, true, false);
    CHECK(b.drain() == Board::Bytes{0x1e, 0x9e, 0xe0, 0xc8});
    // Every key survives the way to set 2 and back.
    for (u8 code = 1; code < 0x59; ++code) {
        if (code == 0x54 || code == 0x55 || code == 0x56) continue;
        b.keyboard.key(code, false, true);
        CHECK(b.drain() == Board::Bytes{code});
    }
    b.to_keyboard(0xf5);
    (void)b.drain();
    b.keyboard.key(0x1e, false, true);
    CHECK(b.drain().empty());
}

TEST_CASE("ps2: a disabled port holds its bytes back; a full buffer drops", "[devices][ps2]") {
    Board b;
    b.command(0xad);
    b.keyboard.key(0x1e, false, true);
    CHECK(b.drain().empty());
    b.command(0xae);
    CHECK(b.drain() == Board::Bytes{0x1c});
    for (int i = 0; i < 100; ++i) b.keyboard.key(0x1e, false, true);
    CHECK(b.drain().size() <= Ps2Device::kCapacity + 1);
}

TEST_CASE("ps2: the mouse reports movement in nine bits while it is enabled", "[devices][ps2]") {
    Board b;
    b.mouse.move(5, 5, 0, 1);
    CHECK(b.drain().empty());
    b.to_mouse(0xf4);
    (void)b.drain();
    b.mouse.move(5, -3, 0, 1);
    CHECK(b.drain() == Board::Bytes{0x29, 5, 0xfd});
    b.mouse.move(-1000, 300, 0, 2);
    CHECK(b.drain() == Board::Bytes{0xda, 0x01, 0xff});
}
