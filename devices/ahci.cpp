#include "devices/ahci.h"

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

using namespace ahci;

namespace {

constexpr u32 kAbar = 5;
constexpr u32 kPortControlAndStatus = 0x92;  // ICH9: which ports are enabled, which have a disk

}  // namespace

Ahci::Ahci(const PciSlot& slot, EventQueue& events, u32 ports)
    : pci_(slot, {.vendor = 0x8086, .device = 0x2922, .class_code = 0x010601, .revision = 2}) {
    VG_ASSERT(ports >= 1 && ports <= kMaxPorts);
    pci_.add_memory_bar(kAbar, kRegisterBytes, PciFunction::Memory::Bits32, *this);
    pci_.set_interrupt_pin(1);
    pci_.add_power_management();
    pci_.add_msi(1);
    pci_.set_register(kPortControlAndStatus, 2, 0, 0x3f);
    for (u32 i = 0; i < ports; ++i) {
        ports_.push_back(std::make_unique<AhciPort>(i, events, pci_.dma(), [this] { update(); }));
    }
}

void Ahci::attach(u32 index, std::unique_ptr<AtaDisk> disk) {
    VG_ASSERT(index < ports_.size() && ports_[index]->disk() == nullptr);
    ports_[index]->attach(std::move(disk));
}

void Ahci::trace_to(Log& log) {
    for (const auto& port : ports_) port->trace_to(log);
}

void Ahci::reset_adapter(bool keep_addresses) {
    ghc_ = kGhcAhci;
    is_ = 0;
    for (const auto& port : ports_) port->reset(keep_addresses);
    pci_.set_intx(false);
}

void Ahci::reset() {
    reset_adapter(false);
    pci_.reset();
}

void Ahci::fields(StateVisitor& v) {
    pci_.fields(v);
    v("ghc", ghc_);
    v("is", is_);
    for (const auto& port : ports_) port->fields(v);
}

void Ahci::update() {
    u32 pending = 0;
    for (u32 i = 0; i < ports_.size(); ++i) {
        if (ports_[i]->interrupting()) pending |= 1u << i;
    }
    const bool fresh = (pending & ~is_) != 0;
    is_ |= pending;
    const bool level = is_ != 0 && (ghc_ & kGhcInterrupts) != 0;
    pci_.set_intx(level);
    if (level && fresh) pci_.signal(0);
}

u32 Ahci::read(u32 offset) const {
    if (offset >= kPortsOffset) {
        const u32 port = (offset - kPortsOffset) / kPortStride;
        return port < ports_.size() ? ports_[port]->read(offset % kPortStride) : 0;
    }
    switch (offset) {
        case kCap:
            return kCap64Bit | kCapQueueing | kCapOverride | kCapGen3 | kCapAhciOnly | (kSlots - 1) << kCapSlotsShift |
                   (port_count() - 1);
        case kGhc:
            return ghc_;
        case kIs:
            return is_;
        case kPi:
            return static_cast<u32>(low_mask(port_count()));
        case kVs:
            return kVersion;
        default:
            return 0;
    }
}

void Ahci::write(u32 offset, u32 value) {
    if (offset >= kPortsOffset) {
        const u32 port = (offset - kPortsOffset) / kPortStride;
        if (port < ports_.size()) ports_[port]->write(offset % kPortStride, value);
        return;
    }
    if (offset == kGhc) {
        if ((value & kGhcReset) != 0) return reset_adapter(true);
        const bool was_on = (ghc_ & kGhcInterrupts) != 0;
        ghc_ = kGhcAhci | (value & kGhcInterrupts);
        update();
        if (!was_on && (ghc_ & kGhcInterrupts) != 0 && is_ != 0) pci_.signal(0);
    } else if (offset == kIs) {
        is_ &= ~value;
        update();
    }
}

u64 Ahci::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; i += 4) {
        const u64 at = align_down(offset + i, 4);
        if (at < kRegisterBytes) value |= u64{read(static_cast<u32>(at))} << (i * 8);
    }
    return (value >> (offset % 4 * 8)) & low_mask(size * 8);
}

/// Registers are written as 32-bit words; narrower writes are dropped. DEVIATION: an ICH9 would merge them.
void Ahci::mmio_write(u64 offset, unsigned size, u64 value) {
    if (offset % 4 != 0) return;
    for (unsigned i = 0; i + 4 <= size; i += 4) {
        if (offset + i < kRegisterBytes) write(static_cast<u32>(offset + i), static_cast<u32>(value >> (i * 8)));
    }
}

}  // namespace vg::devices
