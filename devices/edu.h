// QEMU's educational PCI device: a factorial, a DMA engine, an interrupt by pin or message. For tests.
#pragma once

#include <array>

#include "base/events.h"
#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "devices/spec/edu.h"

namespace vg::devices {

/// A factorial takes kComputeTime, a transfer kTransferTime. A transfer that leaves the buffer, or that memory refuses,
/// moves nothing and ends like any other.
class Edu final : public Device, public mmu::MmioHandler {
  public:
    static constexpr u64 kRegisterBytes = 1 << 20;
    static constexpr u32 kBar = 0;
    static constexpr VTime kComputeTime = 10'000, kTransferTime = 100'000;

    Edu(const PciSlot& slot, EventQueue& events);
    ~Edu() override;

    [[nodiscard]] std::string_view name() const override { return "edu"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PciFunction* pci() override { return &pci_; }
    mmu::MmioHandler* mmio() override { return this; }
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

  private:
    struct State {
        u32 liveness = 0, factorial = 0, status = 0, interrupts = 0;
        u64 source = 0, destination = 0, count = 0, command = 0;
        std::array<u8, edu::kBufferBytes> buffer{};
    };

    void write_word(u64 offset, u32 value);
    void write_dma(u64 offset, unsigned size, u64 value);
    void raise(u32 bits);
    void computed();
    void transfer();

    EventQueue& events_;
    PciFunction pci_;
    EventQueue::TimerId compute_timer_, transfer_timer_;
    State state_;
};

}  // namespace vg::devices
