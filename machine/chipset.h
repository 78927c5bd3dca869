// The chips that a generation-2 partition and the bare PC have in common, and their wiring.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "base/events.h"
#include "base/log.h"
#include "cpu/apic.h"
#include "devices/acpi_pm.h"
#include "devices/cmos_rtc.h"
#include "devices/core/io.h"
#include "devices/core/port_window.h"
#include "devices/ioapic.h"
#include "devices/reset_control.h"
#include "devices/uart16550.h"
#include "machine/acpi_tables.h"

namespace vg::machine {

/// What the guest asks of the board.
struct ChipsetEvents {
    std::function<void()> power_off, reset;
    std::function<void(u8)> console;  ///< a byte sent by COM1
};

/// IOAPIC, COM1, CMOS clock, ACPI fixed hardware, reset register, mapped on one port bus. The IOAPIC's MMIO range is
/// the owner's to map (board::kIoApicBase).
class Chipset final : private devices::MessageSink, private cpu::EoiListener {
  public:
    /// @param apics  where interrupt messages go; the IOAPIC listens to its EOIs
    Chipset(EventQueue& events, devices::IoBus& io, cpu::ApicBus& apics, u64 start_unix_seconds, ChipsetEvents handlers,
            u16 pm_base = board::kPmBase);

    [[nodiscard]] devices::Ioapic& ioapic() { return ioapic_; }
    /// ISA interrupt 0..15: an IOAPIC pin (0 goes to pin 2, as on every PC) and what `connect` added to it.
    [[nodiscard]] devices::IrqLine& isa_line(u32 irq) { return isa_lines_[irq]; }
    /// Lets ISA interrupt `irq` drive `also` besides its IOAPIC pin.
    void connect(u32 irq, devices::IrqLine& also) { isa_lines_[irq].second = &also; }
    /// Configuration address register (four ports) that shares its place with the reset register.
    void connect_pci(devices::PortIo& config_address) { pci_config_ = &config_address; }
    /// The IOAPIC's messages go to the processors through an interrupt remapping unit.
    void remap_ioapic(devices::MessageSink& unit) { ioapic_messages_.target = &unit; }
    /// Where interrupt messages of devices go: the processors.
    [[nodiscard]] devices::MessageSink& messages() { return *this; }
    /// Cuts the CMOS clock off from its interrupt, while something else has taken it over.
    void cut_rtc(bool cut);
    [[nodiscard]] devices::Uart16550& com1() { return com1_; }
    [[nodiscard]] devices::AcpiPm& pm() { return pm_; }
    [[nodiscard]] devices::CmosRtc& rtc() { return rtc_; }
    /// What a reset of the board does: all but the clock, which runs on without its interrupts.
    void reset();
    void fields(StateVisitor& v);

  private:
    struct IsaLine final : devices::IrqLine {
        devices::IrqLine* pin = nullptr;
        devices::IrqLine* second = nullptr;
        void set(bool level) override {
            pin->set(level);
            if (second != nullptr) second->set(level);
        }
    };
    using IsaLines = std::array<IsaLine, 16>;
    /// A line that can be cut.
    struct SwitchedLine final : devices::IrqLine {
        explicit SwitchedLine(devices::IrqLine& to) : target(to) {}
        void set(bool new_level) override {
            level = new_level;
            if (!cut) target.set(level);
        }
        devices::IrqLine& target;
        bool level = false, cut = false;
    };
    /// Where the IOAPIC's messages go; it can be changed.
    struct SwitchedSink final : devices::MessageSink {
        explicit SwitchedSink(devices::MessageSink& to) : target(&to) {}
        void send(u64 address, u32 data) override { target->send(address, data); }
        devices::MessageSink* target;
    };
    static IsaLines pins_of(devices::Ioapic& ioapic);

    void send(u64 address, u32 data) override;
    void eoi(u8 vector) override { ioapic_.eoi(vector); }

    cpu::ApicBus& apics_;
    SwitchedSink ioapic_messages_;
    devices::Ioapic ioapic_;
    IsaLines isa_lines_;
    devices::Uart16550 com1_;
    SwitchedLine rtc_line_;
    devices::CmosRtc rtc_;
    devices::AcpiPm pm_;
    devices::ResetControl reset_;
    devices::PortIo* pci_config_ = nullptr;
    devices::PortWindow config_ports_;
};

/// Address and data of a message-signalled interrupt as an APIC message. SDM 3A "Message Signalled Interrupts".
[[nodiscard]] cpu::InterruptMessage decode_msi(u64 address, u32 data);

}  // namespace vg::machine
