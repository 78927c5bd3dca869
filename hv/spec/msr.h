// Synthetic MSRs: numbers (from hv/msrs.def) and register layouts. Rows M-01..M-34; TLFS 6.0b "Synthetic MSRs".
#pragma once

#include "base/types.h"

namespace vg::hv {

namespace msr {
/// Every index a guest might find a synthetic MSR at; all of it is intercepted.
inline constexpr u32 kFirst = 0x40000000, kLast = 0x400010ff;

#define HV_MSR(first, count, name, gate, read, write) inline constexpr u32 name = first;
#include "hv/msrs.def"
#undef HV_MSR
}  // namespace msr

/// Shared layout of the page placement MSRs: bit 0 enable, [63:12] GPA page number.
inline constexpr u64 kPageEnable = 1;
constexpr Gpa placed_page(u64 value) { return Gpa(value & ~kPageMask); }

namespace hypercall_msr {
inline constexpr u64 kEnable = 1, kLocked = 2, kReserved = 0xffc;
}

namespace crash_ctl {
inline constexpr u64 kNotify = u64{1} << 63, kMessage = u64{1} << 62;
inline constexpr u64 kSupported = kNotify | kMessage;
inline constexpr u64 kMessageLimit = 4096;  ///< bytes at P3, length in P4
}  // namespace crash_ctl

}  // namespace vg::hv
