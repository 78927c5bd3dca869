// The functions of a 440BX board that are hardly more than identities: host bridge, ISA bridge, power management. What
// a generation-1 partition has (Intel "440BX AGPset" and "82371AB (PIIX4)" data sheets).
#pragma once

#include <string>

#include "devices/core/device.h"
#include "devices/core/pci.h"

namespace vg::devices {

/// A function whose registers do nothing but hold what was written.
class PlainFunction : public Device {
  public:
    PlainFunction(std::string name, const PciSlot& slot, const PciFunction::Identity& identity)
        : name_(std::move(name)), pci_(slot, identity) {}
    [[nodiscard]] std::string_view name() const override { return name_; }
    void reset() override { pci_.reset(); }
    void fields(StateVisitor& v) override { pci_.fields(v); }
    PciFunction* pci() override { return &pci_; }

  private:
    std::string name_;
    PciFunction pci_;
};

/// 82443BX host bridge without AGP.
///
/// DEVIATION: 0xC0000..0xFFFFF is always memory. The attribute map (PAM) can be read back and has no effect; it reads at
/// reset as firmware leaves it that runs from memory.
class BxHost final : public PlainFunction {
  public:
    /// @param described  its subsystem says that the board describes itself by fw_cfg, as firmware wants to know
    BxHost(const PciSlot& slot, bool described);
};

/// PIIX4 function 0. The routes of PCI interrupts to the 8259s can be read back: nothing on the board has such an
/// interrupt.
class Piix4Isa final : public PlainFunction {
  public:
    explicit Piix4Isa(const PciSlot& slot);
};

/// PIIX4 function 3. The power management ports are the board's, where this says; there is no SMBus.
class Piix4Power final : public PlainFunction {
  public:
    Piix4Power(const PciSlot& slot, u16 pm_base);
};

}  // namespace vg::devices
