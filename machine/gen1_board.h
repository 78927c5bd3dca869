// The board of a generation-1 partition: what it has besides the chips of every partition (Chipset) and VMBus. Row B-17.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/core/pci_bus.h"
#include "devices/debug_console.h"
#include "devices/fw_cfg.h"
#include "devices/ide.h"
#include "devices/piix4.h"
#include "devices/vga.h"
#include "hv/parent/built_in_parent.h"
#include "machine/config.h"
#include "machine/firmware.h"
#include "machine/layout.h"
#include "machine/legacy_chips.h"
#include "machine/pc_input.h"
#include "mmu/dma.h"

namespace vg::machine {

/// A PC of a 440BX and a PIIX4, reached by configuration ports: host bridge 0:0.0, ISA bridge, IDE and power management
/// 0:7.0, 7.1 and 7.3, video 0:8.0. Firmware, if the configuration names one, starts at the reset vector.
class Gen1Board final : public hv::parent::BoardWires {
  public:
    /// Most that firmware takes of system-physical memory.
    static constexpr u64 kFirmwareBytes = u64{8} << 20;
    static constexpr u64 kVideoBytes = devices::Vga::kMemoryBytes;

    struct Environment {
        EventQueue& events;
        Log& log;
        devices::IoBus& io;
        Chipset& chipset;
        hv::Partition& partition;
        hv::parent::BuiltInParent& parent;
        mmu::PhysicalMemory& memory;
        Spa ram;       ///< of the partition
        Spa video;     ///< of kVideoBytes, if there is video
        Spa firmware;  ///< where nothing is yet, for kFirmwareBytes
        std::function<void()> reset;
    };
    /// Shows the partition its RAM, ROM and video, and makes the chips. Before it has processors.
    static Result<std::unique_ptr<Gen1Board>> create(const ChildSection& section, const Environment& environment);

    ~Gen1Board() override { bus_.reset(); }

    /// Once the partition has processors: the first is the boot processor.
    void wire(cpu::Vp& boot_processor) { legacy_.wire(boot_processor); }
    /// ACPI's power management ports: firmware moves them.
    [[nodiscard]] static u16 pm_base(const ChildSection& section) {
        return section.firmware.empty() ? board::kPmBase : board::kFirmwarePmBase;
    }
    /// What the ACPI tables say of the board.
    void describe(AcpiOptions& options) const;
    /// Tables into the memory of a partition that starts with a kernel, chips as firmware leaves them.
    [[nodiscard]] Result<void> leave_as_firmware(GuestMemory& memory);
    /// What firmware finds: itself below 1 MiB, and the board by fw_cfg.
    void tell_firmware(GuestMemory& memory, const std::vector<AcpiTable>& tables, bool restoring);
    [[nodiscard]] bool has_firmware() const { return firmware_.has_value(); }

    /// Puts a disk at the next place of the IDE channels: at most four.
    void attach(std::unique_ptr<devices::BlockDevice> disk);
    /// Null without video.
    [[nodiscard]] const devices::Vga* vga() const { return vga_.get(); }
    /// The memory of the video is where its BAR says again, after something else was there.
    void show_video();
    /// Keys that the host types; false: there is no room for them.
    [[nodiscard]] bool type(std::span<const hv::vsp::Keystroke> keys) { return input_.press(keys); }
    void fields(StateVisitor& v);

    int acknowledge_external() override { return legacy_.acknowledge(); }
    cpu::FerrAnswer ferr(bool active) override { return legacy_.ferr(active); }

  private:
    Gen1Board(const ChildSection& section, const Environment& environment);
    Result<void> build();
    Result<void> map_memory();
    Result<void> add_firmware();
    void add_video();
    void map_windows();
    Iova follow_video(std::optional<u64> bar);
    [[nodiscard]] devices::PciBus::Windows windows() const;
    [[nodiscard]] std::vector<std::string> boot_order() const;
    [[nodiscard]] Smbios smbios() const;

    const ChildSection& section_;
    Environment environment_;
    RamLayout layout_;
    mmu::DirectDma memory_;    ///< the partition's, as its devices reach it
    mmu::DirectDma video_memory_;
    devices::DirectUpstream upstream_;
    LegacyChips legacy_;
    PcInput input_;
    std::unique_ptr<devices::PciBus> bus_;  ///< goes before the functions that it knows
    devices::BxHost host_;
    devices::Piix4Isa isa_;
    devices::Ide ide_;
    devices::Piix4Power power_;
    std::unique_ptr<devices::Vga> vga_;
    std::optional<Firmware> firmware_;
    devices::FwCfg fw_cfg_;
    devices::DebugConsole debug_console_;
    u32 ide_disks_ = 0;
    std::optional<u64> video_at_;  ///< GPA where the video's memory is shown
};

}  // namespace vg::machine
