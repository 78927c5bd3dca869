// The memory check: guest address to host address through the bank's tables.
#include "base/assert.h"
#include "jit/translator.h"

namespace vg::jit {

using cpu::kNoReg;
using cpu::kRipBase;
using cpu::Seg;

namespace {

constexpr int kAddendOffset = 8;
constexpr HostMem tag_of(bool write) {
    return {.base = kBank, .index = kT1, .disp = static_cast<int>(write ? mmu::kWriteTable : mmu::kReadTable)};
}
constexpr HostMem addend_of(bool write) {
    HostMem m = tag_of(write);
    m.disp += kAddendOffset;
    return m;
}
constexpr bool fits32(s64 v) { return v == static_cast<s32>(v); }
constexpr int segment_base_disp(Seg seg) {
    return VG_STATE_DISP(seg) +
           static_cast<int>(static_cast<unsigned>(seg) * sizeof(cpu::SegmentReg) + offsetof(cpu::SegmentReg, base));
}

}  // namespace

Translator::Address Translator::operand_address() const {
    Address a{
        .base = cur_->base, .index = cur_->index, .scale = cur_->scale, .size = cur_->addr_size, .disp = cur_->disp};
    if (cur_->seg == Seg::FS || cur_->seg == Seg::GS) a.seg = cur_->seg;
    if (a.base == kRipBase) a.disp += end_;  // relative to the code page's base
    return a;
}

bool Translator::resident(const Address& a) {
    return (a.base == kNoReg || (a.base != kRipBase && kHostOf[a.base] != kInMemory)) &&
           (a.index == kNoReg || kHostOf[a.index] != kInMemory);
}

void Translator::load_address(const Address& a) {
    u8 base = kNone, index = kNone;
    if (a.base == kRipBase) {
        a_.mov(kT0, {.base = kBank, .disp = kCodePage});
        base = kT0;
    } else if (a.base != kNoReg) {
        base = kHostOf[a.base];
        if (base == kInMemory) load_gpr(base = kT0, a.base);
    }
    if (a.index != kNoReg) {
        index = kHostOf[a.index];
        if (index == kInMemory) load_gpr(index = kT1, a.index);
    }
    if (base == kNone && index == kNone) {
        a_.mov_imm(kT0, a.size == 4 ? static_cast<u32>(a.disp) : static_cast<u64>(a.disp));
    } else {
        const HostMem m{.base = base, .index = index, .scale = a.scale, .disp = static_cast<s32>(a.disp)};
        if (a.size == 4)
            a_.lea32(kT0, m);
        else if (index != kNone || a.disp != 0)
            a_.lea(kT0, m);
        else if (base != kT0)
            a_.mov(kT0, base);
    }
    if (a.seg != Seg::None) a_.add(kT0, {.base = kBank, .disp = segment_base_disp(a.seg)});
}

/// Compares T0's page with its TLB entry and leaves the entry's offset in T1. Returns where a miss goes.
u32 Translator::emit_tag_check(unsigned span, bool write) {
    // Page number bits come down to the entry's byte offset; entries have 16 bytes.
    a_.rorx(kT1, kT0, 8);
    a_.alu_imm(4, kT1, (mmu::kTlbEntries - 1) << 4, false);
    a_.xor_(kT0, tag_of(write));
    a_.alu_imm(7, kT0, static_cast<s32>(kPageSize - span), true);
    return a_.jcc_later(kA);
}

/// T0 has the address' low bits.
void Translator::emit_alignment_check(unsigned alignment, u32 site) {
    if (alignment == 1) return;
    a_.modrm({.opcode = 0xf6, .force_rex = true}, 0, kT0);
    a_.byte(static_cast<u8>(alignment - 1));
    cold_thunk(a_.jcc_later(kNe), thunks_.execute, site);
}

HostMem Translator::check(const Address& a, unsigned size, bool write, unsigned alignment) {
    if (plan_now().group >= 0) return check_in_group(a, size, write, alignment);
    keep_flags();
    load_address(a);
    flags_.hardware = false;
    const u32 number = new_site();
    cold_thunk(emit_tag_check(size, write), write ? thunks_.miss_write : thunks_.miss_read, number);
    emit_alignment_check(alignment, number);
    Site& site = blocks_.site(number);
    site.size = static_cast<u8>(size);
    site.write = write;
    site.misalignment = static_cast<u8>(alignment - 1);

    const bool rip = a.base == kRipBase && a.index == kNoReg;
    const bool base_in_memory = a.base != kNoReg && a.base != kRipBase && kHostOf[a.base] == kInMemory;
    const bool index_here = a.index == kNoReg || kHostOf[a.index] != kInMemory;
    const bool simple = a.size == 8 && index_here && fits32(a.disp) && (a.base != kRipBase || rip);
    if (!simple) {
        a_.xor_(kT0, tag_of(write));
        a_.add(kT0, addend_of(write));
        site.access = a_.offset();
        site.sum = true;
        return {.base = kT0};
    }
    a_.mov(kT1, addend_of(write));
    site.access = a_.offset();
    HostMem m{.base = kT1, .disp = static_cast<s32>(a.disp)};
    if (a.seg != Seg::None) a_.add(kT1, {.base = kBank, .disp = segment_base_disp(a.seg)});
    if (rip) a_.add(kT1, {.base = kBank, .disp = kCodePage});
    if (base_in_memory) a_.add(kT1, {.base = kBank, .disp = gpr_disp(a.base)});
    const bool base_here = a.base != kNoReg && !rip && !base_in_memory;
    if (a.index != kNoReg) {
        if (base_here) a_.add(kT1, kHostOf[a.base]);
        m.index = kHostOf[a.index];
        m.scale = a.scale;
    } else if (base_here) {
        m.index = kHostOf[a.base];
    }
    return m;
}

/// The first access of a group checks the bytes that all of them touch, and leaves the host address of the base register
/// in the group's slot. What fails for the whole may succeed one by one: then translated code with separate checks takes
/// over (JitEngine::separate).
HostMem Translator::check_in_group(const Address& a, unsigned size, bool write, unsigned alignment) {
    const InsnPlan& plan = plan_now();
    const AccessGroup& group = plan_.groups[static_cast<unsigned>(plan.group)];
    VG_ASSERT(a.base == plan.base && size == plan.size && (write == plan.write));
    const HostMem slot{.base = kBank, .disp = kGroupSlot + 8 * group.slot};
    if (plan.leader) {
        keep_flags();
        Address first = a;
        first.disp = group.low;
        load_address(first);
        flags_.hardware = false;
        const u32 number = new_site();
        const unsigned span = static_cast<unsigned>(group.high - group.low);
        cold_thunk(emit_tag_check(span, write), write ? thunks_.miss_write : thunks_.miss_read, number);
        Site& site = blocks_.site(number);
        site.size = static_cast<u16>(span);
        site.write = write;
        site.group = true;
        a_.mov(kT1, addend_of(write));
        site.access = a_.offset();
        if (a.base == kRipBase)
            a_.add(kT1, {.base = kBank, .disp = kCodePage});
        else if (kHostOf[a.base] == kInMemory)
            a_.add(kT1, {.base = kBank, .disp = gpr_disp(a.base)});
        else
            a_.add(kT1, kHostOf[a.base]);
        a_.mov(slot, kT1);
    } else {
        if (alignment > 1) keep_flags();
        a_.mov(kT1, slot);
    }
    const HostMem m{.base = kT1, .disp = static_cast<s32>(plan.displacement)};
    if (alignment > 1) {
        flags_.hardware = false;
        a_.lea(kT0, m);
        emit_alignment_check(alignment, new_site());
    }
    return m;
}

}  // namespace vg::jit
