#include <catch2/catch.hpp>

#include <string>

#include "devices/uart16550.h"
#include "tests/support/device_contract.h"
#include "tests/support/devices.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

struct Port {
    RecordingIrq irq;
    std::string sent;
    Uart16550 uart{"com1", irq, [this](u8 byte) { sent.push_back(static_cast<char>(byte)); }};
    u8 in(u16 reg) { return in8(uart, reg); }
    void out(u16 reg, u8 value) { out8(uart, reg, value); }
    void receive(std::string_view text) { uart.receive({reinterpret_cast<const u8*>(text.data()), text.size()}); }
};

}  // namespace

TEST_CASE("uart: keeps the device contract", "[devices][uart]") {
    RecordingIrq irq;
    check_device_contract<Uart16550>([&] { return std::make_unique<Uart16550>("com1", irq, nullptr); },
                                     [](Uart16550& uart) {
                                         out8(uart, 2, 0x81);
                                         out8(uart, 3, 0x03);
                                         out8(uart, 1, 0x0f);
                                         out8(uart, 4, 0x0b);
                                         uart.receive(std::vector<u8>(40, 'x'));
                                     },
                                     8);
}

TEST_CASE("uart: the Linux 8250 driver detects a 16550A", "[devices][uart]") {
    // The probes of drivers/tty/serial/8250: interrupt enable, loopback, FIFO, and the tests for other chips.
    Port p;
    p.out(1, 0);
    CHECK((p.in(1) & 0x0f) == 0);
    p.out(1, 0x0f);
    CHECK((p.in(1) & 0x0f) == 0x0f);
    p.out(1, 0);
    p.out(4, 0x10 | 0x0a);
    CHECK((p.in(6) & 0xf0) == 0x90);
    p.out(4, 0);
    p.out(3, 0xbf);
    p.out(2, 0);
    p.out(3, 0);
    p.out(2, 0x01);
    CHECK((p.in(2) & 0xc0) == 0xc0);
    p.out(3, 0x80);
    CHECK(p.in(2) != 0);  // an enhanced feature register would read zero
    p.out(3, 0);
    p.out(2, 0x01 | 0x20);
    CHECK((p.in(2) & 0xe0) == 0xc0);  // a 16750 would show its 64-byte FIFO
    p.out(1, 0x40);
    CHECK((p.in(1) & 0x40) == 0);  // an XScale port would keep UUE
    p.out(7, 0x5a);
    CHECK(p.in(7) == 0x5a);
}

TEST_CASE("uart: enabling the THRE interrupt raises it every time", "[devices][uart]") {
    Port p;
    p.out(4, 0x08);
    for (int i = 0; i < 2; ++i) {
        p.out(1, 0x02);
        CHECK(p.irq.high);
        CHECK(p.in(2) == 0x02);
        CHECK_FALSE(p.irq.high);
        CHECK(p.in(2) == 0x01);
        p.out(1, 0);
    }
}

TEST_CASE("uart: a sent byte leaves at once and THRE is raised again", "[devices][uart]") {
    Port p;
    p.out(4, 0x08);
    p.out(1, 0x02);
    (void)p.in(2);
    for (const char c : std::string("hello")) {
        CHECK((p.in(5) & 0x60) == 0x60);
        p.out(0, static_cast<u8>(c));
        CHECK(p.in(2) == 0x02);
    }
    CHECK(p.sent == "hello");
}

TEST_CASE("uart: received bytes come in order through the FIFO", "[devices][uart]") {
    Port p;
    p.out(2, 0xc7);  // FIFO on, trigger at 14
    p.out(4, 0x08);
    p.out(1, 0x01);
    p.receive("abc");
    CHECK(p.irq.high);
    CHECK(p.in(2) == 0xcc);  // below the trigger level: character timeout
    std::string text = "0123456789abcdefghijklmnopqrstuvwxyz";
    p.receive(text);
    std::string got;
    while ((p.in(5) & 1) != 0) got.push_back(static_cast<char>(p.in(0)));
    CHECK(got == "abc" + text);
    CHECK_FALSE(p.irq.high);
    CHECK(p.in(2) == 0xc1);
    CHECK(p.uart.drained());
}

TEST_CASE("uart: at the trigger level the cause is received data", "[devices][uart]") {
    Port p;
    p.out(2, 0x41);  // trigger at 4
    p.out(1, 0x01);
    p.receive("abcde");
    CHECK(p.in(2) == 0xc4);
    (void)p.in(0);
    CHECK(p.in(2) == 0xc4);
    (void)p.in(0);
    CHECK(p.in(2) == 0xcc);
}

TEST_CASE("uart: OUT2 gates the interrupt pin", "[devices][uart]") {
    Port p;
    p.out(1, 0x01);
    p.receive("x");
    CHECK_FALSE(p.irq.high);
    p.out(4, 0x08);
    CHECK(p.irq.high);
    p.out(4, 0x18);
    CHECK_FALSE(p.irq.high);
}

TEST_CASE("uart: loopback receives what is sent and overruns at 16", "[devices][uart]") {
    Port p;
    p.out(2, 0x01);
    p.out(4, 0x10);
    for (u8 i = 0; i < 16; ++i) p.out(0, i);
    CHECK((p.in(5) & 0x03) == 0x01);
    p.out(0, 99);
    p.out(1, 0x04);
    CHECK((p.in(2) & 0x0f) == 0x06);
    CHECK((p.in(5) & 0x03) == 0x03);
    CHECK((p.in(5) & 0x02) == 0);
    for (u8 i = 0; i < 16; ++i) CHECK(p.in(0) == i);
    CHECK(p.sent.empty());
}

TEST_CASE("uart: modem changes are reported once", "[devices][uart]") {
    Port p;
    p.out(4, 0x10);
    CHECK((p.in(6) & 0x0f) == 0x0b);  // DCD, DSR, CTS went away; no ring ended
    CHECK((p.in(6) & 0x0f) == 0);
    p.out(4, 0x14);
    CHECK(p.in(6) == 0x40);
    p.out(4, 0x10);
    CHECK(p.in(6) == 0x04);
}

TEST_CASE("uart: the divisor latch hides data and interrupt enable", "[devices][uart]") {
    Port p;
    p.out(1, 0x05);
    p.out(3, 0x83);
    p.out(0, 0x0c);
    p.out(1, 0x01);
    CHECK(p.in(0) == 0x0c);
    CHECK(p.in(1) == 0x01);
    p.out(3, 0x03);
    CHECK(p.in(1) == 0x05);
    CHECK(p.sent.empty());
}

TEST_CASE("uart: the input queue is bounded", "[devices][uart]") {
    Port p;
    const std::vector<u8> flood(100000, 'x');
    CHECK(p.uart.receive(flood) == Uart16550::kMaxQueued);
    CHECK(p.uart.receive(flood) == 1);  // the first byte moved on into the receiver
    CHECK(p.uart.receive(flood) == 0);
}
