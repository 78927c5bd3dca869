// The IDE function of PIIX4: two channels in compatibility mode, with bus master DMA.
#pragma once

#include <array>
#include <memory>

#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "devices/core/port_window.h"
#include "devices/ide_channel.h"

namespace vg::devices {

/// The channels are at their ISA addresses and interrupts while I/O space and their decode bits are on. The timing
/// registers can be read back and have no other effect.
class Ide final : public Device {
  public:
    static constexpr u32 kChannels = 2, kMasterBar = 4;

    /// @param irqs  ISA interrupts 14 and 15
    Ide(const PciSlot& slot, EventQueue& events, const std::array<IrqLine*, kChannels>& irqs);

    /// Before the machine runs. The place must be empty.
    void attach(u32 channel, u32 drive, std::unique_ptr<AtaDisk> disk) { channels_[channel]->attach(drive, std::move(disk)); }
    /// Claims the ports of both channels (spec/ide.h).
    void map_ports(IoBus& io);
    /// As firmware leaves it: both channels decoded.
    void leave_as_firmware();

    [[nodiscard]] std::string_view name() const override { return "ide"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PortIo* port_io() override { return &master_; }
    PciFunction* pci() override { return &pci_; }
    [[nodiscard]] PortIo& command_ports(u32 channel) { return *command_[channel]; }
    [[nodiscard]] PortIo& control_port(u32 channel) { return *control_[channel]; }

  private:
    [[nodiscard]] bool decodes(u32 channel) const;

    PciFunction pci_;
    std::array<std::unique_ptr<IdeChannel>, kChannels> channels_;
    std::array<std::unique_ptr<PortWindow>, kChannels> command_, control_;
    PortWindow master_;  // of both
};

}  // namespace vg::devices
