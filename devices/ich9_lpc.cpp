#include "devices/ich9_lpc.h"

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

using namespace q35;

Ich9Lpc::Ich9Lpc(const PciSlot& slot, u16 pm_base, std::vector<IrqLine*> pins, const std::array<IrqLine*, 16>& lines)
    : pci_(slot, {.vendor = 0x8086, .device = kLpcDevice, .class_code = 0x060100, .revision = 2}),
      pins_(std::move(pins)),
      lines_(lines),
      pm_ports_(
          [](u16 offset, unsigned size, u32& value) {
              value = 0;
              if (offset + kFirstPort == kPmSmiEnable && size == 4) value = kSmiApmEnable;
              return IoStatus::Ok;
          },
          [](u16, unsigned, u32) { return IoStatus::Ok; }) {
    VG_ASSERT(pins_.size() == kPirqCount);
    constexpr u32 kEnabled = 1, kAcpiEnabled = 0x80;
    pci_.set_multi_function();
    pci_.set_register(kPmBase, 4, pm_base | kEnabled);
    pci_.set_register(kAcpiControl, 1, kAcpiEnabled, 0x07);
    for (u32 i = 0; i < kPirqCount; ++i) pci_.set_register(i < 4 ? kPirqA + i : kPirqE + i - 4, 1, kPirqOff, 0x8f);
    pci_.set_register(kRcba, 4, 0, 0xffffc001);
    pci_.on_config_write([this](u32 offset, unsigned size) {
        if (offset < kPirqE + 4 && kPirqA < offset + size) update_lines();
    });
}

void Ich9Lpc::connect(std::vector<Pirq>& pirqs) {
    VG_ASSERT(pirqs.size() == kPirqCount);
    pirqs_ = &pirqs;
    for (u32 i = 0; i < kPirqCount; ++i) {
        pirqs[i].owner = this;
        pirqs[i].index = i;
    }
}

u8 Ich9Lpc::route(u32 pirq) const {
    return static_cast<u8>(pci_.peek(pirq < 4 ? kPirqA + pirq : kPirqE + pirq - 4, 1));
}

void Ich9Lpc::drive(u32 pirq) {
    pins_[pirq]->set((*pirqs_)[pirq].level);
    update_lines();
}

void Ich9Lpc::update_lines() {
    if (pirqs_ == nullptr) return;
    u16 wanted = 0;
    for (u32 i = 0; i < kPirqCount; ++i) {
        const u8 to = route(i);
        if ((*pirqs_)[i].level && (to & kPirqOff) == 0) wanted |= static_cast<u16>(1 << (to & 0xf));
    }
    for (u32 irq = 0; irq < lines_.size(); ++irq) {
        if (lines_[irq] != nullptr && bit(u64{wanted} ^ driven_, irq)) lines_[irq]->set(bit(u64{wanted}, irq));
    }
    driven_ = wanted;
}

void Ich9Lpc::reset() {
    pci_.reset();
    update_lines();
}

void Ich9Lpc::fields(StateVisitor& v) {
    pci_.fields(v);
    if (v.loading()) update_lines();
}

}  // namespace vg::devices
