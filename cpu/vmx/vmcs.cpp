#include "cpu/vmx/vmcs.h"

#include <cstring>

#include "base/bits.h"
#include "cpu/spec/vmx.h"

namespace vg::cpu::vmx {

namespace {

constexpr FieldRow kRows[] = {
#define VMCS_FIELD(encoding, name, needs) {encoding, #name, Needs::needs},
#include "cpu/vmx/vmcs_fields.def"
#undef VMCS_FIELD
};

constexpr unsigned kIndices = 64;
constexpr u8 kNone = 0xff;
static_assert(kFieldCount < kNone);

/// By width and kind, then by index: the row of an encoding.
constexpr auto make_lookup() {
    std::array<u8, 16 * kIndices> table{};
    table.fill(kNone);
    for (unsigned i = 0; i < kFieldCount; ++i) {
        const u32 e = kRows[i].encoding;
        table[(bits(e, 14, 13) * 4 + bits(e, 11, 10)) * kIndices + bits(e, 9, 1)] = static_cast<u8>(i);
    }
    return table;
}
constexpr auto kLookup = make_lookup();

}  // namespace

const FieldRow& field_row(Field field) { return kRows[static_cast<unsigned>(field)]; }

std::optional<Field> find_field(u32 encoding) {
    constexpr u32 kReserved = ~u32{0x6ffe};
    const u32 index = static_cast<u32>(bits(encoding, 9, 1));
    if ((encoding & kReserved) != 0 || index >= kIndices) return std::nullopt;
    const u8 row = kLookup[(bits(encoding, 14, 13) * 4 + bits(encoding, 11, 10)) * kIndices + index];
    if (row == kNone) return std::nullopt;
    return static_cast<Field>(row);
}

u64 truncate(Field field, u64 value) {
    switch (field_row(field).width()) {
        case Width::W16: return static_cast<u16>(value);
        case Width::W32: return static_cast<u32>(value);
        case Width::W64:
        case Width::Natural: break;
    }
    return value;
}

void Vmcs::read(std::span<const u8, kUsedBytes> region) {
    u32 revision = 0, state = 0;
    std::memcpy(&revision, region.data(), sizeof revision);
    std::memcpy(&state, region.data() + kStateOffset, sizeof state);
    shadow = (revision & kShadowIndicator) != 0;
    launched = state != 0;
    std::memcpy(values_.data(), region.data() + kFieldsOffset, sizeof values_);
    for (unsigned i = 0; i < kFieldCount; ++i) values_[i] = truncate(static_cast<Field>(i), values_[i]);
}

void Vmcs::write(std::span<u8, kUsedBytes> region) const {
    const u32 revision = kRevision | (shadow ? kShadowIndicator : 0), state = launched ? 1 : 0;
    std::memcpy(region.data(), &revision, sizeof revision);
    std::memcpy(region.data() + kStateOffset, &state, sizeof state);
    std::memcpy(region.data() + kFieldsOffset, values_.data(), sizeof values_);
}

}  // namespace vg::cpu::vmx
