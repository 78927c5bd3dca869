#include "ui/model/orc.h"

#include <algorithm>

#include "base/bits.h"

namespace vg::model {
namespace {

constexpr u64 kEntryBytes = 6;

/// sp_offset, bp_offset, then 3:0 sp_reg, 7:4 bp_reg, 10:8 (or 9:8) type, and flags.
struct RawEntry {
    s16 sp_offset, bp_offset;
    u16 how;
};
static_assert(sizeof(RawEntry) == kEntryBytes);

OrcReg reg_of(u64 value) {
    return value <= static_cast<u64>(OrcReg::SpIndirect) ? static_cast<OrcReg>(value) : OrcReg::Undefined;
}

OrcType type_of(u16 how, OrcTable::Form form) {
    if (form == OrcTable::Form::ThreeBits) {
        const u64 type = bits(how, 10, 8);
        return type <= static_cast<u64>(OrcType::RegsPartial) ? static_cast<OrcType>(type) : OrcType::Undefined;
    }
    // Bit 10 is the end; Linux 6.3 put a flag of signal frames there, and the end into bit 11. A frame that ends has no
    // stack pointer, and one of a signal has.
    if ((how & 15) == 0) return bits(how, 11, 10) != 0 ? OrcType::End : OrcType::Undefined;
    switch (bits(how, 9, 8)) {
        case 0:
            return OrcType::Call;
        case 1:
            return OrcType::Regs;
        case 2:
            return OrcType::RegsPartial;
        default:
            return OrcType::Undefined;
    }
}

}  // namespace

std::optional<OrcTable::Form> OrcTable::form_of(const LinearView& view, u64 entries, u32 count) {
    constexpr u32 kSamples = 1024;
    u32 zero = 0, two = 0, seen = 0;
    const u32 step = std::max<u32>(1, count / kSamples);
    for (u32 i = 0; i < count && seen < kSamples; i += step) {
        RawEntry raw{};
        if (!view.read(entries + i * kEntryBytes, &raw, sizeof raw)) return std::nullopt;
        if ((raw.how & 15) == 0) continue;
        ++seen;
        if (bits(raw.how, 10, 8) == 0) ++zero;
        if (bits(raw.how, 10, 8) == 2) ++two;
    }
    if (seen == 0 || std::max(zero, two) < seen / 2) return std::nullopt;
    return zero > two ? Form::TwoBits : Form::ThreeBits;
}

std::optional<OrcEntry> OrcTable::find(const LinearView& view, u64 ip) const {
    // The last entry whose address is not above `ip`.
    u32 low = 0, high = count_;
    while (low < high) {
        const u32 middle = low + (high - low) / 2;
        s32 offset = 0;
        const u64 at = ips_ + middle * u64{4};
        if (!view.read(at, &offset, sizeof offset)) return std::nullopt;
        if (at + static_cast<u64>(s64{offset}) <= ip)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) return std::nullopt;
    RawEntry raw{};
    if (!view.read(entries_ + (low - 1) * kEntryBytes, &raw, sizeof raw)) return std::nullopt;
    return OrcEntry{raw.sp_offset, raw.bp_offset, reg_of(raw.how & 15), reg_of(bits(raw.how, 7, 4)),
                    type_of(raw.how, form_)};
}

}  // namespace vg::model
