// The VGA driven as a video BIOS and drivers do, and what it shows.
#include <catch2/catch.hpp>

#include "devices/vga.h"
#include "tests/support/device_contract.h"
#include "tests/support/pci.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

constexpr u64 kHome = u64{1} << 46;

struct Board : PciBench {
    Board()
        : vga((make_memory(), bus.slot(2)), time.events, dma, [this](std::optional<u64> bar) {
              place_of_memory = bar.value_or(kHome);
              memory.move_ram(Spa(kHome), Spa(place_of_memory));
              return Iova(place_of_memory);
          }) {
        bus.attach(*vga.pci());
    }
    void make_memory() { REQUIRE(memory.add_ram("display", Spa(kHome), Vga::kMemoryBytes)); }
    void out(u16 port, u8 value) { out8(vga.vga_ports(), port - vga::kFirstPort, value); }
    u8 in(u16 port) { return in8(vga.vga_ports(), port - vga::kFirstPort); }
    void indexed(u16 port, u8 index, u8 value) {
        out(port, index);
        out(port + 1, value);
    }
    void attribute(u8 index, u8 value) {
        (void)in(vga::kStatus);
        out(vga::kAttribute, index);
        out(vga::kAttribute, value);
    }
    void dispi(u16 index, u16 value) {
        (void)vga.dispi_ports().port_write(0, 2, index);
        (void)vga.dispi_ports().port_write(1, 2, value);
    }
    u16 dispi(u16 index) {
        u32 value = 0;
        (void)vga.dispi_ports().port_write(0, 2, index);
        (void)vga.dispi_ports().port_read(1, 2, value);
        return static_cast<u16>(value);
    }
    /// 80 by 25 characters of 8 by 16 dots, colours 0 to 15 in the palette's first entries.
    void text_mode() {
        out(vga::kMiscWrite, 0x67);
        indexed(vga::kSequencerIndex, vga::kClocking, 1);
        indexed(vga::kSequencerIndex, vga::kMapMask, 3);
        indexed(vga::kSequencerIndex, vga::kMemoryMode, 2);
        indexed(vga::kGraphicsIndex, vga::kMode, 0x10);
        indexed(vga::kGraphicsIndex, vga::kMisc, 0x0e);
        indexed(vga::kGraphicsIndex, vga::kBitMask, 0xff);
        indexed(vga::kCrtcIndex, vga::kRetraceEnd, 0x0e);
        indexed(vga::kCrtcIndex, vga::kDisplayEnd, 79);
        indexed(vga::kCrtcIndex, vga::kOverflow, 2);
        indexed(vga::kCrtcIndex, vga::kMaxScanLine, 15);
        indexed(vga::kCrtcIndex, vga::kVerticalEnd, 0x8f);
        indexed(vga::kCrtcIndex, vga::kOffset, 40);
        indexed(vga::kCrtcIndex, vga::kCursorStart, vga::kCursorOff);
        for (u8 i = 0; i < 16; ++i) attribute(i, i);
        attribute(vga::kAttributeMode, 0x08);
        attribute(vga::kPlaneEnable, 0x0f);
        out(vga::kDacMask, 0xff);
        out(vga::kDacWriteIndex, 0);
        for (u8 i = 0; i < 16; ++i)
            for (u8 c = 0; c < 3; ++c) out(vga::kDacData, static_cast<u8>(i * 4));
        (void)in(vga::kStatus);
        out(vga::kAttribute, vga::kPaletteShown);
    }
    void poke(u64 at, u64 value, unsigned size) { vga.window().mmio_write(at - Vga::kWindowBase, size, value); }
    u64 peek(u64 at, unsigned size) { return vga.window().mmio_read(at - Vga::kWindowBase, size); }

    TestTime time;
    u64 place_of_memory = 0;
    Vga vga;
};

}  // namespace

TEST_CASE("vga: a text screen shows the character set in the attribute's colours", "[devices][vga]") {
    Board board;
    CHECK(board.vga.picture().pixels.empty());
    board.text_mode();
    // The set is loaded into plane 2 as a video BIOS does it.
    board.indexed(vga::kSequencerIndex, vga::kMapMask, 4);
    board.indexed(vga::kSequencerIndex, vga::kMemoryMode, 6);
    board.indexed(vga::kGraphicsIndex, vga::kMode, 0);
    board.indexed(vga::kGraphicsIndex, vga::kMisc, 4);
    board.poke(0xa0000 + 'A' * 32 + 3, 0xc1, 1);
    board.indexed(vga::kSequencerIndex, vga::kMapMask, 3);
    board.indexed(vga::kSequencerIndex, vga::kMemoryMode, 2);
    board.indexed(vga::kGraphicsIndex, vga::kMode, 0x10);
    board.indexed(vga::kGraphicsIndex, vga::kMisc, 0x0e);
    board.poke(0xb8000 + (80 + 2) * 2, 0x1f41, 2);
    CHECK(board.peek(0xb8000 + (80 + 2) * 2, 2) == 0x1f41);
    CHECK(board.peek(0xa0000, 1) == 0xff);  // the window is the text one now
    const Vga::Picture picture = board.vga.picture();
    REQUIRE(picture.width == 640);
    REQUIRE(picture.height == 400);
    const auto pixel = [&](u32 x, u32 y) { return picture.pixels[y * 640 + x]; };
    const u32 white = 0xf3f3f3, blue = 0x101010;
    CHECK(pixel(16, 19) == white);
    CHECK(pixel(17, 19) == white);
    CHECK(pixel(18, 19) == blue);
    CHECK(pixel(23, 19) == white);
    CHECK(pixel(16, 18) == blue);
    CHECK(pixel(24, 19) == 0);
    board.indexed(vga::kCrtcIndex, vga::kCursorStart, 14);
    board.indexed(vga::kCrtcIndex, vga::kCursorEnd, 15);
    board.indexed(vga::kCrtcIndex, vga::kCursorLow, 82);
    CHECK(board.vga.picture().pixels[30 * 640 + 18] == white);
}

TEST_CASE("vga: planes are written and read in every mode", "[devices][vga]") {
    Board board;
    board.out(vga::kMiscWrite, 0x67);
    const auto graphics = [&](u8 index, u8 value) { board.indexed(vga::kGraphicsIndex, index, value); };
    board.indexed(vga::kSequencerIndex, vga::kMemoryMode, 6);
    board.indexed(vga::kSequencerIndex, vga::kMapMask, 0xf);
    graphics(vga::kMisc, 5);
    graphics(vga::kBitMask, 0xff);
    const auto planes = [&] { return board.get<u32>(kHome); };
    board.poke(0xa0000, 0xa5, 1);
    CHECK(planes() == 0xa5a5a5a5);
    graphics(vga::kRotate, 4);
    board.poke(0xa0000, 0x12, 1);
    CHECK(planes() == 0x21212121);
    graphics(vga::kRotate, 0);
    graphics(vga::kEnableSetReset, 0x5);
    graphics(vga::kSetReset, 0x1);
    board.poke(0xa0000, 0x3c, 1);
    CHECK(planes() == 0x3c003cff);
    graphics(vga::kEnableSetReset, 0);
    // Mode 2 with a mask: what was latched stays elsewhere.
    (void)board.peek(0xa0000, 1);
    graphics(vga::kMode, 2);
    graphics(vga::kBitMask, 0x0f);
    board.poke(0xa0000, 0x2, 1);
    CHECK(planes() == 0x30003ff0);
    // Mode 1 copies the latches.
    (void)board.peek(0xa0000, 1);
    graphics(vga::kMode, 1);
    board.poke(0xa0001, 0, 1);
    CHECK(board.get<u32>(kHome + 4) == 0x30003ff0);
    // Reads: one plane, or where the colour is.
    graphics(vga::kReadMap, 1);
    CHECK(board.peek(0xa0000, 1) == 0x3f);
    graphics(vga::kMode, vga::kReadCompare);
    graphics(vga::kColourCare, 0xf);
    graphics(vga::kColourCompare, 0x2);
    CHECK(board.peek(0xa0000, 1) == 0x0f);
}

TEST_CASE("vga: the display interface sets modes, and its memory follows the BAR", "[devices][vga]") {
    Board board;
    board.dispi(dispi::kId, 0xb0c0);
    CHECK(board.dispi(dispi::kId) == 0xb0c0);
    board.dispi(dispi::kId, 0xb0c6);
    CHECK(board.dispi(dispi::kId) == 0xb0c0);
    board.dispi(dispi::kId, 0xb0c5);
    CHECK(board.dispi(dispi::kMemory64K) == 256);
    CHECK(board.place_of_memory == kHome);
    board.place(*board.vga.pci(), Vga::kMemoryBar, 0x1000000);
    CHECK(board.place_of_memory == PciBench::kLow + 0x1000000);
    board.dispi(dispi::kWidth, 64);
    board.dispi(dispi::kHeight, 32);
    board.dispi(dispi::kBitsPerPixel, 32);
    board.dispi(dispi::kEnable, dispi::kEnabled | dispi::kLinear);
    board.put<u32>(PciBench::kLow + 0x1000000 + (64 * 3 + 5) * 4, 0xff123456);
    Vga::Picture picture = board.vga.picture();
    REQUIRE(picture.width == 64);
    REQUIRE(picture.height == 32);
    CHECK(picture.pixels[64 * 3 + 5] == 0x123456);
    board.dispi(dispi::kEnable, 0);
    board.dispi(dispi::kBitsPerPixel, 16);
    board.dispi(dispi::kEnable, dispi::kEnabled | dispi::kKeepMemory);
    board.put<u16>(PciBench::kLow + 0x1000000, 0xf800);
    CHECK(board.vga.picture().pixels[0] == 0xff0000);
    // The banked window sees the same memory.
    board.indexed(vga::kSequencerIndex, vga::kMemoryMode, 0x0e);
    board.indexed(vga::kSequencerIndex, vga::kMapMask, 0xf);
    board.indexed(vga::kGraphicsIndex, vga::kMisc, 5);
    board.dispi(dispi::kBank, 1);
    board.poke(0xa0002, 0x77, 1);
    CHECK(board.get<u8>(PciBench::kLow + 0x1010002) == 0x77);
    // Through the device where memory is not at the BAR.
    board.vga.pci()->memory_write(Vga::kMemoryBar, 0x10003, 1, 0x66);
    CHECK(board.vga.pci()->memory_read(Vga::kMemoryBar, 0x10002, 2) == 0x6677);
    board.dispi(dispi::kVirtualWidth, 1024);
    board.dispi(dispi::kX, 0xffff);
    board.dispi(dispi::kY, 0xffff);
    CHECK(board.vga.picture().pixels.empty());  // it would lie behind the memory
}

TEST_CASE("vga: keeps the contract", "[devices][vga]") {
    std::deque<std::pair<PciBench, TestTime>> worlds;
    check_device_contract<Vga>(
        [&] {
            auto& [bench, time] = worlds.emplace_back();
            return std::make_unique<Vga>(bench.bus.slot(2), time.events, bench.dma,
                                         [](std::optional<u64>) { return Iova(0); });
        },
        [](Vga& vga) { vga.mmio_write(0x500 + 2 * dispi::kWidth, 2, 640); }, 0, Vga::kRegisterBytes);
    Board board;
    sweep_ports(board.vga.vga_ports(), vga::kPortCount);
    sweep_ports(board.vga.dispi_ports(), 3);
    sweep_mmio(board.vga.window(), Vga::kWindowSize);
}
