// Which guest instructions are emitted natively, and how: by opcode, because that is what re-encoding works on.
#pragma once

#include "cpu/insn.h"
#include "cpu/isa/isa.h"

namespace vg::jit {

enum class Emit : u8 {
    Helper,   ///< call the interpreter's body
    Nothing,  ///< no effect that we model (NOP, hints, prefetches)
    ModRm,    ///< re-encode with renamed registers and a checked memory operand
    Plain,    ///< operands are RAX/RDX (and an immediate) only: the same bytes
    MovImm,   ///< B0..BF
    MovAbs,   ///< A0..A3
    XchgAcc,  ///< 91..97, 90 with REX.B
    Bswap,
    Lea,
    Push,
    PushImm,
    PushRm,
    Pop,
    Leave,
    Jcc,
    Jmp,
    Call,
    Ret,
    JmpRm,
    CallRm,
    Divide,
    Cli,
    Sti,
    DirectionFlag,
    Pushf,
    Swapgs,
    Pause,
    ReadTime,  ///< RDTSC, RDTSCP
    ReadCr,
    String,
    VexGpr,  ///< BMI: general registers in ModRM and VEX.vvvv
    Vector,  ///< SSE, AVX and MMX
    X87
};

/// What an instruction does to a ModRM field's register or memory.
enum class Role : u8 { None, Read, Write, Both };

struct Class {
    Emit emit = Emit::Helper;
    Role reg = Role::None;  ///< None: the field is part of the opcode, or unused
    Role rm = Role::None;
    u8 reg_size = 0;  ///< bytes; 0: operand size
    u8 rm_size = 0;
    bool bit_string = false;      ///< a bit offset in a register reaches beyond the memory operand
    bool registers_only = false;  ///< register operands must be in host registers (memory has another meaning)
    bool reads_flags_if_cl = false;
    bool uses_vectors = false;  ///< SSE and AVX state
    bool uses_x87 = false;      ///< x87 and MMX state
};

/// Position of the opcode in the opcode maps: 0 one-byte, 1: 0F, 2: 0F38, 3: 0F3A.
[[nodiscard]] u8 opcode_map(const cpu::Row& row);
/// @param row  the instruction's
[[nodiscard]] Class classify(const cpu::Insn& i, const cpu::Row& row);
/// What the address of a vector instruction's memory operand must be a multiple of, or #GP(0).
[[nodiscard]] unsigned vector_alignment(const cpu::Insn& i);

}  // namespace vg::jit
