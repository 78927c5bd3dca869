// The machine's own registers: PCI configuration, power, reset, and the hypervisor's clock.
#include "base/assert.h"
#include "hv/spec/msr.h"
#include "hv/spec/synic.h"
#include "machine/acpi_tables.h"
#include "roms/parent/platform.h"
#include "roms/parent/processor.h"

namespace vg::parent {

namespace {
namespace board = machine::board;

u16 select_configuration(u16 bdf, u8 offset, unsigned size) {
    constexpr u16 kAddress = 0xcf8, kData = 0xcfc;
    VG_ASSERT((size == 1 || size == 2 || size == 4) && offset % size == 0);
    out32(kAddress, u32{1} << 31 | u32{bdf} << 8 | (offset & 0xfcu));
    return static_cast<u16>(kData + offset % 4);
}

}  // namespace

u32 pci_read(u16 bdf, u8 offset, unsigned size) {
    const u16 port = select_configuration(bdf, offset, size);
    return size == 1 ? in8(port) : size == 2 ? in16(port) : in32(port);
}

void pci_write(u16 bdf, u8 offset, unsigned size, u32 value) {
    const u16 port = select_configuration(bdf, offset, size);
    if (size == 1) return out8(port, static_cast<u8>(value));
    if (size == 2) return out16(port, static_cast<u16>(value));
    out32(port, value);
}

u64 reference_time_100ns() { return read_msr(hv::msr::TIME_REF_COUNT); }

void set_alarm(u64 when_100ns) { write_msr(hv::msr::STIMER0_CONFIG + 1, when_100ns == 0 ? 1 : when_100ns); }

void panic(std::string_view why) {
    log_line("panic:");
    log_line(why);
    out8(board::kResetPort, board::kResetValue);
    for (;;) asm volatile("cli; hlt");
}

void power_off() {
    constexpr u16 kControl = board::kPmBase + 4, kSleepEnable = 1 << 13;
    out16(kControl, static_cast<u16>(board::kSleepTypeS5 << 10 | kSleepEnable));
    panic("the machine did not power off");
}

}  // namespace vg::parent
