#include "devices/piix4.h"

namespace vg::devices {

namespace {

constexpr u16 kIntel = 0x8086;
/// Firmware takes a subsystem of these for a board that describes itself by fw_cfg.
constexpr u16 kDescribedVendor = 0x1af4, kDescribed = 0x1100;

constexpr u32 kPam = 0x59, kPamCount = 7;
constexpr u32 kPamAllMemory = 0x33;  // reads and writes, in both halves
constexpr u32 kPirqRoutes = 0x60, kPirqCount = 4, kPirqOff = 0x80;
constexpr u32 kPmBase = 0x40, kPmEnable = 0x80, kSmbusBase = 0x90, kSmbusConfig = 0xd2;
constexpr u32 kIoSpaceMark = 1;

}  // namespace

BxHost::BxHost(const PciSlot& slot, bool described)
    : PlainFunction("host_bridge", slot,
                    {.vendor = kIntel,
                     .device = 0x7192,
                     .class_code = 0x060000,
                     .revision = 3,
                     .subsystem_vendor = described ? kDescribedVendor : u16{0},
                     .subsystem = described ? kDescribed : u16{0}}) {
    pci()->set_register(kPam, 1, 0x30, 0x30);
    for (u32 i = 1; i < kPamCount; ++i) pci()->set_register(kPam + i, 1, kPamAllMemory, 0x33);
}

Piix4Isa::Piix4Isa(const PciSlot& slot)
    : PlainFunction("isa_bridge", slot, {.vendor = kIntel, .device = 0x7110, .class_code = 0x060100, .revision = 1}) {
    pci()->set_multi_function();
    for (u32 i = 0; i < kPirqCount; ++i) pci()->set_register(kPirqRoutes + i, 1, kPirqOff, 0x8f);
}

Piix4Power::Piix4Power(const PciSlot& slot, u16 pm_base)
    : PlainFunction("power_management", slot,
                    {.vendor = kIntel, .device = 0x7113, .class_code = 0x068000, .revision = 2}) {
    pci()->set_register(kPmBase, 4, pm_base | kIoSpaceMark);
    pci()->set_register(kPmEnable, 1, 1);
    pci()->set_register(kSmbusBase, 4, kIoSpaceMark);
    pci()->set_register(kSmbusConfig, 1, 0);
}

}  // namespace vg::devices
