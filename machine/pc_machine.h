// The PC: booted directly by a kernel image or by firmware, one partition without hypervisor, or the root partition.
#pragma once

#include <memory>
#include <vector>

#include "cpu/vp.h"
#include "devices/debug_console.h"
#include "devices/debug_exit.h"
#include "devices/fw_cfg.h"
#include "devices/hpet.h"
#include "devices/test_device.h"
#include "iommu/vtd.h"
#include "machine/chipset.h"
#include "machine/config.h"
#include "machine/firmware.h"
#include "machine/flash_store.h"
#include "hv/hypervisor.h"
#include "machine/guest_memory.h"
#include "machine/layout.h"
#include "machine/legacy_chips.h"
#include "machine/pc_input.h"
#include "machine/pci_board.h"
#include "machine/root_sink.h"

namespace vg::machine {

class RootDevices;

/// Processors, RAM and chips of a PC. Owns them; the machine owns it. With firmware a reset, asked for in any of the ways that
/// a PC has, starts it again; without, it is told.
///
/// DEVIATION: the A20 gates of the 8042 and of port 92 can be read back and have no effect: address line 20 always counts.
class PcMachine final : private cpu::Platform, public GuestMemory {
  public:
    struct Events {
        ChipsetEvents chipset;
        std::function<void(u32 raw)> debug_exit;
        std::function<void()> shutdown;  ///< triple fault
    };
    /// @param hypervisor  null: a bare PC; else its root partition is made here, and it owns and reports the processors
    static Result<std::unique_ptr<PcMachine>> create(const Config& config, mmu::PhysicalMemory& memory,
                                                     EventQueue& events, Log& log, hv::Hypervisor* hypervisor,
                                                     Events handlers);

    /// The bare PC's processors; a root partition's are the hypervisor's.
    [[nodiscard]] const std::vector<std::unique_ptr<cpu::Vp>>& vps() const { return vps_; }
    [[nodiscard]] Chipset& chipset() { return *chipset_; }
    [[nodiscard]] PciBoard& pci() { return *pci_; }
    /// Null without one. The hypervisor's, if there is a hypervisor.
    [[nodiscard]] iommu::Vtd* iommu() { return iommu_.get(); }
    /// Who holds the root partition's devices; null on a bare PC, and where there is no unit.
    [[nodiscard]] const RootDevices* root_devices() const { return root_devices_; }
    [[nodiscard]] devices::Ps2Keyboard& keyboard() { return legacy_->keyboard(); }
    [[nodiscard]] devices::Ps2Mouse& mouse() { return legacy_->mouse(); }
    /// What the host types; null without firmware.
    [[nodiscard]] PcInput* input() { return input_.get(); }
    void fields(StateVisitor& v);
    Result<void> flush();
    /// Input for the console: to the virtio console once a driver runs it, else to COM1. How many bytes were taken.
    std::size_t console_input(std::span<const u8> bytes);

    bool write(Gpa gpa, std::span<const u8> data) override;
    bool read(Gpa gpa, std::span<u8> out) override;

  private:
    PcMachine(mmu::PhysicalMemory& memory, Log& log, cpu::CpuModel model)
        : memory_(memory), io_(log), model_(std::move(model)) {}
    Result<void> build(const Config& config, EventQueue& events, Log& log, hv::Hypervisor* hypervisor, Events handlers);
    Result<void> add_memory(const Config& config, const RamLayout& layout);
    Result<void> add_flash();
    Result<void> add_firmware_memory(const Config& config, const RamLayout& layout);
    [[nodiscard]] AcpiOptions acpi_options(const Config& config, const RamLayout& layout) const;
    /// What firmware reads by fw_cfg.
    Result<void> tell_firmware(const Config& config, const RamLayout& layout);
    /// A reset of the whole board, between two slices.
    void ask_restart();
    void restart();
    /// All chips but those of the chipset, PCI and processors; null where one is not there.
    [[nodiscard]] std::vector<devices::Device*> chips();
    /// Tables and kernel into memory, the boot processor at its entry.
    Result<void> load(const Config& config, const RamLayout& layout, const hv::Hypervisor* hypervisor);
    void make_root(const Config& config, hv::Hypervisor& hypervisor);
    void make_processors(const Config& config, EventQueue& events, Log& log);
    [[nodiscard]] cpu::ApicBus& apics() { return root_ != nullptr ? root_->apic_bus() : apics_; }
    Result<void> add_iommu(const Config& config, EventQueue& events, Log& log);
    Result<void> guard_devices(hv::Hypervisor& hypervisor);
    Result<void> add_test_devices(const Config& config);
    Result<void> add_test_device();
    Result<void> add_hpet(EventQueue& events);
    void leave_as_firmware();

    u32 port_read(cpu::Vp& vp, u16 port, unsigned size) override;
    void port_write(cpu::Vp& vp, u16 port, unsigned size, u32 value) override;
    int acknowledge_external(cpu::Vp&) override { return legacy_->acknowledge(); }
    void shutdown(cpu::Vp&) override { handlers_.shutdown(); }
    cpu::FerrAnswer ferr(cpu::Vp&, bool active) override { return legacy_->ferr(active); }

    mmu::PhysicalMemory& memory_;
    devices::IoBus io_;
    cpu::CpuModel model_;
    cpu::ApicBus apics_;
    Events handlers_;
    std::unique_ptr<Chipset> chipset_;
    std::unique_ptr<LegacyChips> legacy_;
    std::unique_ptr<devices::Hpet> hpet_;
    std::unique_ptr<devices::DebugExit> debug_exit_;
    std::unique_ptr<devices::FwCfg> fw_cfg_;
    std::unique_ptr<devices::TestDevice> test_device_;
    std::unique_ptr<iommu::Vtd> iommu_;
    std::unique_ptr<PciBoard> pci_;
    std::optional<Firmware> firmware_;
    std::unique_ptr<FlashStore> flash_store_;
    std::unique_ptr<devices::CfiFlash> flash_;
    std::unique_ptr<devices::DebugConsole> debug_console_;
    std::unique_ptr<mmu::DirectDma> fw_cfg_memory_;
    EventQueue* events_ = nullptr;
    std::unique_ptr<PcInput> input_;
    EventQueue::TimerId restart_ = 0;
    RootDevices* root_devices_ = nullptr;  ///< the hypervisor's
    std::vector<std::unique_ptr<cpu::Vp>> vps_;
    std::unique_ptr<RootSink> root_sink_;
    hv::Partition* root_ = nullptr;
    cpu::Vp* boot_ = nullptr;  ///< the boot processor
};

}  // namespace vg::machine
