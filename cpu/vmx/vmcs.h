// A VMCS: its fields as rows of a table, and its region in memory.
#pragma once

#include <array>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

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
    [[nodiscard]] constexpr Width width() const { return static_cast<Width>(encoding >> 13 & 3); }
    [[nodiscard]] constexpr Kind kind() const { return static_cast<Kind>(encoding >> 10 & 3); }
};

inline constexpr FieldRow kFieldRows[] = {
#define VMCS_FIELD(encoding, name, needs) {encoding, #name, Needs::needs},
#include "cpu/vmx/vmcs_fields.def"
#undef VMCS_FIELD
};
[[nodiscard]] constexpr const FieldRow& field_row(Field field) { return kFieldRows[static_cast<unsigned>(field)]; }
/// The field of an encoding whose access type bit is clear (full). None: no row has it.
[[nodiscard]] std::optional<Field> find_field(u32 encoding);
/// The same for the fields that a processor has.
class FieldTable {
  public:
    explicit FieldTable(const Capabilities& caps);
    [[nodiscard]] std::optional<Field> find(u32 encoding) const {
        if ((encoding & kReserved) != 0) return std::nullopt;
        const u8 row = rows_[place_of(encoding)];
        if (row == kNone) return std::nullopt;
        return static_cast<Field>(row);
    }

  private:
    static constexpr unsigned kIndices = 64;
    static constexpr u32 kReserved = ~(u32{3} << 13 | u32{3} << 10 | (kIndices - 1) << 1);
    static constexpr u8 kNone = 0xff;
    static_assert(kFieldCount < kNone);
    /// By width and kind, then by index.
    static constexpr u32 place_of(u32 encoding) {
        return ((encoding >> 13 & 3) * 4 + (encoding >> 10 & 3)) * kIndices + (encoding >> 1 & (kIndices - 1));
    }
    std::array<u8, 16 * kIndices> rows_{};
};
/// The bits that each field can hold.
inline constexpr std::array<u64, kFieldCount> kFieldMasks = [] {
    std::array<u64, kFieldCount> masks{};
    for (unsigned i = 0; i < kFieldCount; ++i) {
        const Width width = kFieldRows[i].width();
        masks[i] = width == Width::W16 ? 0xffff : width == Width::W32 ? 0xffffffff : ~u64{0};
    }
    return masks;
}();
/// `value` as the field can hold it.
[[nodiscard]] constexpr u64 truncate(Field field, u64 value) { return value & kFieldMasks[static_cast<unsigned>(field)]; }

constexpr Field operator+(Field field, unsigned offset) {
    return static_cast<Field>(static_cast<unsigned>(field) + offset);
}

/// A set of fields.
class FieldSet {
  public:
    constexpr FieldSet() = default;
    constexpr FieldSet(std::initializer_list<Field> fields) {
        for (const Field field : fields) add(field);
    }
    static constexpr FieldSet all() {
        FieldSet set;
        set.words_.fill(~u64{0});
        return set;
    }
    constexpr void add(Field field) {
        const unsigned n = static_cast<unsigned>(field);
        words_[n / 64] |= u64{1} << (n % 64);
    }
    [[nodiscard]] constexpr bool meets(const FieldSet& other) const {
        u64 common = 0;
        for (unsigned i = 0; i < kWords; ++i) common |= words_[i] & other.words_[i];
        return common != 0;
    }

  private:
    static constexpr unsigned kWords = (kFieldCount + 63) / 64;
    std::array<u64, kWords> words_{};
};

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
    void set(Field field, u64 value) {
        u64& old = values_[static_cast<unsigned>(field)];
        const u64 fresh = truncate(field, value);
        if (old == fresh) return;
        old = fresh;
        changed_.add(field);
    }
    /// The fields that were given another value since this was asked last; all of a VMCS that was just read.
    [[nodiscard]] FieldSet take_changed() { return std::exchange(changed_, FieldSet{}); }

    /// What kUsedBytes of a region hold. The revision is the caller's business.
    void read(std::span<const u8, kUsedBytes> region);
    void write(std::span<u8, kUsedBytes> region) const;

  private:
    std::array<u64, kFieldCount> values_{};
    FieldSet changed_ = FieldSet::all();
};

}  // namespace vg::cpu::vmx
