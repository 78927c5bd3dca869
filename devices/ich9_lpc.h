// The ICH9 LPC bridge as a PCI function: routes of PCI interrupts to the 8259s, and the power management ports that
// ACPI's fixed hardware does not have.
#pragma once

#include <array>
#include <vector>

#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "devices/core/port_window.h"
#include "devices/spec/q35.h"

namespace vg::devices {

/// Each of eight PCI interrupts (PIRQA..H) drives an IOAPIC pin of its own, and the 8259 input that its route names,
/// shared with others.
///
/// DEVIATION: the power management base is the board's for good (it reads as enabled there, writes are dropped). There
/// is no system management interrupt; that it is set up already is what SMI_EN says, so that firmware leaves it alone.
class Ich9Lpc final : public Device {
  public:
    /// @param pins   IOAPIC inputs of PIRQA..H
    /// @param lines  8259 inputs by ISA interrupt; null where a PCI interrupt cannot go
    Ich9Lpc(const PciSlot& slot, u16 pm_base, std::vector<IrqLine*> pins, const std::array<IrqLine*, 16>& lines);

    /// Wires into here, before the bus exists that drives them: `owner` is set by the bridge.
    struct Pirq final : IrqLine {
        Ich9Lpc* owner = nullptr;
        u32 index = 0;
        bool level = false;
        void set(bool new_level) override {
            level = new_level;
            if (owner != nullptr) owner->drive(index);
        }
    };
    void connect(std::vector<Pirq>& pirqs);

    [[nodiscard]] std::string_view name() const override { return "lpc"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PciFunction* pci() override { return &pci_; }
    /// General purpose events and SMI control: q35::kPmPorts - kFirstPort ports from kFirstPort behind the base on.
    static constexpr u16 kFirstPort = 0x0c;
    [[nodiscard]] PortIo& pm_ports() { return pm_ports_; }

  private:
    void drive(u32 pirq);
    void update_lines();
    [[nodiscard]] u8 route(u32 pirq) const;

    PciFunction pci_;
    std::vector<IrqLine*> pins_;
    std::array<IrqLine*, 16> lines_;
    std::vector<Pirq>* pirqs_ = nullptr;
    PortWindow pm_ports_;
    u16 driven_ = 0;  // 8259 inputs that are high; derived
};

}  // namespace vg::devices
