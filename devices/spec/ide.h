// Registers of an IDE channel ("ATA/ATAPI-6" §7) and of the bus master function of PIIX4 (Intel "82371AB (PIIX4)" data
// sheet §2.3, §5; "Programming Interface for Bus Master IDE Controller 1.0").
#pragma once

#include "base/types.h"

namespace vg::devices::ide {

inline constexpr u16 kDeviceId = 0x7111;

/// Where compatibility mode has the channels: primary, secondary.
inline constexpr u16 kCommandPort[] = {0x1f0, 0x170}, kControlPort[] = {0x3f6, 0x376};
inline constexpr u16 kCommandPorts = 8;
inline constexpr u32 kIrq[] = {14, 15};

/// Command block registers; what is read differs from what is written in two of them.
enum Register : u8 { kData, kErrorFeatures, kCount, kLbaLow, kLbaMid, kLbaHigh, kDevice, kStatusCommand };
inline constexpr u8 kSecondDrive = 0x10;                             ///< device register: which drive is selected
inline constexpr u8 kNoInterrupt = 0x02, kHighOrderByte = 0x80;      ///< device control, with ata::kControlSoftReset

// Bus master registers of a channel
inline constexpr u16 kMasterPorts = 8;
inline constexpr u16 kMasterCommand = 0, kMasterStatus = 2, kMasterTable = 4;
inline constexpr u8 kMasterStart = 0x01, kMasterToMemory = 0x08;                              ///< command
inline constexpr u8 kMasterActive = 0x01, kMasterError = 0x02, kMasterInterrupt = 0x04;       ///< status
inline constexpr u8 kMasterDmaCapable = 0x60;                                                 ///< one bit for each drive

/// Physical region descriptor.
struct Region {
    u32 address;  ///< bit 0 reads as zero
    u32 count;    ///< bits 15:0 bytes, even, 0 is 64 KiB; bit 31: the last one
};
static_assert(sizeof(Region) == 8);
inline constexpr u32 kRegionLast = 1u << 31;
inline constexpr u32 kMostRegions = 0x10000 / sizeof(Region);  ///< a table is within 64 KiB

// Configuration space
inline constexpr u32 kTiming = 0x40;              ///< two 16-bit registers
inline constexpr u16 kDecodeEnable = 0x8000;      ///< in each: the channel's ports are decoded
inline constexpr u32 kSlaveTiming = 0x44, kUdmaControl = 0x48, kUdmaTiming = 0x4a;

}  // namespace vg::devices::ide
