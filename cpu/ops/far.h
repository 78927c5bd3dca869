// What RET and IRET share: checks of a return to the same or an outer level.
#pragma once

#include "cpu/interp.h"
#include "cpu/segments.h"

namespace vg::cpu::ops {

/// Code segment that a far return pops: read and checked. False: fault recorded.
[[nodiscard]] bool read_return_code(Interp& in, u16 selector, Descriptor& code);
/// Return offset against it; truncated outside 64-bit code.
[[nodiscard]] bool check_return_offset(Interp& in, const Descriptor& code, u64& offset);
/// Stack segment that an outer return pops.
[[nodiscard]] bool read_return_stack(Interp& in, u16 selector, unsigned rpl, bool to_64_bit, SegmentReg& out);
/// The commits: CS:RIP with CPL, SS:RSP.
void enter_return(Interp& in, u16 selector, const Descriptor& code, u64 offset);
void set_return_stack(Interp& in, const SegmentReg& ss, u64 sp, bool to_64_bit);

}  // namespace vg::cpu::ops
