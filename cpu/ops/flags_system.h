// What POPF and IRET share.
#pragma once

#include "cpu/interp.h"

namespace vg::cpu::ops {

/// RFLAGS bits that a pop of `size` bytes may change at this CPL and IOPL. VM, VIF and VIP are not among them.
[[nodiscard]] u64 writable_flags(const Interp& in, unsigned size);
/// A 16-bit pop in virtual-8086 mode with CR4.VME and IOPL below 3: VIF takes IF's place in `value` and `mask`. False:
/// #GP(0), because an interrupt waits (VIP) or TF would be set.
[[nodiscard]] bool virtualize_flags(const Interp& in, u64& value, u64& mask);
/// Sets the masked bits and finishes the instruction: Resync if anything but status bits changed.
Exec load_flags(Interp& in, const Insn& i, u64 value, u64 mask);

}  // namespace vg::cpu::ops
