#include "devices/edu.h"

#include <algorithm>

#include "base/bits.h"

namespace vg::devices {

using namespace edu;

Edu::Edu(const PciSlot& slot, EventQueue& events)
    : events_(events),
      pci_(slot, {.vendor = 0x1234, .device = 0x11e8, .class_code = 0x00ff00, .revision = 0x10}),
      compute_timer_(events.add("edu.compute", [this](VTime) { computed(); })),
      transfer_timer_(events.add("edu.transfer", [this](VTime) { transfer(); })) {
    pci_.add_memory_bar(kBar, kRegisterBytes, PciFunction::Memory::Bits32, *this);
    pci_.add_msi(1);
    pci_.set_interrupt_pin(1);
}

Edu::~Edu() {
    events_.remove(compute_timer_);
    events_.remove(transfer_timer_);
}

void Edu::reset() {
    events_.cancel(compute_timer_);
    events_.cancel(transfer_timer_);
    state_ = State{};
    pci_.set_intx(false);
    pci_.reset();
}

void Edu::fields(StateVisitor& v) {
    pci_.fields(v);
    v("liveness", state_.liveness);
    v("factorial", state_.factorial);
    v("status", state_.status);
    v("interrupts", state_.interrupts);
    v("source", state_.source);
    v("destination", state_.destination);
    v("count", state_.count, Fmt::Dec);
    v("command", state_.command);
    v("buffer", state_.buffer);
}

u64 Edu::mmio_read(u64 offset, unsigned size) {
    const u64 nothing = low_mask(size * 8);
    if (size < 4 || (size == 8 && offset < kDmaSource)) return nothing;
    switch (offset) {
        case kId:
            return kIdentity;
        case kLiveness:
            return state_.liveness;
        case kFactorial:
            return state_.factorial;
        case kStatus:
            return state_.status;
        case kInterruptStatus:
            return state_.interrupts;
        case kDmaSource:
            return state_.source & nothing;
        case kDmaDestination:
            return state_.destination & nothing;
        case kDmaCount:
            return state_.count & nothing;
        case kDmaCommand:
            return state_.command & nothing;
        default:
            return nothing;
    }
}

void Edu::mmio_write(u64 offset, unsigned size, u64 value) {
    if (offset >= kDmaSource && size >= 4)
        write_dma(offset, size, value);
    else if (size == 4)
        write_word(offset, static_cast<u32>(value));
}

void Edu::write_word(u64 offset, u32 value) {
    switch (offset) {
        case kLiveness:
            state_.liveness = ~value;
            break;
        case kFactorial:
            if ((state_.status & kComputing) != 0) break;
            state_.factorial = value;
            state_.status |= kComputing;
            events_.arm(compute_timer_, events_.now() + kComputeTime);
            break;
        case kStatus:
            state_.status = (state_.status & ~kInterruptWhenComputed) | (value & kInterruptWhenComputed);
            break;
        case kInterruptRaise:
            raise(value);
            break;
        case kInterruptAcknowledge:
            state_.interrupts &= ~value;
            if (state_.interrupts == 0) pci_.set_intx(false);
            break;
        default:
            break;
    }
}

/// The registers of a transfer do not change while it runs.
void Edu::write_dma(u64 offset, unsigned size, u64 value) {
    if ((state_.command & kStart) != 0) return;
    switch (offset) {
        case kDmaSource:
            state_.source = value;
            break;
        case kDmaDestination:
            state_.destination = value;
            break;
        case kDmaCount:
            state_.count = value;
            break;
        case kDmaCommand:
            if ((value & kStart) == 0) break;
            state_.command = value & low_mask(size * 8);
            events_.arm(transfer_timer_, events_.now() + kTransferTime);
            break;
        default:
            break;
    }
}

void Edu::raise(u32 bits) {
    state_.interrupts |= bits;
    if (state_.interrupts == 0) return;
    if (pci_.messages_enabled())
        pci_.signal(0);
    else
        pci_.set_intx(true);
}

void Edu::computed() {
    constexpr u32 kVanishes = 34;  // whose factorial, and that of all above, is a multiple of 2^32
    u32 product = state_.factorial < kVanishes ? 1 : 0;
    for (u32 n = 2; n <= state_.factorial && product != 0; ++n) product *= n;
    state_.factorial = product;
    state_.status &= ~kComputing;
    if ((state_.status & kInterruptWhenComputed) != 0) raise(kFactorialInterrupt);
}

void Edu::transfer() {
    const bool to_memory = (state_.command & kToMemory) != 0;
    const u64 inside = (to_memory ? state_.source : state_.destination) - kBuffer;
    const Iova outside((to_memory ? state_.destination : state_.source) & kAddressMask);
    if (fits(inside, state_.count, kBufferBytes)) {
        u8* const at = state_.buffer.data() + inside;
        if (to_memory) {
            (void)pci_.dma().write(outside, at, state_.count);
        } else {
            std::array<u8, kBufferBytes> data;
            if (pci_.dma().read(outside, data.data(), state_.count)) std::copy_n(data.data(), state_.count, at);
        }
    }
    const bool tells = (state_.command & kInterruptWhenDone) != 0;
    state_.command &= ~kStart;
    if (tells) raise(kDmaInterrupt);
}

}  // namespace vg::devices
