// Registers of the Q35 memory controller hub and of the ICH9 LPC bridge that PC firmware sets up (Intel "3 Series
// Express Chipset Family" data sheet, "ICH9" data sheet).
#pragma once

#include "base/types.h"

namespace vg::devices::q35 {

// Memory controller hub, 0:0.0
inline constexpr u16 kHostDevice = 0x29c0;
inline constexpr u32 kPciExBar = 0x60;  ///< base of the configuration space in memory, 64 bits
inline constexpr u64 kPciExBarEnable = 1;
inline constexpr u32 kPam = 0x90, kPamCount = 7;
inline constexpr u8 kPamRead = 1, kPamWrite = 2;  ///< in each of a register's two nibbles: accesses go to memory
inline constexpr u32 kSmram = 0x9d, kEsmramc = 0x9e;

/// What the PAM registers cover: 0xF0000..0xFFFFF by register 0's high nibble, then 16 KiB a nibble from 0xC0000 on.
inline constexpr u64 kPamBase = 0xc0000, kPamSize = 0x40000, kPamSegment = 0x4000, kPamBios = 0xf0000,
                     kPamBiosSize = 0x10000;

// LPC bridge, 0:1f.0
inline constexpr u16 kLpcDevice = 0x2918;
inline constexpr u32 kPmBase = 0x40, kAcpiControl = 0x44, kRcba = 0xf0;
inline constexpr u32 kPirqA = 0x60, kPirqE = 0x68;  ///< four routes each
inline constexpr u8 kPirqOff = 0x80;                ///< in a route: not to an 8259
inline constexpr u32 kPirqCount = 8;

// Ports behind the power management base
inline constexpr u16 kPmPorts = 0x80, kPmGpe0 = 0x20, kPmSmiEnable = 0x30;
inline constexpr u32 kSmiApmEnable = 1 << 5;

}  // namespace vg::devices::q35
