// Chips that PC firmware programs: shadow RAM's registers, interrupt routes, flash, fw_cfg's DMA.
#include <catch2/catch.hpp>

#include "devices/cfi_flash.h"
#include "devices/fw_cfg.h"
#include "devices/ich9_lpc.h"
#include "devices/q35_host.h"
#include "tests/support/device_contract.h"
#include "tests/support/pci.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

struct Change {
    u64 base, size;
    bool reads, writes;
    bool operator==(const Change&) const = default;
};

struct MemoryArray final : CfiFlash::Array {
    explicit MemoryArray(u64 size) : bytes(size, 0xff) {}
    void read(u64 offset, std::span<u8> out) override {
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    }
    void write(u64 offset, std::span<const u8> data) override {
        std::copy(data.begin(), data.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    std::vector<u8> bytes;
};

}  // namespace

TEST_CASE("Q35 host bridge: the attribute map says which accesses go to memory", "[devices][q35]") {
    PciBench bench;
    std::vector<Change> changes;
    Q35Host bridge(bench.bus.slot(0), 0xb0000000, [&](u64 base, u64 size, bool reads, bool writes) {
        changes.push_back({base, size, reads, writes});
    });
    bench.bus.attach(*bridge.pci());
    const PciFunction& function = *bridge.pci();
    CHECK(bench.config(function, 0, 4) == 0x29c08086);
    CHECK(bench.config(function, q35::kPciExBar, 4) == 0xb0000001);
    // As SeaBIOS opens it: everything for reading and writing.
    bench.config(function, q35::kPam, 4, 0x33333330);
    bench.config(function, q35::kPam + 4, 4, 0x00333333);
    REQUIRE(changes.size() == 13);
    CHECK(changes[0] == Change{0xf0000, 0x10000, true, true});
    CHECK(changes[1] == Change{0xc0000, 0x4000, true, true});
    CHECK(changes[12] == Change{0xec000, 0x4000, true, true});
    changes.clear();
    // And closes it: one segment stays open.
    bench.config(function, q35::kPam, 1, 0x10);
    bench.config(function, q35::kPam + 5, 1, 0x31);
    CHECK(changes == std::vector<Change>{{0xf0000, 0x10000, true, false}, {0xe0000, 0x4000, true, false}});
    changes.clear();
    bridge.reset();
    CHECK(changes.size() == 13);
    CHECK(changes[3] == Change{0xc8000, 0x4000, false, false});
}

TEST_CASE("LPC bridge: PCI interrupts go to the IOAPIC, and to the 8259 input of their route", "[devices][q35]") {
    PciBench bench;
    std::array<RecordingIrq, 8> pins;
    std::array<RecordingIrq, 16> inputs;
    std::vector<IrqLine*> pin_lines;
    for (auto& pin : pins) pin_lines.push_back(&pin);
    std::array<IrqLine*, 16> lines{};
    for (u32 i = 3; i < 16; ++i) lines[i] = &inputs[i];
    Ich9Lpc bridge(bench.bus.slot(31), 0x600, pin_lines, lines);
    bench.bus.attach(*bridge.pci());
    std::vector<Ich9Lpc::Pirq> pirqs(8);
    bridge.connect(pirqs);
    const PciFunction& function = *bridge.pci();
    CHECK(bench.config(function, q35::kPmBase, 4) == 0x601);
    pirqs[0].set(true);
    CHECK(pins[0].high);
    for (const auto& input : inputs) CHECK_FALSE(input.high);
    bench.config(function, q35::kPirqA, 1, 10);
    CHECK(inputs[10].high);
    bench.config(function, q35::kPirqE, 1, 10);
    pirqs[4].set(true);
    pirqs[0].set(false);
    CHECK_FALSE(pins[0].high);
    CHECK(inputs[10].high);  // the other one still is
    bench.config(function, q35::kPirqE, 1, 11);
    CHECK_FALSE(inputs[10].high);
    CHECK(inputs[11].high);
    bench.config(function, q35::kPirqE, 1, q35::kPirqOff | 11);
    CHECK_FALSE(inputs[11].high);
    CHECK(pins[4].high);
    u32 value = 0;
    CHECK(bridge.pm_ports().port_read(q35::kPmSmiEnable - Ich9Lpc::kFirstPort, 4, value) == IoStatus::Ok);
    CHECK((value & q35::kSmiApmEnable) != 0);
}

TEST_CASE("flash: programs zeroes, erases blocks, and shows its status and identity", "[devices][flash]") {
    constexpr u64 kSize = 4 * CfiFlash::kBlockBytes;
    MemoryArray array(kSize);
    bool shown = false;
    CfiFlash flash(kSize, array, [&](bool on) { shown = on; });
    flash.reset();
    CHECK(shown);
    flash.mmio_write(0x1000, 1, 0x10);
    flash.mmio_write(0x1000, 1, 0x5a);
    CHECK_FALSE(shown);
    CHECK(array.bytes[0x1000] == 0x5a);
    CHECK(flash.mmio_read(0, 1) == 0x80);
    flash.mmio_write(0x1000, 1, 0x40);
    flash.mmio_write(0x1000, 1, 0xf0);
    CHECK(array.bytes[0x1000] == 0x50);  // ones are not programmed
    flash.mmio_write(0, 1, 0x50);
    CHECK(shown);
    flash.mmio_write(0, 1, 0x70);
    CHECK(flash.mmio_read(0, 1) == 0);
    flash.mmio_write(0x1fff, 1, 0x20);
    flash.mmio_write(0x1fff, 1, 0xd0);
    CHECK(array.bytes[0x1000] == 0xff);
    array.bytes[0x2000] = 1;
    flash.mmio_write(0x2000, 1, 0x20);
    flash.mmio_write(0x2000, 1, 0x33);  // not confirmed
    CHECK(array.bytes[0x2000] == 1);
    CHECK((flash.mmio_read(0, 1) & 0x30) == 0x30);
    flash.mmio_write(0, 1, 0xe8);
    flash.mmio_write(0, 1, 3);
    for (u64 i = 0; i < 4; ++i) flash.mmio_write(0x3004 + i, 1, i);
    flash.mmio_write(0x3004, 1, 0xd0);
    CHECK(array.bytes[0x3004] == 0);
    CHECK(array.bytes[0x3007] == 3);
    CHECK(array.bytes[0x3008] == 0xff);
    flash.mmio_write(0, 1, 0x98);
    CHECK(flash.mmio_read(0x10, 1) == 'Q');
    CHECK(flash.mmio_read(0x2d, 1) == 3);
    flash.mmio_write(0, 1, 0x90);
    CHECK(flash.mmio_read(0, 1) == 0x89);
    flash.mmio_write(0, 1, 0xff);
    CHECK(shown);
    MemoryArray other(kSize);
    check_device_contract<CfiFlash>([&] { return std::make_unique<CfiFlash>(kSize, other, [](bool) {}); },
                                    [](CfiFlash& f) { f.mmio_write(0, 1, 0x70); }, 0, kSize);
}

TEST_CASE("fw_cfg: DMA reads, skips, selects, and refuses what it cannot", "[devices][fw_cfg]") {
    mmu::PhysicalMemory memory;
    REQUIRE(memory.add_ram("ram", Spa(0), 0x10000));
    mmu::DirectDma dma(memory);
    FwCfg chip;
    chip.enable_dma(dma);
    chip.add_file("etc/one", {1, 2, 3, 4, 5, 6});
    u32 value = 0;
    CHECK(chip.port_read(4, 4, value) == IoStatus::Ok);
    CHECK(value == __builtin_bswap32(0x51454d55));
    const auto run = [&](u32 control, u32 length, u64 address) {
        const u32 words[4] = {__builtin_bswap32(control), __builtin_bswap32(length),
                              __builtin_bswap32(static_cast<u32>(address >> 32)),
                              __builtin_bswap32(static_cast<u32>(address))};
        memory.write(Spa(0x1000), words, sizeof words);
        CHECK(chip.port_write(4, 4, 0) == IoStatus::Ok);
        CHECK(chip.port_write(8, 4, __builtin_bswap32(0x1000)) == IoStatus::Ok);
        return __builtin_bswap32(memory.read<u32>(Spa(0x1000)));
    };
    CHECK(run(FwCfg::kFirstFile << 16 | 8 | 2, 2, 0x2000) == 0);
    CHECK(memory.read<u16>(Spa(0x2000)) == 0x0201);
    CHECK(run(4, 1, 0) == 0);
    memory.write<u64>(Spa(0x2000), ~u64{0});
    CHECK(run(2, 8, 0x2000) == 0);
    CHECK(memory.read<u64>(Spa(0x2000)) == 0x060504);
    CHECK(run(16, 1, 0x2000) == 1);          // items are not written
    CHECK(run(2, 0x2000, 0xf000) == 1);      // beyond memory
    CHECK(run(2, 0xffffffff, 0x2000) == 1);  // more than one request may move
    CHECK(run(4, 0xffffffff, 0) == 0);
    CHECK(run(2, 1, 0x3000) == 0);
    CHECK(memory.read<u8>(Spa(0x3000)) == 0);
}
