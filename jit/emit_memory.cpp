// The memory check: guest address to host address through the bank's tables.
#include "base/assert.h"
#include "jit/translator.h"

namespace vg::jit {

using cpu::kNoReg;
using cpu::kRipBase;
using cpu::Seg;

namespace {

constexpr int kAddendOffset = 8;
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

HostMem Translator::tag_of(const EntryRef& entry) {
    if (entry.memo != kNoMemo)
        return {
            .base = kBank,
            .disp = static_cast<s32>(static_cast<std::size_t>(mmu::kMemoTable) + entry.memo * sizeof(mmu::TlbEntry))};
    return {.base = kBank, .index = kT1, .disp = static_cast<int>(entry.write ? mmu::kWriteTable : mmu::kReadTable)};
}

HostMem Translator::addend_of(const EntryRef& entry) {
    HostMem m = tag_of(entry);
    m.disp += kAddendOffset;
    return m;
}

/// Compares T0's page with its TLB entry and leaves the entry's offset in T1. Returns where a miss goes.
u32 Translator::emit_tag_check(unsigned span, bool write) {
    // Page number bits come down to the entry's byte offset; entries have 16 bytes.
    a_.rorx(kT1, kT0, 8);
    a_.alu_imm(4, kT1, (mmu::kTlbEntries - 1) << 4, false);
    a_.xor_(kT0, tag_of({write}));
    a_.alu_imm(7, kT0, static_cast<s32>(kPageSize - span), true);
    return a_.jcc_later(kA);
}

/// The place in the memo tables for the next check of the block, if it is to have one.
u32 Translator::take_memo(bool write, Site& site) {
    if (!tunable_ || block_->memo_checks == kMaxMemoChecks) return kNoMemo;
    const u8 check = block_->memo_checks++;
    if (tuning_.tier == Tier::Plain) return kNoMemo;
    u32* const counter = counters_.take(1, tuning_.tier == Tier::Profiled ? kMissesStart : tuning_.patience);
    if ((tuning_.no_memo >> check & 1) != 0 || counter == nullptr) return kNoMemo;
    site.counts = true;
    site.counter = counter;
    return site.memo = memos_.take(write);
}

Translator::EntryRef Translator::emit_check(const Address& first, unsigned span, bool write, u32 number) {
    const u32 start = a_.offset();
    load_address(first);
    emit_trace_access(first.base, first.seg, span, write);
    flags_.hardware = false;
    Site& site = blocks_.site(number);
    const EntryRef entry{write, take_memo(write, site)};
    if (entry.memo == kNoMemo) {
        miss(emit_tag_check(span, write), number, flags_);
        return entry;
    }
    a_.xor_(kT0, tag_of(entry));
    a_.alu_imm(7, kT0, static_cast<s32>(kPageSize - span), true);
    cold_.push_back({.kind = Cold::Kind::MemoMiss,
                     .index = static_cast<u8>(index_),
                     .from = a_.jcc_later(kA),
                     .site = number,
                     .back = start,
                     .target = span,
                     .flags = flags_});
    return entry;
}

void Translator::miss(u32 from, u32 number, const FlagState& flags) {
    const Site& site = blocks_.site(number);
    if (!site.group) return cold_thunk(from, site.write ? thunks_.miss_write : thunks_.miss_read, number);
    cold_.push_back({.kind = Cold::Kind::GroupMiss, .index = site.index, .from = from, .site = number, .flags = flags});
}

/// The check of a group failed: T0 = address ^ tag, T1 = the entry's offset. If that is because the bytes lie in two
/// pages, which they do for as long as a stack frame lies across a page's end, a translation with separate checks goes
/// on at this instruction.
void Translator::emit_group_miss(const Cold& c) {
    const Site site = blocks_.site(c.site);
    a_.alu_imm(7, kT0, static_cast<s32>(kPageSize), true);
    cold_thunk(a_.jcc_later(kAe), site.write ? thunks_.miss_write : thunks_.miss_read, c.site);
    index_ = c.index;
    flags_ = c.flags;
    a_.lea(kBudget, {.base = kBudget, .disp = block_->count - c.index});
    const EdgeFlags flags = prepare_edge(site.rip_offset, site.rip_offset);
    a_.align_rel32(1);
    link(a_.jmp_later(), site.rip_offset, flags);
    blocks_.site(blocks_.site_count() - 1).separate = true;
}

/// The memo has another page: takes over what the TLB has, and tries again.
void Translator::emit_memo_miss(const Cold& c) {
    const Site& site = blocks_.site(c.site);
    const EntryRef memo{site.write, site.memo}, table{site.write};
    index_ = c.index;
    a_.xor_(kT0, tag_of(memo));
    miss(emit_tag_check(static_cast<unsigned>(c.target), site.write), c.site, c.flags);
    a_.mov(kT0, tag_of(table));
    a_.mov(tag_of(memo), kT0);
    a_.mov(kT0, addend_of(table));
    a_.mov(addend_of(memo), kT0);
    const auto mark = static_cast<s32>(static_cast<std::size_t>(mmu::kMemoMarks) + site.memo / mmu::kMemosPerMark);
    a_.modrm({.opcode = 0xc6}, 0, HostMem{.base = kBank, .disp = mark});
    a_.byte(1);
    emit_count_down(site.counter);
    Site again;
    again.block = block_;
    again.access = c.back;
    again.counts = true;
    again.counter = site.counter;
    cold_thunk(a_.jcc_later(kS), thunks_.memo_misses, blocks_.add_site(again));
    a_.jmp(c.back);
}

/// Leaves the sign flag set when there is nothing left. Clobbers T0.
void Translator::emit_count_down(u32* counter) {
    a_.mov_imm(kT0, reinterpret_cast<u64>(counter));
    a_.modrm({.opcode = 0x83}, 5, HostMem{.base = kT0});
    a_.byte(1);
}

void Translator::emit_entry_counter() {
    if (tuning_.tier == Tier::Profiled) {
        block_->counters = counters_.take(1, limits_.profile_runs);
        if (block_->counters == nullptr) tuning_ = {};
    }
    block_->tuning = tuning_;
    if (tuning_.tier != Tier::Profiled) return;
    emit_count_down(block_->counters);
    const u32 site = new_site();
    cold_thunk(a_.jcc_later(kS), thunks_.promote, site);
    blocks_.site(site).access = a_.offset();
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
    const u32 number = new_site();
    Site& site = blocks_.site(number);
    site.size = static_cast<u8>(size);
    site.write = write;
    const EntryRef entry = emit_check(a, size, write, number);
    emit_alignment_check(alignment, number);
    site.misalignment = static_cast<u8>(alignment - 1);

    const bool rip = a.base == kRipBase && a.index == kNoReg;
    const bool base_in_memory = a.base != kNoReg && a.base != kRipBase && kHostOf[a.base] == kInMemory;
    const bool index_here = a.index == kNoReg || kHostOf[a.index] != kInMemory;
    const bool simple = a.size == 8 && index_here && fits32(a.disp) && (a.base != kRipBase || rip);
    if (!simple) {
        a_.xor_(kT0, tag_of(entry));
        a_.add(kT0, addend_of(entry));
        site.access = a_.offset();
        site.sum = true;
        return {.base = kT0};
    }
    a_.mov(kT1, addend_of(entry));
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

HostMem Translator::check_here(unsigned size, bool write) {
    flags_.hardware = false;
    const u32 number = new_site();
    emit_trace_access(cpu::kNoReg, Seg::None, size, write);
    cold_thunk(emit_tag_check(size, write), write ? thunks_.miss_write : thunks_.miss_read, number);
    const EntryRef entry{write};
    a_.xor_(kT0, tag_of(entry));
    a_.add(kT0, addend_of(entry));
    Site& site = blocks_.site(number);
    site.size = static_cast<u8>(size);
    site.write = write;
    site.access = a_.offset();
    site.sum = true;
    return {.base = kT0};
}

/// The first access of a group checks the bytes that all of them touch, and leaves the host address of the base
/// register in the group's slot. What fails for the whole may succeed one by one: then translated code with separate
/// checks takes over (JitEngine::separate).
HostMem Translator::check_in_group(const Address& a, unsigned size, bool write, unsigned alignment) {
    const InsnPlan& plan = plan_now();
    const AccessGroup& group = plan_.groups[static_cast<unsigned>(plan.group)];
    VG_ASSERT(a.base == plan.base && size == plan.size && (write == plan.write));
    const HostMem slot{.base = kBank, .disp = kGroupSlot + 8 * group.slot};
    if (plan.leader) {
        keep_flags();
        Address first = a;
        first.disp = group.low;
        const u32 number = new_site();
        const unsigned span = static_cast<unsigned>(group.high - group.low);
        Site& site = blocks_.site(number);
        site.size = static_cast<u8>(span);
        site.write = write;
        site.group = true;
        const EntryRef entry = emit_check(first, span, write, number);
        a_.mov(kT1, addend_of(entry));
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
        if (a_.t1_named() || t1_slot_ != group.slot) a_.mov(kT1, slot);
    }
    const HostMem m{.base = kT1, .disp = static_cast<s32>(plan.displacement)};
    t1_slot_ = group.slot;
    a_.keep_t1();
    if (alignment > 1) {
        flags_.hardware = false;
        a_.lea(kT0, m);
        emit_alignment_check(alignment, new_site());
        a_.lose_t1();  // the interpreter may have executed the instruction
    }
    return m;
}

}  // namespace vg::jit
