#include "machine/chipset.h"

#include "base/bits.h"
#include "machine/acpi_tables.h"

namespace vg::machine {

cpu::InterruptMessage decode_msi(u64 address, u32 data) {
    cpu::InterruptMessage message;
    // Bits 31:8 are there only in what a remapping unit sends (VT-d 4.1 "Fault Event Upper Address Register").
    message.destination = static_cast<u32>(bits(address, 19, 12) | bits(address, 63, 40) << 8);
    message.logical = bit(address, 2);
    message.mode = static_cast<cpu::DeliveryMode>(bits(data, 10, 8));
    message.vector = static_cast<u8>(data);
    message.assert_level = bit(data, 14) || !bit(data, 15);
    message.level = bit(data, 15);
    return message;
}

namespace {

/// The reset register lies inside PCI's configuration address register and answers byte accesses only; other ones are
/// PCI's, where there is PCI. ICH9 data sheet "RST_CNT".
constexpr u16 kConfigAddressPort = 0xcf8;
constexpr bool is_reset_register(u16 offset, unsigned size) {
    return kConfigAddressPort + offset == board::kResetPort && size == 1;
}

}  // namespace

Chipset::Chipset(EventQueue& events, devices::IoBus& io, cpu::ApicBus& apics, u64 start_unix_seconds, ChipsetEvents handlers,
                 u16 pm_base)
    : apics_(apics),
      ioapic_messages_(*this),
      ioapic_(ioapic_messages_),
      isa_lines_(pins_of(ioapic_)),
      com1_("com1", isa_line(board::kCom1Irq), std::move(handlers.console)),
      rtc_line_(isa_line(board::kRtcIrq)),
      rtc_(events, rtc_line_, static_cast<s64>(start_unix_seconds)),
      pm_(events, isa_line(board::kSciIrq),
          [off = std::move(handlers.power_off)](u8 type) {
              if (type == board::kSleepTypeS5) off();
          }),
      reset_([again = std::move(handlers.reset)](bool) { again(); }),
      config_ports_(
          [this](u16 offset, unsigned size, u32& value) {
              if (is_reset_register(offset, size)) return reset_.port_read(0, size, value);
              return pci_config_ != nullptr ? pci_config_->port_read(offset, size, value) : devices::IoStatus::NoRegister;
          },
          [this](u16 offset, unsigned size, u32 value) {
              if (is_reset_register(offset, size)) return reset_.port_write(0, size, value);
              return pci_config_ != nullptr ? pci_config_->port_write(offset, size, value) : devices::IoStatus::NoRegister;
          }) {
    io.map("com1", board::kCom1, devices::Uart16550::kPortCount, com1_);
    io.map("cmos_rtc", board::kRtcPort, devices::CmosRtc::kPortCount, rtc_);
    io.map("acpi_pm", pm_base, devices::AcpiPm::kPortCount, pm_);
    io.map("reset_control", kConfigAddressPort, 4, config_ports_);
    apics_.add_eoi_listener(*this);
}

Chipset::IsaLines Chipset::pins_of(devices::Ioapic& ioapic) {
    IsaLines lines;
    for (u32 irq = 0; irq < lines.size(); ++irq) lines[irq].pin = &ioapic.line(irq == 0 ? board::kTimerPin : irq);
    return lines;
}

void Chipset::cut_rtc(bool cut) {
    if (rtc_line_.cut == cut) return;
    rtc_line_.cut = cut;
    rtc_line_.target.set(!cut && rtc_line_.level);
}

void Chipset::send(u64 address, u32 data) { apics_.deliver(decode_msi(address, data)); }

void Chipset::reset() {
    rtc_.silence();
    com1_.reset();
    pm_.reset();
    reset_.reset();
    ioapic_.reset();
}

void Chipset::fields(StateVisitor& v) {
    for (devices::Device* device : std::initializer_list<devices::Device*>{&ioapic_, &com1_, &rtc_, &pm_, &reset_}) {
        VisitScope scope(v, device->name());
        device->fields(v);
    }
    // Before the HPET, which cuts the line if it is not cut yet.
    v("rtc_level", rtc_line_.level);
    v("rtc_cut", rtc_line_.cut);
}

}  // namespace vg::machine
