// A PCI bus with memory behind it, for devices under test: RAM at 0, functions in slots, messages recorded.
#pragma once

#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "devices/core/pci_bus.h"
#include "mmu/dma.h"
#include "tests/support/devices.h"

namespace vg::test {

struct PciBench {
    static constexpr u64 kRam = 16 << 20;
    static constexpr u64 kLow = 0xc0000000, kHigh = u64{1} << 32;

    PciBench() {
        if (!memory.add_ram("ram", Spa(0), kRam)) std::abort();
    }

    /// Configuration space as a driver reaches it.
    u32 config(const devices::PciFunction& f, u32 offset, unsigned size) {
        return static_cast<u32>(bus.ecam().mmio_read(u64{f.rid().value} << 12 | offset, size));
    }
    void config(const devices::PciFunction& f, u32 offset, unsigned size, u32 value) {
        bus.ecam().mmio_write(u64{f.rid().value} << 12 | offset, size, value);
    }
    /// Puts a BAR at kLow + `at` and turns on memory decoding and bus mastering.
    void place(const devices::PciFunction& f, u32 bar, u64 at) {
        config(f, devices::pci::kBar0 + bar * 4, 4, static_cast<u32>(kLow + at));
        config(f, devices::pci::kCommand, 2,
               devices::pci::kMemorySpace | devices::pci::kIoSpace | devices::pci::kBusMaster);
    }
    /// The capability's offset, or 0.
    u32 capability(const devices::PciFunction& f, u8 id) {
        u32 at = config(f, devices::pci::kCapabilities, 1);
        for (int i = 0; i < 48 && at != 0; ++i, at = config(f, at + 1, 1)) {
            if (config(f, at, 1) == id) return at;
        }
        return 0;
    }
    u64 read(u64 at, unsigned size = 4) { return bus.low_memory().mmio_read(at, size); }
    void write(u64 at, u64 value, unsigned size = 4) { bus.low_memory().mmio_write(at, size, value); }
    template <class T>
    void put(u64 address, const T& value) {
        memory.write(Spa(address), &value, sizeof value);
    }
    template <class T>
    T get(u64 address) {
        return memory.read<T>(Spa(address));
    }

    mmu::PhysicalMemory memory;
    mmu::DirectDma dma{memory};
    RecordingSink sink;
    std::array<RecordingIrq, 8> irqs;
    devices::DirectUpstream upstream{dma, sink};
    devices::PciBus bus{upstream,
                        {{kLow, 0x10000000}, {kHigh, u64{1} << 36}, {0xc000, 0x4000}},
                        {&irqs[0], &irqs[1], &irqs[2], &irqs[3], &irqs[4], &irqs[5], &irqs[6], &irqs[7]}};
};

/// A device without a bus: reaches `memory`, its lines and messages are recorded.
struct LoneSlot {
    explicit LoneSlot(mmu::Dma& memory) : dma(memory) {}
    [[nodiscard]] devices::PciSlot slot() { return {devices::Rid(0, 1, 0), dma, sink, irq}; }
    mmu::Dma& dma;
    RecordingSink sink;
    RecordingIrq irq;
};

}  // namespace vg::test
