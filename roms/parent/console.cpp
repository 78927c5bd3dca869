#include "roms/parent/console.h"

#include <memory>

#include "machine/acpi_tables.h"
#include "roms/parent/pci_display.h"
#include "roms/parent/platform.h"
#include "roms/parent/processor.h"

namespace vg::parent {

namespace {

namespace board = machine::board;

constexpr u16 kData = board::kCom1, kInterruptEnable = kData + 1, kFifoControl = kData + 2, kLineControl = kData + 3,
              kModemControl = kData + 4, kLineStatus = kData + 5;
constexpr u8 kDataReady = 0x01, kTransmitEmpty = 0x20;
constexpr u64 kIoApicSelect = board::kIoApicBase, kIoApicWindow = board::kIoApicBase + 0x10;

std::unique_ptr<FrameConsole> screen;  // tidy: the machine has one console

void nothing(void*) {}  // waking up is enough: whoever waits looks at the port

}  // namespace

void start_console() {
    out8(kInterruptEnable, 0);
    out8(kLineControl, 0x80);  // divisor latch: 115200 baud
    out8(kData, 1);
    out8(kInterruptEnable, 0);
    out8(kLineControl, 0x03);
    out8(kFifoControl, 0x07);
    out8(kModemControl, 0x0b);  // OUT2: the interrupt reaches the IOAPIC
    const u8 vector = allocate_vector(nothing, nullptr);
    const auto redirect = [](u32 index, u32 value) {
        mmio_write<u32>(kIoApicSelect, index);
        mmio_write<u32>(kIoApicWindow, value);
    };
    constexpr u32 kEntry = 0x10 + 2 * board::kCom1Irq;
    redirect(kEntry + 1, static_cast<u32>(msi_address() >> 12 & 0xff) << 24);
    redirect(kEntry, vector);  // edge, physical, fixed
    out8(kInterruptEnable, 0x01);
    screen = find_display();
}

void console_write(std::string_view text) {
    if (screen != nullptr) screen->write(text);
    for (const char c : text) {
        if (c == '\n') {
            while ((in8(kLineStatus) & kTransmitEmpty) == 0) {
            }
            out8(kData, '\r');
        }
        while ((in8(kLineStatus) & kTransmitEmpty) == 0) {
        }
        out8(kData, static_cast<u8>(c));
    }
}

std::optional<u8> console_read() {
    if ((in8(kLineStatus) & kDataReady) == 0) return std::nullopt;
    return in8(kData);
}

void log_line(std::string_view line) {
    console_write(line);
    console_write("\n");
}

}  // namespace vg::parent
