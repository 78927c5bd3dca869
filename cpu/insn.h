// A decoded instruction: one fixed-size record, the same for interpreter, translator and tools.
#pragma once

#include "base/types.h"
#include "cpu/vp_state.h"

namespace vg::cpu {

enum class Op : u16;  // mnemonics, generated from cpu/isa/*.def (cpu/isa/isa.h)

/// Code size in force: CS.L and CS.D.
enum class CodeMode : u8 { Bits16, Bits32, Bits64 };

enum class OperandKind : u8 {
    None,
    Gpr,      ///< reg: 0..15; `high` selects AH/CH/DH/BH (reg 0..3)
    Seg,      ///< reg: Seg
    Cr, Dr,   ///< reg: 0..15
    St,       ///< reg: 0..7
    Mm,       ///< reg: 0..7
    Xmm, Ymm, ///< reg: 0..15
    Mem,      ///< the record's memory descriptor
    Imm,      ///< the record's imm (already sign- or zero-extended as the instruction defines)
    Imm2,     ///< the record's imm2 (ENTER, EXTRQ)
    Rel,      ///< branch displacement, sign-extended in imm
    FarPtr,   ///< offset in imm, selector in imm2
    Implicit1 ///< the constant 1 (shift by one)
};

struct Operand {
    OperandKind kind = OperandKind::None;
    u8 reg = 0;
    u8 size = 0;       ///< bytes: 1,2,4,8,10,16,32; 0 where it has no meaning (LEA, INVLPG, FXSAVE areas)
    bool high = false; ///< AH, CH, DH, BH
};

/// LOCK and repeat prefixes as they apply (not as they appear: mandatory prefixes are consumed by the opcode).
enum class Rep : u8 { None, Repe, Repne };

inline constexpr u8 kNoReg = 0xff;
inline constexpr u8 kRipBase = 0xfe;  ///< base of RIP-relative addressing
inline constexpr unsigned kMaxInsnLength = 15;

struct Insn {
    Op op{};
    u16 row = 0;        ///< index of the isa row: attributes (flags, class, CPUID bit) by cpu::row(row)
    u8 length = 0;      ///< 1..15 bytes
    CodeMode mode = CodeMode::Bits64;
    u8 op_size = 4;     ///< effective operand size: 2, 4 or 8
    u8 addr_size = 8;   ///< effective address size: 2, 4 or 8
    u8 operand_count = 0;
    Rep rep = Rep::None;
    bool lock = false;
    // memory descriptor (valid if some operand is Mem)
    Seg seg = Seg::DS;  ///< effective segment: default or override (in 64-bit mode only FS/GS overrides survive)
    bool seg_override = false;
    u8 base = kNoReg;   ///< Gpr number, kRipBase or kNoReg
    u8 index = kNoReg;  ///< Gpr number or kNoReg (VSIB: vector register)
    u8 scale = 1;       ///< 1, 2, 4, 8
    bool has_modrm = false;
    u8 modrm = 0;
    u8 vex_l = 0;       ///< 0: 128 or none, 1: 256
    u8 opcode_offset = 0;  ///< offset in bytes[] of the opcode byte (behind prefixes/escapes; VEX: behind the VEX bytes)
    u8 modrm_offset = 0;   ///< offset of ModRM, if any
    u8 disp_offset = 0, disp_size = 0;  ///< displacement within bytes[]
    u8 imm_offset = 0, imm_size = 0;    ///< first immediate within bytes[]
    u8 rex = 0;         ///< REX byte or 0 (VEX: the equivalent W/R/X/B bits, or'ed with 0x40)
    u8 vex = 0;         ///< 0 legacy, 2 or 3: size of the VEX prefix
    u8 prefix_count = 0;   ///< legacy prefix bytes before REX/VEX/opcode
    s64 disp = 0;       ///< sign-extended displacement; moffs: the full offset
    u64 imm = 0;
    u64 imm2 = 0;
    Operand operands[4];
    u8 bytes[kMaxInsnLength] = {};
    u8 pad = 0;

    [[nodiscard]] const Operand& operator[](unsigned i) const { return operands[i]; }
    /// The Mem operand, or nullptr.
    [[nodiscard]] const Operand* memory_operand() const {
        for (unsigned i = 0; i < operand_count; ++i)
            if (operands[i].kind == OperandKind::Mem) return &operands[i];
        return nullptr;
    }
};
static_assert(sizeof(Insn) <= 128);

}  // namespace vg::cpu
