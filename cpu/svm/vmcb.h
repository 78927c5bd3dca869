// A VMCB: its fields as rows of a table, and its page in memory.
#pragma once

#include <array>
#include <cstring>
#include <span>
#include <string_view>

#include "base/bits.h"
#include "base/types.h"

namespace vg::cpu::svm {

enum class Field : u8 {
#define VMCB_FIELD(offset, name, bytes, use) name,
#include "cpu/svm/vmcb_fields.def"
#undef VMCB_FIELD
    Count
};
inline constexpr unsigned kFieldCount = static_cast<unsigned>(Field::Count);

/// Who reads a field, and who writes it (vmcb_fields.def).
enum class Use : u8 { Control, Out, Both, State, Branch, Loaded };

struct FieldRow {
    u16 offset;
    u8 bytes;
    Use use;
    std::string_view name;
};

inline constexpr FieldRow kFieldRows[] = {
#define VMCB_FIELD(offset, name, bytes, use) {offset, bytes, Use::use, #name},
#include "cpu/svm/vmcb_fields.def"
#undef VMCB_FIELD
};
[[nodiscard]] constexpr const FieldRow& field_row(Field field) { return kFieldRows[static_cast<unsigned>(field)]; }

constexpr Field operator+(Field field, unsigned offset) {
    return static_cast<Field>(static_cast<unsigned>(field) + offset);
}

/// The contents of a VMCB, as VMRUN found them and an exit leaves them.
class Vmcb {
  public:
    [[nodiscard]] u64 operator[](Field field) const { return values_[static_cast<unsigned>(field)]; }
    [[nodiscard]] u32 word(Field field) const { return static_cast<u32>((*this)[field]); }
    /// `value` is cut to the field's width.
    void set(Field field, u64 value) {
        values_[static_cast<unsigned>(field)] = value & low_mask(8u * field_row(field).bytes);
    }
    [[nodiscard]] std::array<u64, kFieldCount>& values() { return values_; }

    void read(std::span<const u8, kPageSize> page);
    /// Calls `put(offset, data, bytes)` for each run of adjacent fields for which `wanted(use)` holds.
    template <class Wanted, class Put>
    void write(Wanted wanted, Put put) const {
        for (unsigned first = 0; first < kFieldCount;) {
            u8 data[kPageSize];
            u32 bytes = 0;
            unsigned next = first;
            const u16 offset = row(first).offset;
            while (next < kFieldCount && wanted(row(next).use) && row(next).offset == offset + bytes) {
                copy(data + bytes, next);
                bytes += row(next++).bytes;
            }
            if (bytes != 0) put(offset, data, bytes);
            first = next == first ? first + 1 : next;
        }
    }

  private:
    [[nodiscard]] static const FieldRow& row(unsigned n) { return kFieldRows[n]; }
    /// Sizes that the compiler sees: a copy is an instruction.
    void copy(u8* at, unsigned n) const {
        switch (row(n).bytes) {
            case 1: std::memcpy(at, &values_[n], 1); break;
            case 2: std::memcpy(at, &values_[n], 2); break;
            case 4: std::memcpy(at, &values_[n], 4); break;
            default: std::memcpy(at, &values_[n], 8); break;
        }
    }
    std::array<u64, kFieldCount> values_{};
};

}  // namespace vg::cpu::svm
