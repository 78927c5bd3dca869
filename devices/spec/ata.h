// Commands, registers and identification of ATA disks. "ATA/ATAPI Command Set - 3" (ACS-3), "Serial ATA 3.2" §10.5.
#pragma once

#include "base/types.h"

namespace vg::devices::ata {

inline constexpr u32 kSectorBytes = 512;

enum class Command : u8 {
    DataSetManagement = 0x06,
    ReadSectors = 0x20,
    ReadSectorsExt = 0x24,
    ReadDmaExt = 0x25,
    ReadMultipleExt = 0x29,
    ReadLogExt = 0x2f,
    WriteSectors = 0x30,
    WriteSectorsExt = 0x34,
    WriteDmaExt = 0x35,
    WriteMultipleExt = 0x39,
    WriteDmaFuaExt = 0x3d,
    ReadVerify = 0x40,
    ReadVerifyExt = 0x42,
    ReadLogDmaExt = 0x47,
    ReadFpdmaQueued = 0x60,
    WriteFpdmaQueued = 0x61,
    ExecuteDiagnostic = 0x90,
    ReadMultiple = 0xc4,
    WriteMultiple = 0xc5,
    SetMultiple = 0xc6,
    ReadDma = 0xc8,
    WriteDma = 0xca,
    StandbyImmediate = 0xe0,
    IdleImmediate = 0xe1,
    Standby = 0xe2,
    Idle = 0xe3,
    CheckPowerMode = 0xe5,
    FlushCache = 0xe7,
    FlushCacheExt = 0xea,
    Identify = 0xec,
    SetFeatures = 0xef,
};

/// Whether the command takes the two-byte registers of 48-bit addresses.
constexpr bool is_48bit(Command command) {
    switch (command) {
        case Command::DataSetManagement:
        case Command::ReadSectorsExt:
        case Command::ReadDmaExt:
        case Command::ReadMultipleExt:
        case Command::ReadLogExt:
        case Command::WriteSectorsExt:
        case Command::WriteDmaExt:
        case Command::WriteMultipleExt:
        case Command::WriteDmaFuaExt:
        case Command::ReadVerifyExt:
        case Command::ReadLogDmaExt:
        case Command::ReadFpdmaQueued:
        case Command::WriteFpdmaQueued:
        case Command::FlushCacheExt:
            return true;
        default:
            return false;
    }
}

// Status and error
inline constexpr u8 kBusy = 0x80, kReady = 0x40, kSeekComplete = 0x10, kDataRequest = 0x08, kError = 0x01;
inline constexpr u8 kAborted = 0x04, kIdNotFound = 0x10, kUncorrectable = 0x40;
inline constexpr u8 kDiagnosticPassed = 0x01;
inline constexpr u8 kDeviceLba = 0x40;         ///< device register
inline constexpr u8 kDeviceFua = 0x80;         ///< of a queued command
inline constexpr u8 kControlSoftReset = 0x04;  ///< device control
inline constexpr u32 kDiskSignature = 0x101;   ///< count, LBA 7:0, 15:8, 23:16 behind a reset
inline constexpr u16 kTrim = 1;                ///< DATA SET MANAGEMENT feature
inline constexpr u8 kActive = 0xff;            ///< CHECK POWER MODE

// SET FEATURES
inline constexpr u8 kEnableWriteCache = 0x02, kSetTransferMode = 0x03, kDisableLookAhead = 0x55,
                    kDisableWriteCache = 0x82, kEnableLookAhead = 0xaa;

// Logs
inline constexpr u8 kLogDirectory = 0x00, kLogQueuedError = 0x10;

// Frame information structures
inline constexpr u8 kFisHostToDevice = 0x27, kFisDeviceToHost = 0x34, kFisSetDeviceBits = 0xa1, kFisPioSetup = 0x5f;
inline constexpr u8 kFisInterrupt = 0x40, kFisToHost = 0x20;  ///< flags of device FISes
inline constexpr u8 kFisIsCommand = 0x80;                     ///< flag of a host FIS: updates the command register

}  // namespace vg::devices::ata
