// The PCI part of the bare PC's board: root, windows, the devices on it, and what firmware would have set up.
#pragma once

#include <memory>
#include <vector>

#include "devices/core/pci_bus.h"
#include "machine/acpi_tables.h"
#include "machine/chipset.h"
#include "machine/config.h"
#include "mmu/dma.h"
#include "mmu/physical_memory.h"

namespace vg::machine {

/// Builds the PCI devices of a configuration and owns them.
class PciBoard {
  public:
    struct Environment {
        mmu::PhysicalMemory& memory;
        EventQueue& events;
        devices::IoBus& io;
        Chipset& chipset;
        u64 memory_top;  ///< end of RAM, at least 4 GiB
    };
    static Result<std::unique_ptr<PciBoard>> create(const Config& config, const Environment& environment);
    ~PciBoard();

    [[nodiscard]] devices::PciBus& bus() { return *bus_; }
    /// What the ACPI tables say about this board.
    [[nodiscard]] AcpiPci acpi() const;
    /// Gives every base address a place and enables decoding, as a PC's firmware does.
    void leave_as_firmware();
    void fields(StateVisitor& v);

  private:
    /// The host bridge as a function: nothing but its identity.
    class HostBridge final : public devices::Device {
      public:
        explicit HostBridge(const devices::PciSlot& slot);
        [[nodiscard]] std::string_view name() const override { return "host_bridge"; }
        void reset() override { pci_.reset(); }
        void fields(StateVisitor& v) override { pci_.fields(v); }
        devices::PciFunction* pci() override { return &pci_; }

      private:
        devices::PciFunction pci_;
    };

    explicit PciBoard(const Environment& environment);
    Result<void> build(const Config& config);
    Result<void> map_windows();
    /// The device answers on the bus from now on.
    void attach(std::unique_ptr<devices::Device> device);

    Environment environment_;
    mmu::DirectDma memory_;
    std::unique_ptr<devices::Upstream> upstream_;
    std::unique_ptr<devices::PciBus> bus_;
    std::vector<std::unique_ptr<devices::Device>> devices_;
};

}  // namespace vg::machine
