#include "devices/q35_host.h"

#include "base/bits.h"

namespace vg::devices {

using namespace q35;

namespace {

/// Firmware takes a subsystem of these for a board that describes itself by fw_cfg.
constexpr u16 kSubsystemVendor = 0x1af4, kSubsystem = 0x1100;

}  // namespace

Q35Host::Q35Host(const PciSlot& slot, u64 config_base, Shadow shadow)
    : pci_(slot, {.vendor = 0x8086,
                  .device = kHostDevice,
                  .class_code = 0x060000,
                  .revision = 2,
                  .subsystem_vendor = kSubsystemVendor,
                  .subsystem = kSubsystem}),
      shadow_(std::move(shadow)) {
    pci_.set_register(kPciExBar, 4, static_cast<u32>(config_base | kPciExBarEnable));
    pci_.set_register(kPciExBar + 4, 4, static_cast<u32>(config_base >> 32));
    pci_.set_register(kPam, 1, 0, (kPamRead | kPamWrite) << 4);
    for (u32 i = 1; i < kPamCount; ++i) pci_.set_register(kPam + i, 1, 0, 0x33);
    pci_.set_register(kSmram, 1, 0x02, 0x70);
    pci_.on_config_write([this](u32 offset, unsigned size) {
        if (offset < kPam + kPamCount && kPam < offset + size) update();
    });
}

/// Segment 0 is the BIOS, then 16 KiB each.
u8 Q35Host::nibble(u32 segment) const {
    const u32 half = segment == 0 ? 1 : segment + 1;  // register 0's low nibble is not there
    return static_cast<u8>(pci_.peek(kPam + half / 2, 1) >> (half % 2 * 4) & (kPamRead | kPamWrite));
}

void Q35Host::update() {
    for (u32 i = 0; i < kSegments; ++i) {
        const u8 now = nibble(i);
        if (now == told_[i]) continue;
        told_[i] = now;
        const u64 base = i == 0 ? kPamBios : kPamBase + (i - 1) * kPamSegment;
        shadow_(base, i == 0 ? kPamBiosSize : kPamSegment, (now & kPamRead) != 0, (now & kPamWrite) != 0);
    }
}

void Q35Host::reset() {
    pci_.reset();
    update();
}

void Q35Host::fields(StateVisitor& v) {
    pci_.fields(v);
    if (v.loading()) update();
}

}  // namespace vg::devices
