// The enlightened VMCS: a page with a published layout that takes the place of VMPTRLD, VMREAD and VMWRITE where a hypervisor below
// offers it. TLFS 6.0b "Nested Virtualization", "Enlightened VMCS"; rows S-104, S-105.
#include <cstring>

#include "base/bits.h"
#include "cpu/virt/physical.h"
#include "cpu/vmx/unit.h"

namespace vg::cpu::vmx {

namespace {

/// What a clean bit stands for. Always: the fields have none, and are read at each entry.
enum class Group : u8 {
    IoBitmaps, MsrBitmaps, ControlGroup2, ControlGroup1, Processor, Event, Entry, Exceptions, Registers, Translation,
    GuestBasic, GuestGroup1, GuestGroup2, HostPointers, HostGroup1, Enlightenments, Always
};

struct Row {
    u16 offset;
    Field field;
    u8 bytes;
    Group group;
};
constexpr Row kRows[] = {
#define ENLIGHTENED_FIELD(offset, name, bytes, group) {offset, Field::name, bytes, Group::group},
#include "cpu/vmx/enlightened_fields.def"
#undef ENLIGHTENED_FIELD
};

constexpr u32 kVersion = 1, kSize = 1024, kCleanOffset = 824;
constexpr bool ascending() {
    for (std::size_t n = 1; n < std::size(kRows); ++n)
        if (kRows[n].offset < kRows[n - 1].offset + kRows[n - 1].bytes) return false;
    return kRows[std::size(kRows) - 1].offset + 8u <= kSize;
}
static_assert(ascending(), "rows are in the order of their offsets and do not overlap");

u32 word(const u8* page, u32 offset) {
    u32 value = 0;
    std::memcpy(&value, page + offset, sizeof value);
    return value;
}

/// What an exit, or an entry that fails, writes.
bool is_output(Field field) {
    const Kind kind = field_row(field).kind();
    return kind == Kind::Guest || kind == Kind::ReadOnly || field == Field::entry_interruption || field == Field::entry_controls;
}

}  // namespace

/// Makes the page at `pointer` current for the entry that begins. Fields of groups that the page says are clean stay as they were
/// if it was current already; what version 1 has no place for is 0. False: it cannot be used.
bool Unit::take_enlightened(u64 pointer) {
    if (!caps_.address_valid(pointer, 12)) return false;
    u8 page[kSize];
    read_physical(pointer, page, kSize);
    if (word(page, 0) != kVersion) return false;
    u32 clean = word(page, kCleanOffset);
    if (!enlightened_ || current_ != pointer) {
        make_current(kNoVmcs);
        vmcs_ = {};
        current_ = pointer;
        enlightened_ = true;
        clean = 0;
    }
    for (const Row& row : kRows) {
        if (field_row(row.field).kind() == Kind::ReadOnly) continue;
        if (row.group != Group::Always && bit(clean, static_cast<unsigned>(row.group))) continue;
        u64 value = 0;
        std::memcpy(&value, page + row.offset, row.bytes);
        vmcs_.set(row.field, value);
    }
    return true;
}

/// Behind an exit or a failed entry: the guest's state and what the exit says.
void Unit::store_enlightened() {
    if (!enlightened_) return;
    u8 page[kSize];
    read_physical(current_, page, kSize);
    for (const Row& row : kRows) {
        if (!is_output(row.field)) continue;
        const u64 value = vmcs_[row.field];
        std::memcpy(page + row.offset, &value, row.bytes);
    }
    write_physical(current_, page, kSize);
}

}  // namespace vg::cpu::vmx
