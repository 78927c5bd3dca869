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
    if (host == kInMemory) load_gpr(host = kT0, reg);
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

void Translator::link(u32 rel32_at, s64 target) {
    const u32 number = new_site();
    Site& site = blocks_.site(number);
    site.rip_offset = static_cast<s32>(target);
    site.index = block_->count;
    site.patch = rel32_at;
    cold_.push_back({rel32_at, thunks_.leave, number});
}

void Translator::load_code_address(s64 target) {
    a_.mov(kT0, {.base = kBank, .disp = kCodePage});
    a_.lea(kT0, {.base = kT0, .disp = static_cast<s32>(target)});
}

/// Compares T0 with its entry in the jump cache; T1 becomes the entry's offset (mmu::jump_index times 16).
/// Returns where to jump if they differ.
u32 Translator::emit_index() {
    a_.mov32(kT1, kT0);
    a_.shl32(kT1, 4);
    a_.modrm({.opcode = 0x33}, kT1, kT0);
    a_.alu_imm(4, kT1, static_cast<s32>((mmu::kJumpEntries - 1) << 4), false);
    a_.cmp(kT0, {.base = kBank, .index = kT1, .disp = static_cast<int>(mmu::kJumpTable)});
    return a_.jcc_later(kNe);
}

/// The same; an unknown target is looked up by the slow path, or the instruction of `site` executed by it.
void Translator::emit_lookup(u32 site) {
    blocks_.site(site).access = a_.offset();
    cold_.push_back({emit_index(), thunks_.miss_jump, site});
}

void Translator::emit_transfer() {
    a_.alu_imm(4, kT0, -static_cast<s32>(kPageSize), true);
    a_.mov({.base = kBank, .disp = kCodePage}, kT0);
    a_.jmp_memory({.base = kBank, .index = kT1, .disp = static_cast<int>(mmu::kJumpTable) + kJumpHost});
    ended_ = true;
}

void Translator::emit_goto(s64 target) {
    if (in_page(target)) {
        a_.align_rel32(1);
        link(a_.jmp_later(), target);
        ended_ = true;
        return;
    }
    load_code_address(target);
    emit_lookup(new_site());
    emit_transfer();
}

void Translator::emit_fallthrough(s64 target) {
    save_flags();
    if (in_page(target)) {
        emit_goto(target);
        return;
    }
    if (!key_.has(ModeKey::kFlat)) {
        link(a_.jmp_later(), target);
        blocks_.site(blocks_.site_count() - 1).patch = 0;
        return;
    }
    load_code_address(target);
    const u32 number = new_site();
    Site& site = blocks_.site(number);
    site.rip_offset = static_cast<s32>(target);
    site.index = block_->count;
    emit_lookup(number);
    emit_transfer();
}

bool Translator::emit_jcc() {
    const s64 target = end_ + static_cast<s64>(cur_->imm);
    if (cur_->op_size != 8 || target != static_cast<s32>(target)) return false;
    save_flags();
    restore_flags(kT0);
    const u8 cond = opcode() & 15;
    if (in_page(target)) {
        a_.align_rel32(2);
        const u32 at = a_.jcc_later(cond);
        link(at, target);
        emit_fallthrough(end_);
    } else {
        const u32 skip = a_.jcc_later(cond ^ 1);
        emit_goto(target);
        a_.patch_here(skip);
        emit_fallthrough(end_);
    }
    ended_ = true;
    return true;
}

bool Translator::emit_jmp() {
    const s64 target = end_ + static_cast<s64>(cur_->imm);
    if (cur_->op_size != 8 || target != static_cast<s32>(target)) return false;
    save_flags();
    emit_goto(target);
    return true;
}

bool Translator::emit_call() {
    const s64 target = end_ + static_cast<s64>(cur_->imm);
    if (cur_->op_size != 8 || target != static_cast<s32>(target)) return false;
    const HostMem m = check({.base = cpu::RSP, .disp = -8}, 8, true);
    load_code_address(end_);
    a_.mov(m, kT0);
    if (in_page(target)) {
        lea_stack(-8);
        emit_goto(target);
        return true;
    }
    load_code_address(target);
    // Executing the call once more stores the same return address again: nothing is committed yet.
    emit_lookup(new_site());
    lea_stack(-8);
    emit_transfer();
    return true;
}

bool Translator::emit_ret() {
    if (cur_->op_size != 8) return false;
    const HostMem m = check({.base = cpu::RSP}, 8, false);
    a_.mov(kT0, m);
    emit_lookup(new_site());
    lea_stack(8 + (opcode() == 0xc2 ? static_cast<s32>(cur_->imm & 0xffff) : 0));
    emit_transfer();
    return true;
}

bool Translator::load_target() {
    if (cur_->op_size != 8) return false;
    if (memory_form()) {
        const HostMem m = check(operand_address(), 8, false);
        a_.mov(kT0, m);
        return true;
    }
    save_flags();
    if (kHostOf[rm_field()] == kInMemory)
        load_gpr(kT0, rm_field());
    else
        a_.mov(kT0, kHostOf[rm_field()]);
    return true;
}

bool Translator::emit_jmp_rm() {
    if (!load_target()) return false;
    emit_lookup(new_site());
    emit_transfer();
    return true;
}

bool Translator::emit_call_rm() {
    if (!load_target()) return false;
    // Only a target that the jump cache knows is taken here, so it is canonical; it is looked up again below because
    // both scratch registers are needed for the store of the return address.
    a_.mov({.base = kBank, .disp = kStash}, kT0);
    emit_lookup(new_site());
    const HostMem m = check({.base = cpu::RSP, .disp = -8}, 8, true);
    load_code_address(end_);
    a_.mov(m, kT0);
    lea_stack(-8);
    a_.mov(kT0, {.base = kBank, .disp = kStash});
    const u32 gone = emit_index();
    emit_transfer();
    // The refill for the stack emptied the jump cache: the call is complete, the dispatcher knows the way.
    const u32 number = new_site();
    blocks_.site(number).index = block_->count;
    blocks_.site(number).rip_in_stash = true;
    cold_.push_back({gone, thunks_.leave, number});
    return true;
}

}  // namespace vg::jit
