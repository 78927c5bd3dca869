#include <catch2/catch.hpp>

#include <deque>

#include "devices/display.h"
#include "tests/support/device_contract.h"
#include "tests/support/pci.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::devices::dispi;
using namespace vg::test;

namespace {

struct Board : PciBench {
    Board() {
        REQUIRE(memory.add_ram("display", Spa(kHome), Display::kMemoryBytes));
        bus.attach(*display.pci());
        place(*display.pci(), Display::kRegisterBar, 0);
    }
    u32 reg(u32 index) { return static_cast<u32>(read(kOffset + index * 2, 2)); }
    void reg(u32 index, u32 value) { write(kOffset + index * 2, value, 2); }

    static constexpr u64 kHome = 0xcf000000;
    Display display{bus.slot(2), dma, Iova(kHome)};
};

}  // namespace

TEST_CASE("display: keeps the device contract", "[devices][display]") {
    PciBench bench;
    std::deque<LoneSlot> slots;
    check_device_contract<Display>(
        [&] { return std::make_unique<Display>(slots.emplace_back(bench.dma).slot(), bench.dma, Iova(0)); },
        [](Display& d) { d.set_mode(640, 480); }, 0, Display::kRegisterBytes);
}

TEST_CASE("display: a driver sets a mode and pans", "[devices][display]") {
    Board b;
    CHECK(b.reg(kId) == 0xb0c5);
    CHECK(b.reg(kMemory64K) == Display::kMemoryBytes >> 16);
    CHECK_FALSE(b.display.mode().on);
    b.put<u32>(Board::kHome, 0x123456);
    b.reg(kWidth, 800);
    b.reg(kHeight, 600);
    b.reg(kBitsPerPixel, 32);
    b.reg(kEnable, kEnabled | kLinear);
    CHECK(b.get<u32>(Board::kHome) == 0);  // cleared
    CHECK(b.display.mode().on);
    CHECK(b.display.mode().stride_bytes == 3200);
    CHECK(b.reg(kVirtualHeight) == Display::kMemoryBytes / 3200);
    b.reg(kVirtualWidth, 1024);
    b.reg(kY, 2);
    CHECK(b.display.mode().offset == 2 * 4096);
    b.reg(kEnable, kGetCapabilities);
    CHECK(b.reg(kWidth) == Display::kMaxWidth);
    CHECK_FALSE(b.display.mode().on);
}

TEST_CASE("display: what is shown lies within the display memory, whatever is written", "[devices][display]") {
    Board b;
    b.display.set_mode(2560, 1600);
    CHECK(b.display.mode().on);
    for (const u32 value : {0u, 1u, 0x7fffu, 0xffffu}) {
        for (const u32 index :
             {u32{kVirtualWidth}, u32{kX}, u32{kY}, u32{kWidth}, u32{kHeight}, u32{kBitsPerPixel}, u32{kBank}}) {
            b.reg(index, value);
            const Display::Mode mode = b.display.mode();
            if (!mode.on) continue;
            CHECK(mode.offset + u64{mode.height - 1} * mode.stride_bytes + mode.width * 4 <= Display::kMemoryBytes);
        }
    }
}

TEST_CASE("display: its memory is the same wherever its base address is", "[devices][display]") {
    Board b;
    b.put<u32>(Board::kHome + 0x1000, 0xfeedbeef);
    b.place(*b.display.pci(), Display::kMemoryBar, 0x2000000);
    CHECK(b.read(0x2001000) == 0xfeedbeef);
    b.write(0x2001004, 0x1122334455667788, 8);
    CHECK(b.get<u64>(Board::kHome + 0x1004) == 0x1122334455667788);
    CHECK(b.read(0x2ffffff, 1) == 0);
}
