#include <catch2/catch.hpp>

#include "devices/ioapic.h"
#include "tests/support/device_contract.h"
#include "tests/support/devices.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

struct Board {
    RecordingSink sink;
    Ioapic chip{sink};
    u32 read(u8 index) {
        chip.mmio_write(0, 4, index);
        return static_cast<u32>(chip.mmio_read(0x10, 4));
    }
    void write(u8 index, u32 value) {
        chip.mmio_write(0, 4, index);
        chip.mmio_write(0x10, 4, value);
    }
    void entry(u8 pin, u64 value) {
        write(static_cast<u8>(0x11 + pin * 2), static_cast<u32>(value >> 32));
        write(static_cast<u8>(0x10 + pin * 2), static_cast<u32>(value));
    }
    bool remote_irr(u8 pin) { return (read(static_cast<u8>(0x10 + pin * 2)) & (1u << 14)) != 0; }
};

constexpr u64 kLevel = 1u << 15, kMasked = 1u << 16, kLogical = 1u << 11;

}  // namespace

TEST_CASE("ioapic: keeps the device contract", "[devices][ioapic]") {
    RecordingSink sink;
    check_device_contract<Ioapic>([&] { return std::make_unique<Ioapic>(sink); },
                                  [](Ioapic& chip) {
                                      chip.mmio_write(0, 4, 0x12);
                                      chip.mmio_write(0x10, 4, 0x8031);
                                      chip.line(1).set(true);
                                  },
                                  0, Ioapic::kSize);
}

TEST_CASE("ioapic: identifies itself", "[devices][ioapic]") {
    Board b;
    CHECK(b.read(1) == 0x00170020);
    b.write(0, 0x0f000000);
    CHECK(b.read(0) == 0x0f000000);
    CHECK(b.read(2) == 0x0f000000);
    CHECK(b.read(0x10) == 0x10000);
    CHECK(b.read(0x3f) == 0);
    CHECK(b.read(0x40) == 0);
    CHECK(b.read(0xff) == 0);
}

TEST_CASE("ioapic: an edge sends one message and holds nothing while masked", "[devices][ioapic]") {
    Board b;
    b.entry(4, (u64{3} << 56) | 0x31);
    b.chip.line(4).set(true);
    REQUIRE(b.sink.sent.size() == 1);
    CHECK(b.sink.sent[0].first == 0xfee03000);
    CHECK(b.sink.sent[0].second == 0x31);
    b.chip.line(4).set(true);
    CHECK(b.sink.sent.size() == 1);
    b.chip.line(4).set(false);
    b.entry(4, 0x31 | kMasked);
    b.chip.line(4).pulse();
    b.entry(4, 0x31);
    CHECK(b.sink.sent.size() == 1);
    b.chip.line(4).pulse();
    CHECK(b.sink.sent.size() == 2);
    CHECK_FALSE(b.remote_irr(4));
}

TEST_CASE("ioapic: a level fires again after EOI while it is asserted", "[devices][ioapic]") {
    Board b;
    b.entry(9, kLevel | kLogical | 0x41 | (u64{0x81} << 56));
    b.chip.line(9).set(true);
    REQUIRE(b.sink.sent.size() == 1);
    CHECK(b.sink.sent[0].first == 0xfee81004);
    CHECK(b.sink.sent[0].second == (0x41 | 0xc000));
    CHECK(b.remote_irr(9));
    b.chip.line(9).set(false);
    b.chip.line(9).set(true);
    CHECK(b.sink.sent.size() == 1);
    b.chip.eoi(0x40);
    CHECK(b.sink.sent.size() == 1);
    b.chip.eoi(0x41);
    CHECK(b.sink.sent.size() == 2);
    b.chip.line(9).set(false);
    b.chip.eoi(0x41);
    CHECK(b.sink.sent.size() == 2);
    CHECK_FALSE(b.remote_irr(9));
}

TEST_CASE("ioapic: a masked level waits and fires when unmasked", "[devices][ioapic]") {
    Board b;
    b.entry(9, kLevel | kMasked | 0x41);
    b.chip.line(9).set(true);
    CHECK(b.sink.sent.empty());
    b.entry(9, kLevel | 0x41);
    CHECK(b.sink.sent.size() == 1);
}

TEST_CASE("ioapic: the EOI register and the edge-and-back trick clear remote IRR", "[devices][ioapic]") {
    Board b;
    b.entry(9, kLevel | 0x41);
    b.chip.line(9).set(true);
    b.chip.line(9).set(false);
    b.chip.mmio_write(0x40, 4, 0x41);
    CHECK_FALSE(b.remote_irr(9));
    b.chip.line(9).set(true);
    b.chip.line(9).set(false);
    CHECK(b.remote_irr(9));
    b.write(0x10 + 18, 0x41 | kMasked);
    b.write(0x10 + 18, kLevel | 0x41 | kMasked);
    CHECK_FALSE(b.remote_irr(9));
}

TEST_CASE("ioapic: NMI pins never wait for an EOI", "[devices][ioapic]") {
    Board b;
    b.entry(2, 0x400 | kLevel);
    b.chip.line(2).pulse();
    b.chip.line(2).pulse();
    CHECK(b.sink.sent.size() == 2);
    CHECK((b.sink.sent[0].second & 0x700) == 0x400);
}

TEST_CASE("ioapic: a remappable entry becomes a remappable message", "[devices][ioapic]") {
    Board b;
    // VT-d 4.1 §5.1.5.1: index[14:0] in bits 63:49, format in 48, index[15] in 11.
    b.entry(5, (u64{0x1234} << 49) | (u64{1} << 48) | 0x55);
    b.chip.line(5).set(true);
    REQUIRE(b.sink.sent.size() == 1);
    CHECK(b.sink.sent[0].first == (0xfee00000 | (0x1234u << 5) | (1u << 4)));
}

TEST_CASE("ioapic: read-only bits cannot be written", "[devices][ioapic]") {
    Board b;
    b.write(0x10, 0xffffffff);
    CHECK(b.read(0x10) == 0x0001afff);
    b.write(0x11, 0xffffffff);
    CHECK(b.read(0x11) == 0xffff0000);
}
