#include "roms/parent/child_board.h"

#include "base/bits.h"
#include "hv/spec/system.h"
#include "machine/acpi_tables.h"
#include "roms/parent/hypercalls.h"

namespace vg::parent {

namespace board = machine::board;

ChildBoard::ChildBoard(u64 partition_id, EventQueue& events, Log& log, s64 unix_seconds_at_zero, Events handlers)
    : partition_id_(partition_id),
      ports_(log),
      ioapic_(static_cast<devices::MessageSink&>(*this)),
      com1_("com1", ioapic_.line(board::kCom1Irq), std::move(handlers.console)),
      rtc_(events, ioapic_.line(board::kRtcIrq), unix_seconds_at_zero),
      pm_(events, ioapic_.line(board::kSciIrq),
          [off = std::move(handlers.power_off)](u8 type) {
              if (type == board::kSleepTypeS5) off();
          }),
      reset_([again = std::move(handlers.reset)](bool) { again(); }) {
    ports_.map("com1", board::kCom1, devices::Uart16550::kPortCount, com1_);
    ports_.map("cmos_rtc", board::kRtcPort, devices::CmosRtc::kPortCount, rtc_);
    ports_.map("acpi_pm", board::kPmBase, devices::AcpiPm::kPortCount, pm_);
    ports_.map("reset_control", board::kResetPort, 1, reset_);
}

u64 ChildBoard::mmio_read(u64 gpa, unsigned size) {
    if (gpa < board::kIoApicBase || !fits(gpa - board::kIoApicBase, size, devices::Ioapic::kSize)) return ~u64{0};
    return ioapic_.mmio_read(gpa - board::kIoApicBase, size);
}

void ChildBoard::mmio_write(u64 gpa, unsigned size, u64 value) {
    if (gpa < board::kIoApicBase || !fits(gpa - board::kIoApicBase, size, devices::Ioapic::kSize)) return;
    ioapic_.mmio_write(gpa - board::kIoApicBase, size, value);
}

/// SDM 3A "Message Signalled Interrupts" to K-220. A message that names nobody is lost, as on a bus.
void ChildBoard::send(u64 address, u32 data) {
    namespace control = hv::interrupt_control;
    hv::AssertInterruptIn in{};
    in.partition_id = partition_id_;
    in.control = bits(data, 10, 8) | (bit(data, 15) ? control::kLevel : 0) | (bit(address, 2) ? control::kLogical : 0);
    in.destination = bits(address, 19, 12);
    in.vector = data & 0xff;
    (void)call(Call::AssertVirtualInterrupt, in);
}

}  // namespace vg::parent
