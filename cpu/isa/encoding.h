// One encoding of one instruction: a line of the opcode maps as data. For the decoder, and for tests and generators
// that want to build instructions.
#pragma once

#include <span>

#include "cpu/isa/isa.h"

namespace vg::cpu {

/// Where an operand is encoded.
enum class OperandSource : u8 {
    None,
    Reg,
    Rm,
    RmRegister,
    RmMemory,
    RmVsib,
    RmAlways,
    Vvvv,
    OpcodeLow,
    Fixed0,
    Fixed1,
    Fixed2,
    Fixed3,
    Fixed4,
    Fixed5,
    Immediate,
    SignedByte,
    Immediate2,
    Constant1,
    Relative,
    FarPointer,
    Offset,
    Is4,
    StringSource,
    StringDestination,
    Translate
};

enum class RegisterFile : u8 { None, Gpr, Seg, Cr, Dr, St, Mm, Xmm, Ymm, Vector };

/// Sizes in bytes, fixed or by rule (operands.def).
enum class SizeRule : u8 { Fixed, V, Z, Y, Nat, X, Half, Quarter, Eighth, Far, Table, Pair };

/// Operand letters, as in operands.def.
enum class OperandType : u8 {
    None,
#define OPERAND(name, source, file, register_size, memory_size) name,
#include "cpu/isa/operands.def"
#undef OPERAND
    Count
};

struct Size {
    SizeRule rule = SizeRule::Fixed;
    u8 bytes = 0;
};

struct OperandSpec {
    OperandSource source = OperandSource::None;
    RegisterFile file = RegisterFile::None;
    Size register_size;
    Size memory_size;
};

/// Indexed by OperandType.
[[nodiscard]] std::span<const OperandSpec> operand_specs();
[[nodiscard]] inline const OperandSpec& operand_spec(OperandType type) {
    return operand_specs()[static_cast<unsigned>(type)];
}

/// Conditions on the bytes around an opcode: a set of accepted values for each field. An empty set accepts all.
/// Prefixes: NP none, P66, PF3, PF2 (the last of F3/F2 beats 66). Widths: O16/O32/O64 effective operand size from
/// prefixes alone, A16/A32/A64 address size. W and L are the raw REX.W/VEX bits.
namespace where {
using Set = u64;
inline constexpr Set ANY = 0;
inline constexpr Set NP = 1 << 0, P66 = 1 << 1, PF3 = 1 << 2, PF2 = 1 << 3;
inline constexpr Set MEM = 1 << 4, REG = 1 << 5;
constexpr Set R(unsigned reg) { return Set{1} << (8 + reg); }
constexpr Set RM(unsigned rm) { return Set{1} << (16 + rm); }
inline constexpr Set W0 = 1 << 24, W1 = 1 << 25, L0 = 1 << 26, L1 = 1 << 27;
inline constexpr Set NOT64 = 1 << 28, IN64 = 1 << 29;
inline constexpr Set O16 = Set{1} << 32, O32 = Set{1} << 33, O64 = Set{1} << 34;
inline constexpr Set A16 = Set{1} << 36, A32 = Set{1} << 37, A64 = Set{1} << 38;
inline constexpr Set B0 = Set{1} << 40, B1 = Set{1} << 41;  ///< REX.B
}  // namespace where

struct Encoding {
    Row row;
    where::Set where = where::ANY;
    bool has_modrm = false;
    bool consumes_66 = false;  ///< 66 selects the instruction and is no operand-size prefix
    bool uses_vvvv = false;
    bool register_only = false;  ///< ModRM.rm is a register whatever ModRM.mod says (MOV CRn)
    u8 operand_count = 0;
    OperandType operands[4] = {};
};

/// All encodings; the index is Insn::row. Entry 0 is Op::Invalid.
[[nodiscard]] std::span<const Encoding> encodings();

}  // namespace vg::cpu
