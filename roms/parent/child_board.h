// The chips of a generation-2 child, as machine::Chipset has them for children of the built-in parent.
#pragma once

#include <functional>
#include <string>

#include "base/events.h"
#include "base/log.h"
#include "devices/acpi_pm.h"
#include "devices/cmos_rtc.h"
#include "devices/core/io.h"
#include "devices/ioapic.h"
#include "devices/reset_control.h"
#include "devices/uart16550.h"

namespace vg::parent {

/// IOAPIC, COM1, CMOS clock, ACPI fixed hardware and reset register of one child. Interrupts become hypercalls.
class ChildBoard final : private devices::MessageSink {
  public:
    struct Events {
        std::function<void(u8)> console;
        std::function<void()> power_off, reset;
    };
    /// @param unix_seconds_at_zero  wall clock at virtual time 0
    ChildBoard(u64 partition_id, EventQueue& events, Log& log, s64 unix_seconds_at_zero, Events handlers);

    [[nodiscard]] u32 port_read(u16 port, unsigned size) { return ports_.read(port, size); }
    void port_write(u16 port, unsigned size, u32 value) { ports_.write(port, size, value); }
    /// Memory that is not RAM: the IOAPIC, or nobody (all-ones, dropped).
    [[nodiscard]] u64 mmio_read(u64 gpa, unsigned size);
    void mmio_write(u64 gpa, unsigned size, u64 value);
    /// A local APIC of the child finished a level-triggered interrupt.
    void end_of_interrupt(u8 vector) { ioapic_.eoi(vector); }

  private:
    void send(u64 address, u32 data) override;

    u64 partition_id_;
    devices::IoBus ports_;
    devices::Ioapic ioapic_;
    devices::Uart16550 com1_;
    devices::CmosRtc rtc_;
    devices::AcpiPm pm_;
    devices::ResetControl reset_;
};

}  // namespace vg::parent
