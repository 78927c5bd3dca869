// SATA host adapter (Serial ATA AHCI 1.3.1), as a PCI function.
#pragma once

#include <memory>
#include <vector>

#include "devices/ahci_port.h"
#include "devices/core/device.h"
#include "devices/core/pci.h"

namespace vg::devices {

/// Ports with disks: 32 command slots, native command queueing, one MSI vector or the interrupt pin.
class Ahci final : public Device, public mmu::MmioHandler {
  public:
    static constexpr u64 kRegisterBytes = 0x2000;

    /// @param ports 1..32
    Ahci(const PciSlot& slot, EventQueue& events, u32 ports);

    /// Before the machine runs. Port `index` must exist and be empty.
    void attach(u32 index, std::unique_ptr<AtaDisk> disk);
    /// Commands are traced there (Area::Storage). The log outlives the controller.
    void trace_to(Log& log);
    [[nodiscard]] u32 port_count() const { return static_cast<u32>(ports_.size()); }

    [[nodiscard]] std::string_view name() const override { return "ahci"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PciFunction* pci() override { return &pci_; }
    mmu::MmioHandler* mmio() override { return this; }
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

  private:
    void reset_adapter(bool keep_addresses);
    [[nodiscard]] u32 read(u32 offset) const;
    void write(u32 offset, u32 value);
    /// Derives IS from the ports; tells the processor what it has not been told.
    void update();

    PciFunction pci_;
    std::vector<std::unique_ptr<AhciPort>> ports_;
    u32 ghc_ = ahci::kGhcAhci;
    u32 is_ = 0;
};

}  // namespace vg::devices
