#include "devices/ioapic.h"

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

namespace {

constexpr u64 kSelect = 0x00, kWindow = 0x10, kEoi = 0x40;
constexpr u8 kRegId = 0, kRegVersion = 1, kRegArbitration = 2, kRegEntries = 0x10;

constexpr u64 kDestinationMode = u64{1} << 11, kRemoteIrr = u64{1} << 14, kLevel = u64{1} << 15, kMasked = u64{1} << 16;
constexpr u64 kWritable = 0xffff'0000'0001'afff;  // all but delivery status, remote IRR and reserved bits

constexpr u32 kMessageLevel = 1u << 15, kMessageAssert = 1u << 14;

// Only interrupts that go through IRR and ISR are ever acknowledged with an EOI.
bool acknowledged(u64 entry) {
    const u64 mode = bits(entry, 10, 8);
    return mode == 0 || mode == 1;
}
bool behaves_as_level(u64 entry) { return (entry & kLevel) != 0 && acknowledged(entry); }

}  // namespace

Ioapic::Ioapic(MessageSink& sink, u32 pins) : sink_(sink) {
    VG_ASSERT(pins >= 1 && pins <= 120);
    lines_.reserve(pins);
    for (u32 i = 0; i < pins; ++i) lines_.emplace_back(*this, i);
    state_ = fresh();
}

Ioapic::State Ioapic::fresh() const {
    State state;
    state.entries.assign(lines_.size(), kMasked);
    state.levels.assign(lines_.size(), 0);
    return state;
}

void Ioapic::reset() { state_ = fresh(); }

void Ioapic::fields(StateVisitor& v) {
    v("index", state_.index);
    v("id", state_.id);
    v("entries", state_.entries, lines_.size());
    v("levels", state_.levels, lines_.size());
    if (!v.loading()) return;
    state_.entries.resize(lines_.size(), kMasked);
    state_.levels.resize(lines_.size(), 0);
}

IrqLine& Ioapic::line(u32 index) {
    VG_ASSERT(index < lines_.size());
    return lines_[index];
}

void Ioapic::send(u64 entry) {
    const u64 address = 0xfee00000 | (bits(entry, 63, 48) << 4) | ((entry & kDestinationMode) != 0 ? 4u : 0u);
    const u32 data =
        static_cast<u32>(bits(entry, 10, 0)) | ((entry & kLevel) != 0 ? kMessageLevel | kMessageAssert : 0);
    sink_.send(address, data);
}

void Ioapic::service_level(u32 index) {
    u64& entry = state_.entries[index];
    if (!behaves_as_level(entry) || state_.levels[index] == 0 || (entry & (kMasked | kRemoteIrr)) != 0) return;
    entry |= kRemoteIrr;
    send(entry);
}

void Ioapic::set_line(u32 index, bool level) {
    const bool rising = level && state_.levels[index] == 0;
    state_.levels[index] = level ? 1 : 0;
    const u64 entry = state_.entries[index];
    if (behaves_as_level(entry)) {
        service_level(index);
    } else if (rising && (entry & kMasked) == 0) {
        // 82093AA, Interrupt Mask: an edge while masked is "ignored (i.e., not delivered or held pending)".
        send(entry);
    }
}

void Ioapic::eoi(u8 vector) {
    for (u32 i = 0; i < lines_.size(); ++i) {
        u64& entry = state_.entries[i];
        if ((entry & kRemoteIrr) == 0 || bits(entry, 7, 0) != vector) continue;
        entry &= ~kRemoteIrr;
        service_level(i);
    }
}

void Ioapic::write_entry(u32 index, u64 value) {
    u64& entry = state_.entries[index];
    u64 next = (value & kWritable) | (entry & kRemoteIrr);
    // Remote IRR has no meaning for edge entries; system software clears it by switching to edge and back.
    if (!behaves_as_level(next)) next &= ~kRemoteIrr;
    entry = next;
    service_level(index);
}

u32 Ioapic::read_register() const {
    const u8 index = state_.index;
    if (index == kRegId || index == kRegArbitration) return u32{state_.id} << 24;
    if (index == kRegVersion) return kVersion | ((pin_count() - 1) << 16);
    if (index >= kRegEntries && (index - kRegEntries) / 2u < pin_count()) {
        const u64 entry = state_.entries[(index - kRegEntries) / 2u];
        return static_cast<u32>((index & 1) != 0 ? entry >> 32 : entry);
    }
    return 0;
}

void Ioapic::write_register(u32 value) {
    const u8 index = state_.index;
    if (index == kRegId) {
        state_.id = static_cast<u8>(bits(value, 27, 24));
    } else if (index >= kRegEntries && (index - kRegEntries) / 2u < pin_count()) {
        const u32 pin = (index - kRegEntries) / 2u;
        const bool high = (index & 1) != 0;
        write_entry(pin, with_bits(state_.entries[pin], high ? 63 : 31, high ? 32 : 0, value));
    }
}

u64 Ioapic::mmio_read(u64 offset, unsigned size) {
    // Registers sit on 16-byte boundaries; narrow reads see the bytes of the 32-bit register.
    u64 value = 0;
    const u64 base = align_down(offset, 16);
    if (base == kSelect) value = state_.index;
    if (base == kWindow) value = read_register();
    const u64 shift = (offset - base) * 8;
    return shift >= 32 ? 0 : (value >> shift) & low_mask(size * 8);
}

void Ioapic::mmio_write(u64 offset, unsigned size, u64 value) {
    if (offset == kSelect) {
        state_.index = static_cast<u8>(value);
    } else if (offset == kWindow && size >= 4) {
        write_register(static_cast<u32>(value));
    } else if (offset == kEoi) {
        eoi(static_cast<u8>(value));
    }
}

}  // namespace vg::devices
