// A VMCS: its fields as rows of a table, and its region in memory.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>

#include "base/types.h"
#include "cpu/vmx/capabilities.h"

namespace vg::cpu::vmx {

enum class Field : u8 {
#define VMCS_FIELD(encoding, name, needs) name,
#include "cpu/vmx/vmcs_fields.def"
#undef VMCS_FIELD
    Count
};
inline constexpr unsigned kFieldCount = static_cast<unsigned>(Field::Count);

enum class Width : u8 { W16, W64, W32, Natural };
enum class Kind : u8 { Control, ReadOnly, Guest, Host };

struct FieldRow {
    u32 encoding;
    std::string_view name;
    Needs needs;
    [[nodiscard]] Width width() const { return static_cast<Width>(encoding >> 13 & 3); }
    [[nodiscard]] Kind kind() const { return static_cast<Kind>(encoding >> 10 & 3); }
};

[[nodiscard]] const FieldRow& field_row(Field field);
/// The field of an encoding whose access type bit is clear (full). None: no row has it.
[[nodiscard]] std::optional<Field> find_field(u32 encoding);
/// `value` as the field can hold it.
[[nodiscard]] u64 truncate(Field field, u64 value);

constexpr Field operator+(Field field, unsigned offset) {
    return static_cast<Field>(static_cast<unsigned>(field) + offset);
}

/// The contents of a VMCS. In its region (SDM 3C "Format of the VMCS Region"): revision, abort indicator, launch state, then
/// the fields, eight bytes each, in the order of the rows.
class Vmcs {
  public:
    static constexpr u32 kAbortOffset = 4, kStateOffset = 8, kFieldsOffset = 16;
    static constexpr u32 kUsedBytes = kFieldsOffset + 8 * kFieldCount;
    static_assert(kUsedBytes <= kPageSize);

    bool launched = false;
    bool shadow = false;  ///< the region's shadow-VMCS indicator

    [[nodiscard]] u64 operator[](Field field) const { return values_[static_cast<unsigned>(field)]; }
    [[nodiscard]] u32 word(Field field) const { return static_cast<u32>((*this)[field]); }
    void set(Field field, u64 value) { values_[static_cast<unsigned>(field)] = truncate(field, value); }

    /// What kUsedBytes of a region hold. The revision is the caller's business.
    void read(std::span<const u8, kUsedBytes> region);
    void write(std::span<u8, kUsedBytes> region) const;
    [[nodiscard]] std::array<u64, kFieldCount>& values() { return values_; }

  private:
    std::array<u64, kFieldCount> values_{};
};

}  // namespace vg::cpu::vmx
