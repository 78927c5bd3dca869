// ACPI fixed hardware: PM1a event and control blocks and the power management timer (ACPI 6.4 §4.8.3, §4.8.4).
#pragma once

#include <functional>

#include "base/events.h"
#include "devices/core/device.h"
#include "devices/core/irq.h"

namespace vg::devices {

/// One block of twelve ports: PM1_STS at 0, PM1_EN at 2, PM1_CNT at 4, PM_TMR at 8. The machine is always in ACPI mode
/// (FADT.SMI_CMD is 0), so SCI_EN is set from reset on.
class AcpiPm final : public Device, public PortIo {
  public:
    /// The guest wrote SLP_EN; `sleep_type` is SLP_TYP, 0..7, as named by the board's \_Sx objects.
    using Sleep = std::function<void(u8 sleep_type)>;

    static constexpr u32 kPortCount = 12;
    static constexpr u16 kControlOffset = 4;
    static constexpr u64 kTimerHz = 3'579'545;

    AcpiPm(EventQueue& events, IrqLine& sci, Sleep sleep);

    [[nodiscard]] std::string_view name() const override { return "acpi_pm"; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PortIo* port_io() override { return this; }
    IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    IoStatus port_write(u16 offset, unsigned size, u32 value) override;

    /// The power button was pressed: asks the guest to shut down.
    void press_power_button();
    /// The timer as the guest sees it: 32 bits (FADT flag TMR_VAL_EXT).
    [[nodiscard]] u32 timer() const;

  private:
    struct State {
        u16 status = 0;
        u16 enable = 0;
        u16 control = 1;
        u64 wraps_seen = 0;  // changes of the timer's top bit already turned into TMR_STS
        bool sci_level = false;
    };

    /// Changes of the timer's top bit since virtual time 0.
    [[nodiscard]] u64 top_bit_changes() const;
    void collect_timer_status();
    void write_byte(u16 offset, u8 value);
    /// Drives SCI and arms the event of the next timer status, if it is wanted.
    void update();

    EventQueue& events_;
    IrqLine& sci_;
    Sleep sleep_;
    EventQueue::TimerId wrap_timer_;
    State state_;
};

}  // namespace vg::devices
