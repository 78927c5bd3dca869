#include "machine/chipset.h"

#include "base/bits.h"
#include "machine/acpi_tables.h"

namespace vg::machine {

cpu::InterruptMessage decode_msi(u64 address, u32 data) {
    cpu::InterruptMessage message;
    message.destination = static_cast<u32>(bits(address, 19, 12));
    message.logical = bit(address, 2);
    message.mode = static_cast<cpu::DeliveryMode>(bits(data, 10, 8));
    message.vector = static_cast<u8>(data);
    message.assert_level = bit(data, 14) || !bit(data, 15);
    message.level = bit(data, 15);
    return message;
}

Chipset::Chipset(EventQueue& events, devices::IoBus& io, cpu::ApicBus& apics, u64 start_unix_seconds, ChipsetEvents handlers)
    : apics_(apics),
      ioapic_(*this),
      com1_("com1", ioapic_.line(board::kCom1Irq), std::move(handlers.console)),
      rtc_(events, ioapic_.line(board::kRtcIrq), static_cast<s64>(start_unix_seconds)),
      pm_(events, ioapic_.line(board::kSciIrq),
          [off = std::move(handlers.power_off)](u8 type) {
              if (type == board::kSleepTypeS5) off();
          }),
      reset_([again = std::move(handlers.reset)](bool) { again(); }) {
    io.map("com1", board::kCom1, devices::Uart16550::kPortCount, com1_);
    io.map("cmos_rtc", board::kRtcPort, devices::CmosRtc::kPortCount, rtc_);
    io.map("acpi_pm", board::kPmBase, devices::AcpiPm::kPortCount, pm_);
    io.map("reset_control", board::kResetPort, 1, reset_);
    apics_.add_eoi_listener(*this);
}

void Chipset::send(u64 address, u32 data) { apics_.deliver(decode_msi(address, data)); }

void Chipset::fields(StateVisitor& v) {
    for (devices::Device* device : std::initializer_list<devices::Device*>{&ioapic_, &com1_, &rtc_, &pm_, &reset_}) {
        VisitScope scope(v, device->name());
        device->fields(v);
    }
}

}  // namespace vg::machine
