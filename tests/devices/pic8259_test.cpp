#include <catch2/catch.hpp>

#include "devices/pic8259.h"
#include "tests/support/device_contract.h"
#include "tests/support/devices.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

struct Board {
    RecordingIrq intr;
    PicPair pic{intr};
    void master(u16 offset, u8 value) { out8(pic.master_ports(), offset, value); }
    void slave(u16 offset, u8 value) { out8(pic.slave_ports(), offset, value); }
    /// As Linux: vectors 0x30 and 0x38, all unmasked.
    void initialize(u8 word4 = 0x01) {
        master(0, 0x11);
        master(1, 0x30);
        master(1, 0x04);
        master(1, word4);
        slave(0, 0x11);
        slave(1, 0x38);
        slave(1, 0x02);
        slave(1, 0x01);
        master(1, 0);
        slave(1, 0);
    }
};

}  // namespace

TEST_CASE("pic: keeps the device contract", "[devices][pic]") {
    RecordingIrq intr;
    check_device_contract<PicPair>([&] { return std::make_unique<PicPair>(intr); },
                                   [](PicPair& pic) {
                                       out8(pic.master_ports(), 0, 0x11);
                                       out8(pic.master_ports(), 1, 0x20);
                                       pic.line(3).set(true);
                                       out8(pic.elcr_ports(), 1, 0xff);
                                   });
    PicPair pic(intr);
    sweep_ports(pic.master_ports(), 2);
    sweep_ports(pic.slave_ports(), 2);
    sweep_ports(pic.elcr_ports(), 2);
}

TEST_CASE("pic: masks read back, as the probe of Linux wants", "[devices][pic]") {
    Board b;
    b.slave(1, 0xff);
    b.master(1, 0xfb);
    CHECK(in8(b.pic.master_ports(), 1) == 0xfb);
    CHECK(in8(b.pic.slave_ports(), 1) == 0xff);
}

TEST_CASE("pic: priorities, nesting and non-specific EOI", "[devices][pic]") {
    Board b;
    b.initialize();
    b.pic.line(5).set(true);
    CHECK(b.intr.high);
    CHECK(b.pic.acknowledge() == 0x35);
    CHECK_FALSE(b.intr.high);
    b.pic.line(6).set(true);
    CHECK_FALSE(b.intr.high);
    b.pic.line(1).set(true);
    CHECK(b.intr.high);
    CHECK(b.pic.acknowledge() == 0x31);
    b.master(0, 0x20);
    CHECK_FALSE(b.intr.high);
    b.master(0, 0x20);
    CHECK(b.intr.high);
    CHECK(b.pic.acknowledge() == 0x36);
    b.master(0, 0x66);
    CHECK(b.pic.acknowledge() == 0x37);  // nothing: spurious
}

TEST_CASE("pic: a masked IRQ stays pending", "[devices][pic]") {
    Board b;
    b.initialize();
    b.master(1, 0x10);
    b.pic.line(4).pulse();
    CHECK_FALSE(b.intr.high);
    CHECK(in8(b.pic.master_ports(), 0) == 0x10);
    b.master(1, 0);
    CHECK(b.pic.acknowledge() == 0x34);
    b.master(0, 0x0b);
    CHECK(in8(b.pic.master_ports(), 0) == 0x10);
}

TEST_CASE("pic: the slave comes through the cascade", "[devices][pic]") {
    Board b;
    b.initialize();
    b.pic.line(12).set(true);
    b.pic.line(9).set(true);
    CHECK(b.pic.acknowledge() == 0x39);
    CHECK_FALSE(b.intr.high);
    b.slave(0, 0x20);
    CHECK_FALSE(b.intr.high);  // the cascade is still in service
    b.master(0, 0x20);
    CHECK(b.pic.acknowledge() == 0x3c);
}

TEST_CASE("pic: special fully nested mode lets a slave nest", "[devices][pic]") {
    Board b;
    b.initialize(0x11);
    b.pic.line(12).set(true);
    CHECK(b.pic.acknowledge() == 0x3c);
    b.pic.line(9).set(true);
    CHECK(b.pic.acknowledge() == 0x39);
}

TEST_CASE("pic: level-triggered inputs repeat while asserted", "[devices][pic]") {
    Board b;
    b.initialize();
    out8(b.pic.elcr_ports(), 1, 0x04);
    CHECK(in8(b.pic.elcr_ports(), 1) == 0x04);
    out8(b.pic.elcr_ports(), 0, 0xff);
    CHECK(in8(b.pic.elcr_ports(), 0) == 0xf8);
    b.pic.line(10).set(true);
    CHECK(b.pic.acknowledge() == 0x3a);
    b.slave(0, 0x20);
    b.master(0, 0x20);
    CHECK(b.pic.acknowledge() == 0x3a);
    b.pic.line(10).set(false);
    b.slave(0, 0x20);
    b.master(0, 0x20);
    CHECK_FALSE(b.intr.high);
}

TEST_CASE("pic: automatic EOI, rotation, special mask and poll", "[devices][pic]") {
    Board b;
    b.initialize(0x03);
    b.pic.line(3).pulse();
    CHECK(b.pic.acknowledge() == 0x33);
    b.master(0, 0x0b);
    CHECK(in8(b.pic.master_ports(), 0) == 0);
    b.initialize();
    b.master(0, 0xc4);  // input 4 lowest: 5 is now highest
    b.pic.line(1).set(true);
    b.pic.line(5).set(true);
    CHECK(b.pic.acknowledge() == 0x35);
    b.master(0, 0xa0);  // EOI and rotate: 5 lowest
    CHECK(b.pic.acknowledge() == 0x31);
    b.master(0, 0x68);  // special mask: only input 1 itself is held back
    b.pic.line(0).set(false);
    b.pic.line(5).set(false);
    b.pic.line(5).set(true);
    CHECK(b.intr.high);
    b.master(0, 0x0c);
    CHECK(in8(b.pic.master_ports(), 0) == 0x85);
    b.master(0, 0x0c);
    CHECK(in8(b.pic.master_ports(), 0) == 0);
}
