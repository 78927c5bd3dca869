// The instruction table: everything static that is known about an instruction, one row per encoding.
#pragma once

#include <string_view>

#include "cpu/exec.h"
#include "cpu/insn.h"

namespace vg::cpu {

class Interp;

/// Mnemonics in SDM spelling, one enumerator each (ops.def explains the few that carry a suffix).
enum class Op : u16 {
    Invalid,
#define OP_BODY(name) name,
#define OP_FAMILY(name)
#define OP_AS(name, body) name,
#define OP_HOST(name) name,
#include "cpu/isa/ops.def"
#undef OP_BODY
#undef OP_FAMILY
#undef OP_AS
#undef OP_HOST
    Count
};

/// How an instruction is executed.
enum class How : u8 {
    Body,  ///< a C++ body (cpu/ops), shared by both engines
    Host   ///< the host processor itself: a native stub, or copied into a block
};

/// CPUID feature that an encoding needs; Base needs nothing. Names as in cpu/isa/features.def.
enum class Feature : u8 {
#define FEATURE(name) name,
#include "cpu/isa/features.def"
#undef FEATURE
    Count
};

/// Properties that engines and tests ask for.
namespace attr {
inline constexpr u32 Lockable = 1 << 0;    ///< LOCK allowed with a memory destination
inline constexpr u32 Privileged = 1 << 1;  ///< #GP(0) if CPL != 0 before anything else but a missing feature (#UD)
inline constexpr u32 Branch = 1 << 2;      ///< may set rip: ends a block
inline constexpr u32 String = 1 << 3;      ///< honours REP
inline constexpr u32 System = 1 << 4;      ///< may change mode, mappings or pending events: ends a block
inline constexpr u32 No64 = 1 << 5;        ///< #UD in 64-bit mode (already applied by the decoder)
inline constexpr u32 Only64 = 1 << 6;
inline constexpr u32 Default64 = 1 << 7;  ///< operand size defaults to 64 in 64-bit mode
inline constexpr u32 Force64 = 1 << 8;    ///< operand size is always 64 in 64-bit mode
inline constexpr u32 X87 = 1 << 9;
inline constexpr u32 Mmx = 1 << 10;
inline constexpr u32 Sse = 1 << 11;            ///< legacy-encoded SSE
inline constexpr u32 Avx = 1 << 12;            ///< VEX-encoded vector instruction
inline constexpr u32 AlignedMem = 1 << 13;     ///< memory operand must be aligned to its size (#GP(0))
inline constexpr u32 ReadsDest = 1 << 14;      ///< the first operand is read too
inline constexpr u32 NoWriteDest = 1 << 15;    ///< the first operand is only read (CMP, TEST, PUSH...)
inline constexpr u32 HostDependent = 1 << 16;  ///< result differs between host vendors (RCPPS, FSIN...)
inline constexpr u32 Vsib = 1 << 17;
inline constexpr u32 Hypervisor = 1 << 18;  ///< VMX or SVM instruction
inline constexpr u32 ElseBase = 1 << 19;  ///< without its feature: the same opcode without F3 (TZCNT: BSF, LZCNT: BSR)
inline constexpr u32 MayKeepFlags = 1 << 20;  ///< a count of 0 leaves the flags as they were (shifts, CMPS, SCAS)
}  // namespace attr

/// Opcode map of an encoding.
enum class OpcodeMap : u8 { One, M0F, M0F38, M0F3A, Vex0F, Vex0F38, Vex0F3A, Count };

/// Status flags of a row are RFLAGS bits: CF, PF, AF, ZF, SF, OF, and DF where it is read.
struct Row {
    Op op;
    How how;
    Feature feature;
    OpcodeMap map;
    u8 opcode;
    u32 attributes;       ///< attr bits
    u16 flags_read;       ///< status bits (and DF) tested
    u16 flags_written;    ///< status bits given a defined value; shifts and rotates by CL: if the count is not 0
    u16 flags_undefined;  ///< status bits left undefined by the manuals
    [[nodiscard]] bool has(u32 attribute) const { return (attributes & attribute) != 0; }
};

using Body = Exec (*)(Interp&, const Insn&);

/// Row of a decoded instruction; `index` from Insn::row.
[[nodiscard]] const Row& row(u16 index);
[[nodiscard]] u16 row_count();
/// SDM mnemonic in capitals, without the suffix that tells forms apart ("MOV" for MOV_CR).
[[nodiscard]] std::string_view mnemonic(Op op);
/// Name of the enumerator ("MOV_CR").
[[nodiscard]] std::string_view op_name(Op op);
[[nodiscard]] How how(Op op);
/// Body of an operation; nullptr for those that the host processor executes. Defined in bodies.cpp, which links
/// cpu/ops: decoder, tables and tools do without.
[[nodiscard]] Body body_of(Op op);
[[nodiscard]] std::string_view feature_name(Feature feature);

}  // namespace vg::cpu
