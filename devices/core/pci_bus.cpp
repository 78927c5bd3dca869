#include "devices/core/pci_bus.h"

#include <algorithm>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

using namespace pci;

PciBus::PciBus(Upstream& upstream, const Windows& windows, const std::vector<IrqLine*>& inputs, u32 first_wired)
    : upstream_(upstream),
      windows_(windows),
      first_wired_(first_wired),
      address_port_(
          [this](u16 offset, unsigned size, u32& value) {
              if (offset != 0 || size != 4) return IoStatus::NoRegister;
              value = address_ & ~u32{3};
              return IoStatus::Ok;
          },
          [this](u16 offset, unsigned size, u32 value) {
              if (offset != 0 || size != 4) return IoStatus::NoRegister;
              // DEVIATION: PCI Local Bus 3.0 §3.2.2.3.2 has bits 1:0 read-only; here, as in other virtual machines, they add
              // to the data port's offset, which kvm-unit-tests' PCI library relies on.
              address_ = value & (kConfigEnable | 0x00ff'ffff);
              return IoStatus::Ok;
          }),
      data_port_(
          [this](u16 offset, unsigned size, u32& value) {
              u32 reg = 0;
              if (offset % size != 0) return IoStatus::BadSize;  // the bus splits it
              value = selected(offset, size, reg) ? config_read(Rid(static_cast<u16>(address_ >> 8)), reg, size)
                                                  : static_cast<u32>(low_mask(size * 8));
              return IoStatus::Ok;
          },
          [this](u16 offset, unsigned size, u32 value) {
              u32 reg = 0;
              if (offset % size != 0) return IoStatus::BadSize;
              if (selected(offset, size, reg)) config_write(Rid(static_cast<u16>(address_ >> 8)), reg, size, value);
              return IoStatus::Ok;
          }),
      ports_(
          [this](u16 offset, unsigned size, u32& value) {
              const u64 port = windows_.ports.base + offset;
              const Claim* claim = find(port, true);
              if (claim == nullptr) return IoStatus::NoRegister;
              if (!fits(port - claim->decode.base, size, claim->decode.size)) return IoStatus::BadSize;
              return claim->function->io_handler(claim->decode.bar)
                  .port_read(static_cast<u16>(port - claim->decode.base), size, value);
          },
          [this](u16 offset, unsigned size, u32 value) {
              const u64 port = windows_.ports.base + offset;
              const Claim* claim = find(port, true);
              if (claim == nullptr) return IoStatus::NoRegister;
              if (!fits(port - claim->decode.base, size, claim->decode.size)) return IoStatus::BadSize;
              return claim->function->io_handler(claim->decode.bar)
                  .port_write(static_cast<u16>(port - claim->decode.base), size, value);
          }),
      low_(*this, windows_.low),
      high_(*this, windows_.high) {
    VG_ASSERT(!inputs.empty() && windows.ports.base + windows.ports.size <= 0x10000);
    for (IrqLine* line : inputs) inputs_.push_back({line, 0});
}

PciBus::~PciBus() {
    for (const auto& [rid, function] : functions_) function->on_decode_change(nullptr);
}

PciSlot PciBus::slot(u32 device, u32 function) {
    VG_ASSERT(device < 32 && function < 8);
    const Rid rid(0, device, function);
    // Functions of one device share INTA here: what matters is that _PRT can be derived from the device alone.
    const auto [at, fresh] = pins_.emplace(rid, std::make_unique<Pin>(inputs_[input_of(device, 1)]));
    VG_ASSERT(fresh);
    return {rid, upstream_.dma(rid), upstream_.messages(rid), *at->second};
}

void PciBus::attach(PciFunction& function) {
    const Rid rid = function.rid();
    VG_ASSERT(pins_.count(rid) != 0);
    if (rid.function() != 0) {
        const auto first = functions_.find(Rid(rid.bus(), rid.device(), 0));
        VG_ASSERT(first != functions_.end() && first->second->peek(kHeaderType, 1) == kMultiFunction);
    }
    VG_ASSERT(functions_.emplace(rid, &function).second);
    function.on_decode_change([this] { update_claims(); });
    update_claims();
}

void PciBus::reset() { address_ = 0; }

void PciBus::fields(StateVisitor& v) { v("address", address_); }

void PciBus::Pin::set(bool level) {
    if (level == level_) return;
    level_ = level;
    input_.asserted += level ? 1u : ~0u;
    if (input_.asserted == (level ? 1u : 0u)) input_.line->set(level);
}

// ---- Configuration

u32 PciBus::config_read(Rid rid, u32 offset, unsigned size) const {
    const auto found = functions_.find(rid);
    return found == functions_.end() ? static_cast<u32>(low_mask(size * 8)) : found->second->config_read(offset, size);
}

void PciBus::config_write(Rid rid, u32 offset, unsigned size, u32 value) {
    if (const auto found = functions_.find(rid); found != functions_.end())
        found->second->config_write(offset, size, value);
}

bool PciBus::selected(u16 port_offset, unsigned size, u32& reg) const {
    reg = ((address_ & 0xff) | port_offset) & ~(size - 1);
    return (address_ & kConfigEnable) != 0 && fits(reg, size, kLegacyConfigSize);
}

u64 PciBus::Ecam::mmio_read(u64 offset, unsigned size) {
    if (size == 8 || offset % size != 0) {  // more than a configuration request can carry
        const unsigned half = size / 2;
        return mmio_read(offset, half) | mmio_read(offset + half, half) << (half * 8);
    }
    return bus_.config_read(Rid(static_cast<u16>(offset / kConfigSize)), offset % kConfigSize, size);
}

void PciBus::Ecam::mmio_write(u64 offset, unsigned size, u64 value) {
    if (size == 8 || offset % size != 0) {
        const unsigned half = size / 2;
        mmio_write(offset, half, value & low_mask(half * 8));
        mmio_write(offset + half, half, value >> (half * 8));
        return;
    }
    bus_.config_write(Rid(static_cast<u16>(offset / kConfigSize)), offset % kConfigSize, size, static_cast<u32>(value));
}

// ---- Windows

void PciBus::update_claims() {
    const auto inside = [](const Range& range, const PciFunction::Decode& decode) {
        return decode.base >= range.base && fits(decode.base - range.base, decode.size, range.size);
    };
    claims_.clear();
    for (const auto& [rid, function] : functions_) {
        for (const PciFunction::Decode& decode : function->decodes()) {
            const bool reachable = decode.io ? inside(windows_.ports, decode)
                                             : inside(windows_.low, decode) || inside(windows_.high, decode);
            if (reachable) claims_.push_back({function, decode});
        }
    }
}

const PciBus::Claim* PciBus::find(u64 address, bool io) const {
    const auto at = std::find_if(claims_.begin(), claims_.end(), [&](const Claim& claim) {
        return claim.decode.io == io && address - claim.decode.base < claim.decode.size;
    });
    return at == claims_.end() ? nullptr : &*at;
}

u64 PciBus::memory_read(u64 address, unsigned size) {
    const Claim* claim = find(address, false);
    if (claim != nullptr && fits(address - claim->decode.base, size, claim->decode.size)) {
        return claim->function->memory_read(claim->decode.bar, address - claim->decode.base, size) & low_mask(size * 8);
    }
    if (size == 1) return 0xff;
    const unsigned half = size / 2;  // across an edge of a range
    return memory_read(address, half) | memory_read(address + half, half) << (half * 8);
}

void PciBus::memory_write(u64 address, unsigned size, u64 value) {
    const Claim* claim = find(address, false);
    if (claim != nullptr && fits(address - claim->decode.base, size, claim->decode.size)) {
        return claim->function->memory_write(claim->decode.bar, address - claim->decode.base, size,
                                             value & low_mask(size * 8));
    }
    if (size == 1) return;
    const unsigned half = size / 2;
    memory_write(address, half, value);
    memory_write(address + half, half, value >> (half * 8));
}

u64 PciBus::MemoryWindow::mmio_read(u64 offset, unsigned size) { return bus_.memory_read(range_.base + offset, size); }
void PciBus::MemoryWindow::mmio_write(u64 offset, unsigned size, u64 value) {
    bus_.memory_write(range_.base + offset, size, value);
}

}  // namespace vg::devices
