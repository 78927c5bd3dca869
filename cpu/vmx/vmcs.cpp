#include "cpu/vmx/vmcs.h"

#include <cstring>

#include "base/bits.h"
#include "cpu/spec/vmx.h"

namespace vg::cpu::vmx {

namespace {

constexpr unsigned kIndices = 64;
constexpr u8 kNone = 0xff;
static_assert(kFieldCount < kNone);

/// By width and kind, then by index: the row of an encoding.
constexpr auto make_lookup() {
    std::array<u8, 16 * kIndices> table{};
    table.fill(kNone);
    for (unsigned i = 0; i < kFieldCount; ++i) {
        const u32 e = kFieldRows[i].encoding;
        table[(bits(e, 14, 13) * 4 + bits(e, 11, 10)) * kIndices + bits(e, 9, 1)] = static_cast<u8>(i);
    }
    return table;
}
constexpr auto kLookup = make_lookup();

}  // namespace

std::optional<Field> find_field(u32 encoding) {
    constexpr u32 kReserved = ~u32{0x6ffe};
    const u32 index = static_cast<u32>(bits(encoding, 9, 1));
    if ((encoding & kReserved) != 0 || index >= kIndices) return std::nullopt;
    const u8 row = kLookup[(bits(encoding, 14, 13) * 4 + bits(encoding, 11, 10)) * kIndices + index];
    if (row == kNone) return std::nullopt;
    return static_cast<Field>(row);
}

FieldTable::FieldTable(const Capabilities& caps) {
    rows_.fill(kNone);
    for (unsigned i = 0; i < kFieldCount; ++i)
        if (caps.has(kFieldRows[i].needs)) rows_[place_of(kFieldRows[i].encoding)] = static_cast<u8>(i);
}

void Vmcs::read(std::span<const u8, kUsedBytes> region) {
    u32 revision = 0, state = 0;
    std::memcpy(&revision, region.data(), sizeof revision);
    std::memcpy(&state, region.data() + kStateOffset, sizeof state);
    shadow = (revision & kShadowIndicator) != 0;
    launched = state != 0;
    std::memcpy(values_.data(), region.data() + kFieldsOffset, sizeof values_);
    for (unsigned i = 0; i < kFieldCount; ++i) values_[i] = truncate(static_cast<Field>(i), values_[i]);
    changed_ = FieldSet::all();
}

void Vmcs::write(std::span<u8, kUsedBytes> region) const {
    const u32 revision = kRevision | (shadow ? kShadowIndicator : 0), state = launched ? 1 : 0;
    std::memcpy(region.data(), &revision, sizeof revision);
    std::memcpy(region.data() + kStateOffset, &state, sizeof state);
    std::memcpy(region.data() + kFieldsOffset, values_.data(), sizeof values_);
}

}  // namespace vg::cpu::vmx
