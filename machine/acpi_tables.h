// ACPI tables of partitions and of the bare PC: RSDP, XSDT, FADT, FACS, MADT, DSDT (ACPI 6.5 §5.2), and DMAR
// (VT-d 4.1 "BIOS Considerations").
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "devices/reset_control.h"
#include "machine/guest_memory.h"

namespace vg::machine {

/// Fixed addresses of the board that both the tables and the chips use.
namespace board {
inline constexpr u64 kAcpiBase = 0xe0000, kAcpiSize = 0x20000;
inline constexpr u64 kIoApicBase = 0xfec00000;
inline constexpr u64 kIommuBase = 0xfed90000;
inline constexpr u16 kIoApicRid = 0xf0f8;             ///< requester id f0:1f.0 of the IOAPIC's messages, on no bus
inline constexpr u64 kLowGapBase = 0xf8000000;        ///< RAM stops here; MMIO up to 4 GiB
inline constexpr u64 kLowMmioSize = 0x06c00000;       ///< what VMBus may use of the low gap: below the IOAPIC
inline constexpr u64 kHighMmioSize = u64{1} << 32;    ///< and above the end of RAM
// The bare PC: RAM up to 3 GiB, then PCI's memory, then its configuration space; chips from the IOAPIC's address on.
inline constexpr u64 kPciMemoryBase = 0xc0000000, kPciMemorySize = 0x20000000;
inline constexpr u64 kDisplayMemoryBase = 0xdf000000;  ///< the end of PCI's memory is the display's, where there is one
inline constexpr u64 kEcamBase = 0xe0000000;
inline constexpr u32 kPciBuses = 256;
inline constexpr u64 kPciHighMemoryAlign = u64{1} << 32, kPciHighMemorySize = u64{1} << 36;  ///< behind the end of RAM
// The same with firmware, which expects the chips of a Q35 board: RAM up to the configuration space, PCI's memory up to the
// IOAPIC, ACPI's ports where firmware moves them. The display's memory is wherever its base address says, and at first
// where no processor reaches.
inline constexpr u64 kFirmwareEcamBase = 0xb0000000;
inline constexpr u64 kFirmwarePciMemoryBase = 0xc0000000, kFirmwarePciMemorySize = kIoApicBase - kFirmwarePciMemoryBase;
inline constexpr u16 kFirmwarePciPortBase = 0x6000;
inline constexpr u32 kFirmwarePciPortCount = 0xa000;
inline constexpr u16 kFirmwarePmBase = 0x600;
inline constexpr u64 kDisplayHome = u64{1} << 46;
inline constexpr u16 kPciPortBase = 0xc000;
inline constexpr u32 kPciPortCount = 0x3000;
inline constexpr u32 kPciFirstGsi = 16, kPciGsiCount = 8;  ///< IOAPIC pins of PCI interrupts
inline constexpr u16 kPmBase = 0x400;                 ///< ACPI fixed hardware: PM1a event, control, timer
inline constexpr u16 kResetPort = devices::ResetControl::kPort;  ///< FADT reset register
inline constexpr u8 kResetValue = devices::ResetControl::kSystemReset;
inline constexpr u8 kSciIrq = 9;
inline constexpr u8 kTimerPin = 2;                       ///< IOAPIC pin of ISA interrupt 0
inline constexpr u8 kSleepTypeS5 = 5;
inline constexpr u16 kCom1 = 0x3f8;
inline constexpr u8 kCom1Irq = 4;
inline constexpr u16 kRtcPort = 0x70;
inline constexpr u8 kRtcIrq = 8;
}  // namespace board

/// What the DMAR table says of the remapping unit: one for all PCI devices and the IOAPIC.
struct DmarOptions {
    u64 registers = board::kIommuBase;
    u8 host_address_bits = 46;
    bool interrupt_remapping = true;
    bool x2apic = true;  ///< false asks the system not to use x2APIC
    u8 ioapic_id = 0;    ///< as in the MADT
    u16 ioapic_rid = board::kIoApicRid;
};

/// What the tables say about the PCI root. Ranges are base and size; `high_memory.size` may be 0, and so may `ecam.size`: a
/// root that is reached by configuration ports only.
struct AcpiPci {
    struct Range {
        u64 base = 0, size = 0;
    };
    Range ecam, low_memory, high_memory, ports;
    bool legacy_ports = false;  ///< functions have ports below `ports` too: IDE in compatibility mode
    /// Interrupt of each device's pin (0 is INTA), level-triggered and active low.
    std::array<std::array<u32, 4>, 32> gsi{};
    /// The same as an input of the 8259s, for systems that use those; 0: there is none.
    std::array<std::array<u32, 4>, 32> isa{};
};

struct AcpiOptions {
    std::vector<u32> apic_ids;   ///< in VP index order
    u64 memory_top = 0;          ///< end of RAM above 4 GiB, or 4 GiB
    bool has_pic = false;        ///< a PC's chips: two 8259 besides the IOAPIC, ISA interrupt 0 on IOAPIC pin 2, an 8042
    bool hpet = false;           ///< high precision event timers at devices::Hpet::kBase
    bool vmbus = false;          ///< the VMBus device (B-11..B-13): with MMIO windows, or below the PCI root if there is one
    bool vga = false;            ///< there may be a VGA
    u16 pm_base = board::kPmBase;
    std::optional<DmarOptions> dmar;
    std::optional<AcpiPci> pci;  ///< the PCI root bridge
    std::vector<u8> dsdt;        ///< replaces the built-in DSDT when not empty: a complete table
    std::string dsdt_name;       ///< for messages
};

/// One table as laid out, for tests and `inspect`.
struct AcpiTable {
    std::string signature;
    Gpa address;
    std::vector<u8> content;
};

/// All tables at their addresses within [board::kAcpiBase, +kAcpiSize); the RSDP is the first.
/// Error (Usage): the DSDT given is malformed (position and remedy in the text).
[[nodiscard]] Result<std::vector<AcpiTable>> build_acpi(const AcpiOptions& options);

}  // namespace vg::machine
