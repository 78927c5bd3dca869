// Registers of "IA-PC HPET (High Precision Event Timers) Specification 1.0a" §2.3.
#pragma once

#include "base/types.h"

namespace vg::devices::hpet {

inline constexpr u64 kCapabilities = 0x000, kConfiguration = 0x010, kStatus = 0x020, kCounter = 0x0f0, kTimers = 0x100,
                     kTimerStride = 0x20, kTimerConfiguration = 0x00, kTimerComparator = 0x08;

inline constexpr u64 kCapCounter64 = 1 << 13, kCapLegacy = 1 << 15;
inline constexpr u64 kEnable = 1 << 0, kLegacyReplacement = 1 << 1;

// Timer configuration
inline constexpr u64 kLevel = 1 << 1, kInterrupt = 1 << 2, kPeriodic = 1 << 3, kCanPeriodic = 1 << 4, kCan64 = 1 << 5,
                     kSetValue = 1 << 6, k32Bit = 1 << 8;
inline constexpr unsigned kRouteHigh = 13, kRouteLow = 9;
inline constexpr u64 kTimerWritable = kLevel | kInterrupt | kPeriodic | kSetValue | k32Bit | 0x1f << kRouteLow;

}  // namespace vg::devices::hpet
