// The instruction table: everything static that is known about an instruction, one row per encoding.
#pragma once

#include <string_view>

#include "cpu/exec.h"
#include "cpu/insn.h"

namespace vg::cpu {

class Interp;

/// Mnemonics in SDM spelling; one enumerator per mnemonic that occurs in cpu/isa/*.def (ops.def lists them).
enum class Op : u16 {
    Invalid,
#define OP(name) name,
#include "cpu/isa/ops.def"
#undef OP
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
inline constexpr u32 Privileged = 1 << 1;  ///< #GP(0) if CPL != 0
inline constexpr u32 Branch = 1 << 2;      ///< may set rip: ends a block
inline constexpr u32 String = 1 << 3;      ///< honours REP
inline constexpr u32 System = 1 << 4;      ///< may change mode, mappings or pending events: ends a block
inline constexpr u32 No64 = 1 << 5;        ///< #UD in 64-bit mode (already applied by the decoder)
inline constexpr u32 Only64 = 1 << 6;
inline constexpr u32 Default64 = 1 << 7;   ///< operand size defaults to 64 in 64-bit mode
inline constexpr u32 Force64 = 1 << 8;     ///< operand size is always 64 in 64-bit mode
inline constexpr u32 X87 = 1 << 9;
inline constexpr u32 Mmx = 1 << 10;
inline constexpr u32 Sse = 1 << 11;        ///< legacy-encoded SSE
inline constexpr u32 Avx = 1 << 12;        ///< VEX-encoded vector instruction
inline constexpr u32 AlignedMem = 1 << 13; ///< memory operand must be aligned to its size (#GP(0))
inline constexpr u32 ReadsDest = 1 << 14;  ///< the first operand is read too
inline constexpr u32 NoWriteDest = 1 << 15;///< the first operand is only read (CMP, TEST, PUSH...)
inline constexpr u32 HostDependent = 1 << 16; ///< result differs between host vendors (RCPPS, FSIN...)
inline constexpr u32 Vsib = 1 << 17;
inline constexpr u32 Hypervisor = 1 << 18; ///< VMX or SVM instruction
}  // namespace attr

using Body = Exec (*)(Interp&, const Insn&);

struct Row {
    Op op;
    std::string_view mnemonic;
    How how;
    Feature feature;
    u32 attributes;      ///< attr bits
    u16 flags_read;      ///< RFLAGS status bits (and DF) tested
    u16 flags_written;   ///< status bits given a defined value
    u16 flags_undefined; ///< status bits left undefined by the manuals
    Body body;           ///< How::Body; nullptr for How::Host
};

/// Row of a decoded instruction; `index` from Insn::row.
[[nodiscard]] const Row& row(u16 index);
[[nodiscard]] u16 row_count();
[[nodiscard]] std::string_view mnemonic(Op op);
[[nodiscard]] std::string_view feature_name(Feature feature);

}  // namespace vg::cpu
