// Layout of PCI configuration space: "PCI Local Bus 3.0" §6, "PCI Bus Power Management 1.2" §3, "PCI Express Base 5.0"
// §7.
#pragma once

#include "base/types.h"

namespace vg::devices::pci {

inline constexpr u32 kLegacyConfigSize = 0x100;  ///< what configuration mechanism #1 reaches
inline constexpr u32 kConfigSize = 0x1000;       ///< with the extended space of PCI Express

// Type 0 header
inline constexpr u32 kVendorId = 0x00, kDeviceId = 0x02, kCommand = 0x04, kStatus = 0x06, kRevision = 0x08,
                     kClassCode = 0x09, kHeaderType = 0x0e, kBar0 = 0x10, kSubsystemVendorId = 0x2c,
                     kSubsystemId = 0x2e, kCapabilities = 0x34, kInterruptLine = 0x3c, kInterruptPin = 0x3d;
inline constexpr u32 kBarCount = 6;
inline constexpr u8 kMultiFunction = 0x80;  ///< header type

// Command
inline constexpr u16 kIoSpace = 1 << 0, kMemorySpace = 1 << 1, kBusMaster = 1 << 2, kParityResponse = 1 << 6,
                     kSerrEnable = 1 << 8, kIntxDisable = 1 << 10;
inline constexpr u16 kCommandWritable =
    kIoSpace | kMemorySpace | kBusMaster | kParityResponse | kSerrEnable | kIntxDisable;
// Status
inline constexpr u16 kInterruptStatus = 1 << 3, kCapabilityList = 1 << 4;
inline constexpr u16 kErrorStatus = 0xf900;  ///< written ones clear

// Base address registers
inline constexpr u32 kBarIo = 1, kBarMemory64 = 4, kBarPrefetchable = 8;

// Capabilities: identifiers and offsets from their start
inline constexpr u8 kCapPowerManagement = 0x01, kCapMsi = 0x05, kCapVendor = 0x09, kCapExpress = 0x10, kCapMsix = 0x11;

inline constexpr u32 kPmCapabilities = 2, kPmControl = 4, kPmSize = 8;
inline constexpr u16 kPmVersion3 = 3;
inline constexpr u16 kPmStateMask = 3, kPmNoSoftReset = 1 << 3;  ///< D0 is 0, D3hot is 3

inline constexpr u32 kMsiControl = 2, kMsiAddress = 4, kMsiAddressHigh = 8, kMsiData = 12, kMsiMask = 16,
                     kMsiPending = 20,
                     kMsiSize = 24;  ///< 64-bit addresses, per-vector masks
inline constexpr u16 kMsiEnable = 1 << 0, kMsi64Bit = 1 << 7, kMsiPerVectorMask = 1 << 8;

inline constexpr u32 kMsixControl = 2, kMsixTable = 4, kMsixPba = 8, kMsixSize = 12;
inline constexpr u16 kMsixEnable = 1 << 15, kMsixFunctionMask = 1 << 14;
inline constexpr u32 kMsixEntrySize = 16;
inline constexpr u32 kMsixEntryMasked = 1;  ///< vector control

inline constexpr u32 kExpCapabilities = 2, kExpDeviceCapabilities = 4, kExpDeviceControl = 8, kExpDeviceStatus = 10,
                     kExpSize = 0x3c;
inline constexpr u16 kExpVersion2 = 2, kExpRootComplexEndpoint = 9 << 4;
inline constexpr u32 kExpRoleBasedErrors = 1u << 15, kExpFunctionReset = 1u << 28;
inline constexpr u16 kExpInitiateReset = 1 << 15;
inline constexpr u16 kExpControlWritable = 0x781f;  ///< error reporting, relaxed order, no snoop, read request size
inline constexpr u16 kExpControlReset = 0x2810;     ///< relaxed order, no snoop, 512-byte read requests
inline constexpr u16 kExpStatusErrors = 0x000f;     ///< written ones clear

// Configuration mechanism #1
inline constexpr u16 kConfigAddressPort = 0xcf8, kConfigDataPort = 0xcfc;
inline constexpr u32 kConfigEnable = 1u << 31;

}  // namespace vg::devices::pci
