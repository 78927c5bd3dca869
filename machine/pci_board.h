// The PCI part of the bare PC's board: root, windows, the devices on it, and what firmware would have set up.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "devices/ahci.h"
#include "devices/core/pci_bus.h"
#include "devices/display.h"
#include "devices/e1000e.h"
#include "devices/edu.h"
#include "devices/ich9_lpc.h"
#include "devices/nvme.h"
#include "devices/q35_host.h"
#include "devices/vga.h"
#include "devices/virtio/block.h"
#include "devices/virtio/console.h"
#include "devices/virtio/net.h"
#include "iommu/vtd.h"
#include "machine/acpi_tables.h"
#include "machine/chipset.h"
#include "machine/config.h"
#include "machine/loader.h"
#include "machine/network.h"
#include "mmu/dma.h"
#include "mmu/physical_memory.h"

namespace vg::machine {

/// Builds the PCI devices of a configuration and owns them.
class PciBoard {
  public:
    struct Environment {
        mmu::PhysicalMemory& memory;
        EventQueue& events;
        Log& log;
        devices::IoBus& io;
        Chipset& chipset;
        u64 memory_top;               ///< end of RAM, at least 4 GiB
        iommu::Vtd* iommu = nullptr;  ///< stands between the devices and memory, if there is one
        std::function<void(u8)> console;  ///< what a virtio console writes
        /// With firmware: inputs of the 8259s that PCI interrupts share, by ISA interrupt.
        std::optional<std::array<devices::IrqLine*, 16>> pic_inputs;
    };
    static Result<std::unique_ptr<PciBoard>> create(const Config& config, const Environment& environment);
    ~PciBoard();

    [[nodiscard]] devices::PciBus& bus() { return *bus_; }
    /// What the ACPI tables say about this board.
    [[nodiscard]] AcpiPci acpi() const;
    /// Gives every base address a place and enables decoding, and shows a first picture's mode, as a PC's firmware
    /// does.
    void leave_as_firmware();
    /// The frame buffer that leave_as_firmware() has set up, if there is a display.
    [[nodiscard]] std::optional<FrameBuffer> frame_buffer() const;
    /// Commands of disks are traced there. The log outlives the board.
    void trace_to(Log& log);
    /// What a reset of the board does to PCI and everything on it.
    void reset();
    /// The disks as firmware names them, in the order of the configuration.
    [[nodiscard]] std::vector<std::string> boot_order() const;
    /// Null without a display. With firmware the display is a VGA, else a plain frame buffer.
    [[nodiscard]] devices::Display* display() { return display_; }
    /// Null without one.
    [[nodiscard]] devices::VirtioConsole* console() { return console_; }
    [[nodiscard]] const devices::Vga* vga() const { return vga_; }
    /// Opens the images and plugs them in. Creates missing overlays, so it comes when nothing else can fail.
    Result<void> attach_disks();
    Result<void> flush_disks();
    /// In the order of the configuration.
    [[nodiscard]] const std::vector<devices::BlockDevice*>& disks() const { return disks_; }
    /// Connects the network cards: forwarded ports are taken, capture files overwritten.
    Result<void> connect_nics(u64 start_unix_seconds);
    [[nodiscard]] Network& network() { return network_; }
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

    [[nodiscard]] bool firmware() const { return environment_.pic_inputs.has_value(); }
    [[nodiscard]] u64 ecam_base() const;
    void add_firmware_board();
    void add_vga();
    PciBoard(const Config& config, const Environment& environment);
    Result<void> build();
    Result<void> map_windows();
    Result<void> add_disks();
    void add_nics();
    /// Builds a device on the bus.
    template <class D, class... Args>
    D& add(u32 number, Args&&... args) {
        return add_function<D>(number, 0, std::forward<Args>(args)...);
    }
    template <class D, class... Args>
    D& add_function(u32 number, u32 function, Args&&... args) {
        auto device = std::make_unique<D>(bus_->slot(number, function), std::forward<Args>(args)...);
        D& added = *device;
        bus_->attach(*added.pci());
        devices_.push_back(std::move(device));
        return added;
    }

    Environment environment_;
    mmu::DirectDma memory_;
    std::unique_ptr<devices::Upstream> upstream_;
    std::unique_ptr<devices::PciBus> bus_;
    std::vector<std::unique_ptr<devices::Device>> devices_;
    std::vector<DiskSection> disk_sections_;
    bool has_display_;
    std::vector<devices::Ich9Lpc::Pirq> pirqs_;
    devices::Display* display_ = nullptr;
    devices::Vga* vga_ = nullptr;
    bool has_console_, has_edu_;
    devices::VirtioConsole* console_ = nullptr;
    devices::Ahci* ahci_ = nullptr;
    std::vector<devices::Nvme*> nvmes_;
    std::vector<devices::VirtioBlock*> virtio_disks_;
    std::vector<devices::BlockDevice*> disks_;
    std::vector<NicSection> nic_sections_;
    std::vector<devices::NetworkCard*> nics_;
    Network network_;
};

}  // namespace vg::machine
