// Writes of control registers with all their checks and consequences. SDM 3A "Control Registers".
#pragma once

#include "cpu/vp.h"

namespace vg::cpu {

/// Each returns Next after the write, Fault (#GP(0)) with nothing changed, or Switch (a VM exit). Flushes and update_context are done.
Exec write_cr0(Vp& vp, u64 value);
Exec write_cr3(Vp& vp, u64 value);
Exec write_cr4(Vp& vp, u64 value);
Exec write_efer(Vp& vp, u64 value);
Exec write_xcr0(Vp& vp, u64 value);
/// DR0..DR7; the caller has resolved DR4/DR5.
Exec write_dr(Vp& vp, unsigned number, u64 value);
/// CR4 bits that this model lets be set.
[[nodiscard]] u64 cr4_mask(const CpuModel& model);

}  // namespace vg::cpu
