// BT, BTS, BTR and BTC of a bit string in memory: the offset, a signed number in a register, says which word it is.
#include <bit>

#include "jit/translator.h"

namespace vg::jit {

bool Translator::emit_bit_string() {
    constexpr HostMem kStashed{.base = kBank, .disp = kStash};
    const unsigned size = cur_->op_size, reg = reg_field();
    const bool write = cur_->op != cpu::Op::BT;
    if (cur_->addr_size != 8) return false;  // the sum with the offset would have to be cut off before a segment's base
    keep_flags();
    load_address(operand_address());
    const bool in_memory = kHostOf[reg] == kInMemory;
    const HostMem home{.base = kBank, .disp = gpr_disp(reg)};
    const Encoding widen = size == 2   ? Encoding{.map = 1, .opcode = 0xbf, .w = true}
                           : size == 4 ? Encoding{.opcode = 0x63, .w = true}
                                       : Encoding{.opcode = 0x8b, .w = true};
    if (in_memory)
        a_.modrm(widen, kT1, home);
    else
        a_.modrm(widen, kT1, kHostOf[reg]);
    a_.modrm({.opcode = 0xc1, .w = true}, 7, kT1);  // sar
    a_.byte(static_cast<u8>(std::countr_zero(size) + 3));
    a_.lea(kT0, {.base = kT0, .index = kT1, .scale = static_cast<u8>(size)});
    const HostMem m = check_here(size, write);

    const Encoding operation{.map = 1, .opcode = opcode(), .size16 = size == 2, .lock = cur_->lock, .w = size == 8};
    if (in_memory)
        a_.mov(kT1, home);
    else
        a_.mov(kT1, kHostOf[reg]);
    if (write) a_.alu_imm(4, kT1, static_cast<s32>(8 * size - 1), false);  // the memory form takes the whole offset
    if (needs_flags()) {
        a_.mov(kStashed, kT1);
        restore_flags(kT1);
        a_.mov(kT1, kStashed);
    }
    if (write) {
        a_.modrm(operation, kT1, m);
    } else {  // the memory form is microcode
        a_.modrm(size == 2 ? Encoding{.map = 1, .opcode = 0xb7} : Encoding{.opcode = 0x8b, .w = size == 8}, kT0, m);
        a_.modrm(operation, kT1, kT0);
    }
    wrote_flags();
    return true;
}

}  // namespace vg::jit
