// Instruction records as text, for comparing and for messages.
#pragma once

#include <string>

#include "cpu/insn.h"

namespace vg::cpu {

[[nodiscard]] constexpr u64 truncated(u64 value, unsigned bits) {
    return bits >= 64 ? value : value & ((u64{1} << bits) - 1);
}

struct MemoryText {
    unsigned size = 0;
    std::string segment, base, index;  ///< empty: none
    unsigned scale = 1;
    u64 displacement = 0;
};
/// "mem8 ds:[rbx+rcx*4+0x10]"
[[nodiscard]] std::string memory_text(const MemoryText& m);

/// Mnemonic; string instructions with the suffix of their element.
[[nodiscard]] std::string mnemonic_text(const Insn& i);

/// "eax", "imm4 0x10", "mem8 ds:[rbx+rcx*4+0x10]": kind, size and every field. Displacements are truncated to the
/// address size.
[[nodiscard]] std::string operand_text(const Insn& i, const Operand& o);

/// Prefixes that apply, mnemonic, operands.
[[nodiscard]] std::string insn_text(const Insn& i);

}  // namespace vg::cpu
