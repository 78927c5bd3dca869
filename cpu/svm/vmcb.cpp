#include "cpu/svm/vmcb.h"

#include <cstring>

namespace vg::cpu::svm {

namespace {

constexpr bool ascending() {
    for (unsigned n = 1; n < kFieldCount; ++n)
        if (kFieldRows[n].offset < kFieldRows[n - 1].offset + kFieldRows[n - 1].bytes) return false;
    return kFieldRows[kFieldCount - 1].offset + 8u <= kPageSize;
}
static_assert(ascending(), "rows are in the order of their offsets and do not overlap");

}  // namespace

void Vmcb::read(std::span<const u8, kPageSize> page) {
    values_ = {};
    unsigned n = 0;
#define VMCB_FIELD(offset, name, bytes, use) std::memcpy(&values_[n++], page.data() + (offset), bytes);
#include "cpu/svm/vmcb_fields.def"
#undef VMCB_FIELD
}

}  // namespace vg::cpu::svm
