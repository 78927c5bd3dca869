#include "cpu/vmx/instruction_info.h"

#include "base/bits.h"
#include "cpu/isa/isa.h"

namespace vg::cpu::vmx {

namespace {

u32 log2_of(u32 size, u32 smallest) { return size == smallest ? 0 : size == 2 * smallest ? 1 : 2; }
u32 segment_number(Seg seg) { return static_cast<u32>(seg) & 7; }

/// Scaling, address size, segment, index and base.
u32 memory_info(const Insn& i) {
    constexpr u32 kNoIndex = 1u << 22, kNoBase = 1u << 27;
    u32 info = log2_of(i.addr_size, 2) << 7 | segment_number(i.seg) << 15;
    if (i.index == kNoReg) {
        info |= kNoIndex;
    } else {
        const u32 scaling = i.scale == 8 ? 3 : i.scale == 4 ? 2 : i.scale == 2 ? 1 : 0;
        info |= scaling | u32{i.index} << 18;
    }
    if (i.base == kNoReg || i.base == kRipBase) info |= kNoBase;
    else info |= u32{i.base} << 23;
    return info;
}

}  // namespace

u32 operand_info(const Insn& i, u32 reg2) {
    if (i.memory_operand() != nullptr) return memory_info(i) | reg2 << 28;
    constexpr u32 kRegister = 1 << 10;
    u32 reg1 = 0;
    for (unsigned n = 0; n < i.operand_count; ++n) {
        const bool is_rm = i.has_modrm && i[n].kind == OperandKind::Gpr && i[n].reg == ((i.modrm & 7u) | (i.rex & 1u) << 3);
        if (is_rm) reg1 = i[n].reg;
    }
    return kRegister | reg1 << 3 | reg2 << 28;
}

u32 descriptor_table_info(const Insn& i) {
    const auto identity = [&]() -> u32 {
        switch (i.op) {
            case Op::SIDT:
            case Op::STR: return 1;
            case Op::LGDT:
            case Op::LLDT: return 2;
            case Op::LIDT:
            case Op::LTR: return 3;
            default: return 0;
        }
    };
    const bool table = i.op == Op::SGDT || i.op == Op::SIDT || i.op == Op::LGDT || i.op == Op::LIDT;
    const u32 size = table && i.mode != CodeMode::Bits64 && i.op_size == 4 ? 1u << 11 : 0;
    return operand_info(i, identity()) | size;
}

u32 string_io_info(const Insn& i) {
    const u32 segment = i.op == Op::OUTS ? segment_number(i.seg) : 0;
    return log2_of(i.addr_size, 2) << 7 | segment << 15;
}

u32 random_info(const Insn& i) { return u32{i[0].reg} << 3 | log2_of(i[0].size, 2) << 11; }

u64 displacement_of(const Insn& i, const VpState& s) {
    if (i.memory_operand() == nullptr) return 0;
    u64 value = static_cast<u64>(i.disp);
    if (i.base == kRipBase) value += s.rip + i.length;
    return i.addr_size == 8 ? value : static_cast<u32>(value);
}

}  // namespace vg::cpu::vmx
