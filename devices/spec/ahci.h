// Registers and memory structures of "Serial ATA AHCI 1.3.1": §3 registers, §4 structures.
#pragma once

#include "base/types.h"

namespace vg::devices::ahci {

inline constexpr u32 kPortsOffset = 0x100, kPortStride = 0x80, kMaxPorts = 32, kSlots = 32;

// Generic host control
inline constexpr u32 kCap = 0x00, kGhc = 0x04, kIs = 0x08, kPi = 0x0c, kVs = 0x10, kCap2 = 0x24, kBohc = 0x28;
inline constexpr u32 kCap64Bit = 1u << 31, kCapQueueing = 1u << 30, kCapStaggered = 1u << 27, kCapOverride = 1u << 24,
                     kCapAhciOnly = 1u << 18, kCapGen3 = 3u << 20, kCapSlotsShift = 8;
inline constexpr u32 kGhcReset = 1u << 0, kGhcInterrupts = 1u << 1, kGhcAhci = 1u << 31;
inline constexpr u32 kVersion = 0x00010301;
inline constexpr u32 kCap2Handoff = 1u << 0;
inline constexpr u32 kBohcBiosOwned = 1u << 0, kBohcOsOwned = 1u << 1;

// Ports
inline constexpr u32 kPxClb = 0x00, kPxClbu = 0x04, kPxFb = 0x08, kPxFbu = 0x0c, kPxIs = 0x10, kPxIe = 0x14,
                     kPxCmd = 0x18, kPxTfd = 0x20, kPxSig = 0x24, kPxSsts = 0x28, kPxSctl = 0x2c, kPxSerr = 0x30,
                     kPxSact = 0x34, kPxCi = 0x38;

// PxIS and PxIE
inline constexpr u32 kIsDeviceToHost = 1u << 0, kIsPioSetup = 1u << 1, kIsSetDeviceBits = 1u << 3,
                     kIsDescriptor = 1u << 5, kIsConnectChange = 1u << 6, kIsPhyReady = 1u << 22,
                     kIsOverflow = 1u << 24, kIsLinkNonFatal = 1u << 26, kIsLinkFatal = 1u << 27,
                     kIsHostBusData = 1u << 28, kIsHostBusFatal = 1u << 29, kIsTaskFile = 1u << 30;
inline constexpr u32 kIsReadOnly = kIsConnectChange | kIsPhyReady;  ///< follow PxSERR
inline constexpr u32 kIeWritable = 0xfdc000ff;

// PxCMD
inline constexpr u32 kCmdStart = 1u << 0, kCmdSpinUp = 1u << 1, kCmdPowerOn = 1u << 2, kCmdOverride = 1u << 3,
                     kCmdFisReceive = 1u << 4, kCmdSlotShift = 8, kCmdSlotMask = 0x1fu << 8, kCmdFisRunning = 1u << 14,
                     kCmdRunning = 1u << 15, kCmdAlpm = 0x0f000000;
inline constexpr u32 kCmdWritable = kCmdStart | kCmdFisReceive | kCmdAlpm;

inline constexpr u32 kSstsActiveGen3 = 0x133, kSstsOffline = 0x4;
inline constexpr u32 kSctlDetMask = 0xf, kSctlDetReset = 1, kSctlDetOffline = 4;
inline constexpr u32 kSerrExchanged = 1u << 26, kSerrPhyReady = 1u << 16;

// Received FIS area
inline constexpr u32 kRfisPioSetup = 0x20, kRfisDeviceToHost = 0x40, kRfisSetDeviceBits = 0x58;

/// One of 32 in the command list (PxCLB).
struct CommandHeader {
    u32 flags;  ///< 4:0 FIS length in words, 6 write, 31:16 entries in the descriptor table
    u32 bytes;  ///< transferred
    u64 table;  ///< 128-byte aligned
    u32 reserved[4];
};
static_assert(sizeof(CommandHeader) == 32);
inline constexpr u32 kHeaderAlign = 128;
inline constexpr u32 kTableDescriptors = 0x80;  ///< offset in the command table, behind the command FIS

/// Physical region descriptor.
struct Descriptor {
    u64 address;  ///< bit 0 is reserved
    u32 reserved;
    u32 count;  ///< 21:0 bytes minus one, bit 0 always one; 31 interrupt
};
static_assert(sizeof(Descriptor) == 16);
inline constexpr u32 kDescriptorCountMask = 0x3fffff;

}  // namespace vg::devices::ahci
