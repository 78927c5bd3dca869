// Access to synthetic MSRs. Rows M-01..M-34.
#pragma once

#include <string_view>

#include "base/types.h"

namespace vg::hv {

class Vp;

/// RDMSR (WRMSR) of an index in msr::kFirst..msr::kLast by this VP. False for #GP(0): no such register, its privilege
/// missing, the direction not allowed, or the value refused.
[[nodiscard]] bool read_msr(Vp& vp, u32 index, u64& value);
[[nodiscard]] bool write_msr(Vp& vp, u32 index, u64 value);

/// Name of the row for people, or "unknown".
[[nodiscard]] std::string_view msr_name(u32 index);

}  // namespace vg::hv
