// Stack and control transfer: pushes and pops, calls and returns, links between blocks.
#include "jit/translator.h"

namespace vg::jit {

namespace {

constexpr int kJumpHost = 8;  ///< offset of JumpEntry::host

}  // namespace

// ---- stack

bool Translator::emit_push(unsigned reg) {
    if (cur_->op_size != 8) return false;
    const HostMem m = check({.base = cpu::RSP, .disp = -8}, 8, true);
    u8 host = kHostOf[reg];
    if (host == kInMemory) load_gpr(host = free_scratch(m), reg);
    a_.mov(m, host);
    lea_stack(-8);
    return true;
}

bool Translator::emit_push_imm() {
    if (cur_->op_size != 8) return false;
    const HostMem m = check({.base = cpu::RSP, .disp = -8}, 8, true);
    a_.modrm({.opcode = 0xc7, .w = true}, 0, m);
    a_.dword(static_cast<u32>(cur_->imm));
    lea_stack(-8);
    return true;
}

bool Translator::emit_push_rm() {
    if (cur_->op_size != 8) return false;
    if (!memory_form()) return emit_push(rm_field());
    const HostMem from = check(operand_address(), 8, false);
    a_.mov(kT0, from);
    a_.mov({.base = kBank, .disp = kStash}, kT0);
    const HostMem to = check({.base = cpu::RSP, .disp = -8}, 8, true);
    a_.mov(kT0, {.base = kBank, .disp = kStash});
    a_.mov(to, kT0);
    lea_stack(-8);
    return true;
}

bool Translator::emit_pop(unsigned reg) {
    if (cur_->op_size != 8) return false;
    const HostMem m = check({.base = cpu::RSP}, 8, false);
    const u8 host = kHostOf[reg] == kInMemory ? kT0 : kHostOf[reg];
    a_.mov(host, m);
    if (host == kT0) store_gpr(reg, kT0);
    if (reg != cpu::RSP) lea_stack(8);
    return true;
}

bool Translator::emit_leave() {
    if (cur_->op_size != 8) return false;
    const HostMem m = check({.base = cpu::RBP}, 8, false);
    a_.mov(kT0, m);
    a_.lea(kGuestRsp, {.base = kGuestRbp, .disp = 8});
    a_.mov(kGuestRbp, kT0);
    return true;
}

// ---- leaving

/// For leaving behind the block's last instruction.
u32 Translator::exit_site(s64 target) {
    const u32 number = new_site();
    Site& site = blocks_.site(number);
    site.rip_offset = static_cast<s32>(target);
    site.index = block_->count;
    return number;
}

/// A jump within the page, to be patched when its target is known.
void Translator::link(u32 rel32_at, s64 target, EdgeFlags flags) {
    const u32 number = exit_site(target);
    Site& site = blocks_.site(number);
    site.patch = rel32_at;
    site.edge_recipe = flags.recipe;
    site.edge_pending = flags.pending;
    cold_thunk(rel32_at, thunks_.leave, number);
}

void Translator::load_code_address(s64 target) {
    a_.mov(kT0, {.base = kBank, .disp = kCodePage});
    if (target != 0) a_.lea(kT0, {.base = kT0, .disp = static_cast<s32>(target)});
}

/// Looks T0 up in the jump cache; T1 becomes the entry's offset (mmu::jump_index times 16). If there is none, goes to
/// `thunk` with `site`.
void Translator::emit_index(u32 thunk, u32 site) {
    a_.lea32(kT1, {.index = kT0, .scale = 4});
    a_.alu_imm(4, kT1, static_cast<s32>((mmu::kJumpEntries - 1) << 4), false);
    a_.cmp(kT0, {.base = kBank, .index = kT1, .disp = static_cast<int>(mmu::kJumpTable)});
    const u32 from = a_.jcc_later(kNe);
    cold_.push_back(
        {.kind = Cold::Kind::JumpMiss, .from = from, .thunk = thunk, .site = site, .back = a_.offset(), .flags = {}});
}

/// Another target has taken the place: this one may be beside it.
void Translator::emit_jump_miss(const Cold& c) {
    static_assert(mmu::other_jump_index(4) == 5 && sizeof(mmu::JumpEntry) == 16);
    a_.alu_imm(6, kT1, sizeof(mmu::JumpEntry), false);
    a_.cmp(kT0, {.base = kBank, .index = kT1, .disp = static_cast<int>(mmu::kJumpTable)});
    a_.jcc(kE, c.back);
    a_.push_imm(c.site);
    a_.jmp(c.thunk);
}

/// The same; an unknown target is looked up by the slow path, or the instruction of `site` executed by it.
void Translator::emit_lookup(u32 site) {
    blocks_.site(site).access = a_.offset();
    emit_index(thunks_.miss_jump, site);
}

void Translator::emit_transfer() {
    a_.alu_imm(4, kT0, -static_cast<s32>(kPageSize), true);
    a_.mov({.base = kBank, .disp = kCodePage}, kT0);
    a_.jmp_memory({.base = kBank, .index = kT1, .disp = static_cast<int>(mmu::kJumpTable) + kJumpHost});
    ended_ = true;
}

/// Whether code at `target`, in this page, may ask for flags after registers that the recipe names have changed. What is not
/// translated yet mostly does.
bool Translator::outlives_registers(s64 target) const {
    const Spa spa(block_->spa.value - block_->spa.offset() + static_cast<u64>(target));
    const Block* const block = spa == block_->spa ? block_ : blocks_.find(spa, key_.value);
    if (block == nullptr) return true;
    if (block->needs_flags) return false;  // they are saved on the way
    return block->passes_flags || (block->changed_while_pending & flags_.recipe.registers()) != 0;
}

Translator::EdgeFlags Translator::prepare_edge(s64 target, s64 other) {
    if (flags_.source == FlagState::Source::Recipe && flags_.hardware) {
        if (flags_.recipe.registers() != 0 && (outlives_registers(target) || (other != target && outlives_registers(other))))
            freeze_recipe();
        const u32 number = recipe_here();
        set_pending(number);
        return {.recipe = number};
    }
    settle_flags();
    return {.pending = flags_.source == FlagState::Source::Pending};
}

/// Goes on at an offset of the code page, here or in another page; the block's instructions up to there are charged.
void Translator::emit_edge(s64 target) {
    if (!in_page(target)) return emit_far_edge(target);
    const EdgeFlags flags = prepare_edge(target, target);
    a_.align_rel32(1);
    link(a_.jmp_later(), target, flags);
    ended_ = true;
}

/// T0 = address of the code page plus `key`.
void Translator::emit_edge_check(s64 target, s64 key, u32 number) {
    Site& site = blocks_.site(number);
    site.access = a_.offset();
    site.edge = true;
    site.edge_distance = static_cast<s32>(target - key);
    a_.cmp(kT0, edge_entry(0, offsetof(mmu::JumpEntry, rip)));
    site.edge_compare = a_.offset() - 4;
    cold_thunk(a_.jcc_later(kNe), thunks_.miss_edge, number);
}

/// The jump of an edge has just been emitted.
void Translator::note_edge_jump(Site& site) { site.edge_jump = static_cast<u16>(a_.offset() - 4 - site.edge_compare); }

void Translator::emit_far_edge(s64 target) {
    settle_flags();
    const u32 number = exit_site(target);
    load_code_address(0);
    emit_edge_check(target, 0, number);
    a_.lea(kT0, {.base = kT0, .disp = static_cast<s32>(target & ~static_cast<s64>(kPageMask))});
    a_.mov({.base = kBank, .disp = kCodePage}, kT0);
    a_.jmp_memory(edge_entry(0, kJumpHost));
    note_edge_jump(blocks_.site(number));
    ended_ = true;
}

void Translator::emit_fallthrough(s64 target) {
    if (in_page(target) || key_.has(ModeKey::kFlat)) return emit_edge(target);
    settle_flags();
    cold_thunk(a_.jmp_later(), thunks_.leave, exit_site(target));
}

bool Translator::emit_jcc() {
    const s64 target = end_ + static_cast<s64>(cur_->imm);
    if (cur_->op_size != 8 || target != static_cast<s32>(target)) return false;
    restore_flags(kT0);
    const u8 cond = opcode() & 15;
    const bool last = !plan_now().side_exit;
    if (last && in_page(target) && in_page(end_)) {
        // A loop is left once: what goes round decides.
        const EdgeFlags flags = prepare_edge(target, target < end_ ? target : end_);
        a_.align_rel32(2);
        const u32 at = a_.jcc_later(cond);
        link(at, target, flags);
        a_.align_rel32(1);
        link(a_.jmp_later(), end_, flags);
        ended_ = true;
        return true;
    }
    const u32 from = a_.jcc_later(cond);
    cold_.push_back({.kind = Cold::Kind::SideExit,
                     .index = static_cast<u8>(index_),
                     .from = from,
                     .target = target,
                     .flags = flags_});
    if (last) emit_edge(end_);
    return true;
}

/// The other way of a conditional jump: gives back what was charged for the rest of the block.
void Translator::emit_side_exit(const Cold& c) {
    index_ = c.index;
    flags_ = c.flags;
    if (!watchers_.empty()) emit_exit_counters();
    const int rest = block_->count - (c.index + 1);
    if (rest != 0) a_.lea(kBudget, {.base = kBudget, .disp = rest});
    emit_edge(c.target);
}

bool Translator::emit_jmp() {
    const s64 target = end_ + static_cast<s64>(cur_->imm);
    if (cur_->op_size != 8 || target != static_cast<s32>(target)) return false;
    emit_edge(target);
    return true;
}

// ---- calls and returns
//
// A call pushes the guest's return address on the host's stack and calls; a return that finds the address it is about
// to go to there returns on the host, whose return prediction then works for the guest. Whatever leaves translated code
// or changes address space or mode forgets all pairs by putting the host's stack pointer back (kStackBase).

/// More calls than returns: forgets all pairs before the host's stack is used up.
void Translator::emit_stack_limit() {
    a_.cmp(kHostStack, {.base = kBank, .disp = kStackLimit});
    const u32 from = a_.jcc_later(kB);
    cold_.push_back({.kind = Cold::Kind::StackLimit, .from = from, .back = a_.offset(), .flags = {}});
}

/// Where a paired return arrives: T0 is the address behind the call.
void Translator::emit_return_site() {
    a_.pop(kT1);
    flags_pending();
    if (in_page(end_)) {
        if (end_ != 0) a_.lea(kT0, {.base = kT0, .disp = -end_});
        a_.mov({.base = kBank, .disp = kCodePage}, kT0);
        emit_edge(end_);
        return;
    }
    const u32 number = new_site();
    Site& site = blocks_.site(number);
    site.index = block_->count;
    site.rip_in_t0 = true;
    emit_lookup(number);
    emit_transfer();
}

bool Translator::emit_call() {
    const s64 target = end_ + static_cast<s64>(cur_->imm);
    if (cur_->op_size != 8 || target != static_cast<s32>(target)) return false;
    settle_flags();
    const HostMem m = check({.base = cpu::RSP, .disp = -8}, 8, true);
    load_code_address(end_);
    a_.mov(m, kT0);
    if (in_page(target)) {
        lea_stack(-8);
        emit_stack_limit();
        a_.push(kT0);
        a_.align_rel32(1);
        link(a_.call_later(), target, {.pending = flags_.source == FlagState::Source::Pending});
    } else {
        // Executing the call once more stores the same return address again: nothing is committed yet.
        const u32 number = new_site();
        emit_edge_check(target, end_, number);
        emit_stack_limit();
        a_.push(kT0);
        a_.lea(kT0, {.base = kT0, .disp = static_cast<s32>((target & ~static_cast<s64>(kPageMask)) - end_)});
        a_.mov({.base = kBank, .disp = kCodePage}, kT0);
        lea_stack(-8);
        a_.call_memory(edge_entry(0, kJumpHost));
        note_edge_jump(blocks_.site(number));
    }
    emit_return_site();
    return true;
}

bool Translator::emit_ret() {
    if (cur_->op_size != 8) return false;
    const s32 raise = static_cast<s32>(plan_now().adjustment);
    settle_flags();
    const HostMem m = check({.base = cpu::RSP}, 8, false);
    a_.mov(kT0, m);
    a_.cmp(kT0, {.base = kHostStack, .disp = 8});
    const u32 from = a_.jcc_later(kNe);
    cold_.push_back(
        {.kind = Cold::Kind::ReturnMiss, .index = static_cast<u8>(index_), .from = from, .target = raise, .flags = {}});
    lea_stack(raise);
    a_.ret();
    ended_ = true;
    return true;
}

void Translator::emit_return_miss(const Cold& c) {
    index_ = c.index;
    start_ = end_ - cur_->length;
    flags_pending();
    count_return_miss();
    a_.mov(kHostStack, {.base = kBank, .disp = kStackBase});
    emit_lookup(new_site());
    lea_stack(static_cast<s32>(c.target));
    emit_transfer();
}

bool Translator::load_target() {
    if (cur_->op_size != 8) return false;
    if (memory_form()) {
        const HostMem m = check(operand_address(), 8, false);
        a_.mov(kT0, m);
    } else if (kHostOf[rm_field()] == kInMemory) {
        load_gpr(kT0, rm_field());
    } else {
        a_.mov(kT0, kHostOf[rm_field()]);
    }
    return true;
}

bool Translator::emit_jmp_rm() {
    settle_flags();
    if (!load_target()) return false;
    emit_lookup(new_site());
    emit_transfer();
    return true;
}

bool Translator::emit_call_rm() {
    settle_flags();
    if (!load_target()) return false;
    // Only a target that the jump cache knows is taken here, so it is canonical; it is looked up again below because
    // both scratch registers are needed for the store of the return address.
    a_.mov({.base = kBank, .disp = kStash}, kT0);
    emit_lookup(new_site());
    const HostMem m = check({.base = cpu::RSP, .disp = -8}, 8, true);
    load_code_address(end_);
    a_.mov(m, kT0);
    lea_stack(-8);
    emit_stack_limit();
    a_.push(kT0);
    a_.mov(kT0, {.base = kBank, .disp = kStash});
    // The refill for the stack emptied the jump cache: the call is complete, the dispatcher knows the way.
    const u32 number = new_site();
    blocks_.site(number).index = block_->count;
    blocks_.site(number).rip_in_stash = true;
    emit_index(thunks_.leave, number);
    a_.alu_imm(4, kT0, -static_cast<s32>(kPageSize), true);
    a_.mov({.base = kBank, .disp = kCodePage}, kT0);
    a_.call_memory({.base = kBank, .index = kT1, .disp = static_cast<int>(mmu::kJumpTable) + kJumpHost});
    emit_return_site();
    return true;
}

}  // namespace vg::jit
