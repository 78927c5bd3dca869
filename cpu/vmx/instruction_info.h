// The VM-exit instruction-information field and the qualifications that describe instructions. SDM 3C "Information for VM Exits
// Due to Instruction Execution".
#pragma once

#include "cpu/insn.h"
#include "cpu/vp_state.h"

namespace vg::cpu::vmx {

/// Memory operand (address size, segment, base, index, scale), or the register operand of forms that have both.
/// @param reg2  the other register operand, where the format has one
[[nodiscard]] u32 operand_info(const Insn& i, u32 reg2 = 0);
/// LGDT, LIDT, SGDT, SIDT; SLDT, STR, LLDT, LTR.
[[nodiscard]] u32 descriptor_table_info(const Insn& i);
/// INS and OUTS.
[[nodiscard]] u32 string_io_info(const Insn& i);
/// RDRAND and RDSEED.
[[nodiscard]] u32 random_info(const Insn& i);
/// The displacement of the memory operand; RIP-relative ones include RIP. 0 without one.
[[nodiscard]] u64 displacement_of(const Insn& i, const VpState& s);

}  // namespace vg::cpu::vmx
