#include "cpu/svm/vmcb.h"

#include <cstring>

#include "base/bits.h"

namespace vg::cpu::svm {

namespace {

constexpr FieldRow kRows[] = {
#define VMCB_FIELD(offset, name, bytes, use) {offset, bytes, Use::use, #name},
#include "cpu/svm/vmcb_fields.def"
#undef VMCB_FIELD
};

constexpr bool ascending() {
    for (unsigned n = 1; n < kFieldCount; ++n)
        if (kRows[n].offset < kRows[n - 1].offset + kRows[n - 1].bytes) return false;
    return kRows[kFieldCount - 1].offset + 8u <= kPageSize;
}
static_assert(ascending(), "rows are in the order of their offsets and do not overlap");

}  // namespace

const FieldRow& field_row(Field field) { return kRows[static_cast<unsigned>(field)]; }

void Vmcb::set(Field field, u64 value) {
    const unsigned bits = 8u * field_row(field).bytes;
    values_[static_cast<unsigned>(field)] = bits == 64 ? value : value & low_mask(bits);
}

void Vmcb::read(std::span<const u8, kPageSize> page) {
    for (unsigned n = 0; n < kFieldCount; ++n) {
        values_[n] = 0;
        std::memcpy(&values_[n], page.data() + kRows[n].offset, kRows[n].bytes);
    }
}

void Vmcb::copy(u8* at, unsigned n) const { std::memcpy(at, &values_[n], kRows[n].bytes); }

}  // namespace vg::cpu::svm
