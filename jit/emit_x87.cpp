// x87: the guest's registers are in the host's unit, so only memory operands change. Translations exist only for guests
// that mask all exceptions (ModeKey::kX87): nothing here can trap.
#include "jit/translator.h"

namespace vg::jit {

bool Translator::emit_x87() {
    if (cur_->op == cpu::Op::FLDCW) return emit_fldcw();
    const Encoding e{.opcode = opcode()};
    if (memory_form()) {
        const cpu::Operand* operand = cur_->memory_operand();
        if (operand == nullptr || operand->size == 0) return false;
        const bool write = operand == &cur_->operands[0] && (row_->attributes & cpu::attr::NoWriteDest) == 0;
        const HostMem m = check(operand_address(), operand->size, write);
        a_.modrm(e, static_cast<u8>((cur_->modrm >> 3) & 7), m);
        return true;
    }
    if (needs_flags()) restore_flags(kT0);  // FCMOVcc
    a_.byte(e.opcode);
    a_.byte(cur_->modrm);
    wrote_flags();
    return true;
}

/// A control word that unmasks an exception changes the mode: the interpreter's. The word is read once, because others
/// may write to it, and gets the reserved bits that the interpreter gives it.
bool Translator::emit_fldcw() {
    constexpr s32 kMasks = 0x3f, kWritable = 0x1f3f, kAlwaysOne = 0x40;
    constexpr HostMem kWord{.base = kBank, .disp = kStash};
    const HostMem m = check(operand_address(), 2, false);
    const u8 value = free_scratch(m);
    a_.modrm({.map = 1, .opcode = 0xb7}, value, m);
    a_.alu_imm(4, value, kWritable, false);
    a_.alu_imm(1, value, kAlwaysOne, false);
    a_.modrm({.opcode = 0x89}, value, kWord);
    a_.alu_imm(4, value, kMasks, false);
    a_.alu_imm(7, value, kMasks, false);
    flags_.hardware = false;
    cold_thunk(a_.jcc_later(kNe), thunks_.execute, new_site());
    a_.modrm({.opcode = 0xd9}, 5, kWord);
    return true;
}

}  // namespace vg::jit
