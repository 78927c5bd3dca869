// RDMSR and WRMSR without any level: the rows of cpu/msr.def.
#pragma once

#include <string_view>

#include "base/types.h"

namespace vg::cpu {

class Vp;

/// False means #GP(0): no such MSR on this model, a reserved bit, or a read-only register. A write has all its
/// consequences (flushes, context, timers) when it returns.
[[nodiscard]] bool read_msr(Vp& vp, u32 msr, u64& value);
[[nodiscard]] bool write_msr(Vp& vp, u32 msr, u64 value);

/// Name for traces and inspectors; empty if the row is unknown.
[[nodiscard]] std::string_view msr_name(u32 msr);

}  // namespace vg::cpu
