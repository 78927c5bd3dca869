// What POPF and IRET share.
#pragma once

#include "cpu/interp.h"

namespace vg::cpu::ops {

/// RFLAGS bits that a pop of `size` bytes may change at this CPL and IOPL. VM, VIF and VIP are not among them.
[[nodiscard]] u64 writable_flags(const Interp& in, unsigned size);
/// Sets the masked bits and finishes the instruction: Resync if anything but status bits changed.
Exec load_flags(Interp& in, const Insn& i, u64 value, u64 mask);

}  // namespace vg::cpu::ops
