// The test device of kvm-unit-tests: latches, interrupt lines and a flush request.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "devices/core/device.h"
#include "devices/core/irq.h"
#include "devices/core/port_window.h"

namespace vg::devices {

/// Off unless the configuration asks for it. Two port ranges and one MMIO region:
/// - latch ports: offsets 0-3 and 8-11 show the same 32-bit latch by byte lanes, offset 4 asks to flush one page;
/// - line ports: a byte written at offset n drives line n;
/// - 64 KiB of latch memory.
class TestDevice final : public Device, public mmu::MmioHandler {
  public:
    static constexpr u16 kLatchPort = 0xe0;
    static constexpr u32 kLatchPortCount = 12;
    static constexpr u16 kLinePort = 0x2000;
    static constexpr u64 kMmioBase = 0xff000000;
    static constexpr u64 kMmioSize = 0x10000;

    /// `address` is a guest-linear address; every translation of its page is to be forgotten.
    using Flush = std::function<void(u32 address)>;

    /// Line n of the ports drives `lines[n]`; the pointers outlive the device.
    TestDevice(std::vector<IrqLine*> lines, Flush flush);

    [[nodiscard]] std::string_view name() const override { return "test_device"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    [[nodiscard]] PortIo& latch_ports() { return latch_ports_; }
    [[nodiscard]] PortIo& line_ports() { return line_ports_; }
    [[nodiscard]] u32 line_port_count() const { return static_cast<u32>(lines_.size()); }
    mmu::MmioHandler* mmio() override { return this; }
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

  private:
    IoStatus read_latch(u16 offset, unsigned size, u32& value) const;
    IoStatus write_latch(u16 offset, unsigned size, u32 value);
    IoStatus write_line(u16 offset, u32 value);

    std::vector<IrqLine*> lines_;
    Flush flush_;
    PortWindow latch_ports_;
    PortWindow line_ports_;
    u32 latch_ = 0;
    u64 flush_count_ = 0;
    std::vector<u8> memory_;
};

}  // namespace vg::devices
