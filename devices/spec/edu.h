// Registers of QEMU's educational PCI device (its docs/specs/edu).
#pragma once

#include "base/types.h"

namespace vg::devices::edu {

/// Offsets in base address register 0. Below kDmaSource accesses have 4 bytes, from there on 4 or 8.
enum : u32 {
    kId = 0x00,
    kLiveness = 0x04,   ///< reads as the inverse of what was written
    kFactorial = 0x08,  ///< the factorial of what was written, once kStatus says so
    kStatus = 0x20,
    kInterruptStatus = 0x24,
    kInterruptRaise = 0x60,
    kInterruptAcknowledge = 0x64,
    kDmaSource = 0x80,
    kDmaDestination = 0x88,
    kDmaCount = 0x90,
    kDmaCommand = 0x98
};
inline constexpr u32 kIdentity = 0x010000ed;  ///< version 1.0
/// kStatus.
inline constexpr u32 kComputing = 1, kInterruptWhenComputed = 0x80;
/// kInterruptStatus.
inline constexpr u32 kFactorialInterrupt = 1, kDmaInterrupt = 0x100;
/// kDmaCommand.
inline constexpr u64 kStart = 1, kToMemory = 2, kInterruptWhenDone = 4;
/// Where a transfer finds the device's own buffer.
inline constexpr u64 kBuffer = 0x40000, kBufferBytes = 4096;
inline constexpr u64 kAddressMask = 0x0fffffff;  ///< the device has 28 address lines

}  // namespace vg::devices::edu
