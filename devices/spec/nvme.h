// Registers, commands and structures of "NVM Express Base 1.4c" (§3 registers, §4 structures, §5 admin, §6 NVM
// commands).
#pragma once

#include "base/types.h"

namespace vg::devices::nvme {

inline constexpr u32 kCap = 0x00, kVs = 0x08, kIntms = 0x0c, kIntmc = 0x10, kCc = 0x14, kCsts = 0x1c, kAqa = 0x24,
                     kAsq = 0x28, kAcq = 0x30, kDoorbells = 0x1000;
inline constexpr u32 kVersion = 0x00010400;
inline constexpr u32 kPageBytes = 4096;  ///< the only memory page size offered
inline constexpr u32 kMaxEntries = 1024;
inline constexpr u64 kCapValue = (kMaxEntries - 1) | u64{1} << 16 /* contiguous queues */ | u64{20} << 24 /* 10 s */ |
                                 u64{1} << 37 /* NVM commands */;

// CC and CSTS
inline constexpr u32 kEnable = 1;
inline constexpr u32 kShutdownMask = 3u << 14;
inline constexpr u32 kCcWritable = 0x00ffc3f1 | kShutdownMask;
inline constexpr u32 kReady = 1 << 0, kFatal = 1 << 1, kShutdownDone = 2 << 2;

enum class Admin : u8 {
    DeleteSubmissionQueue = 0x00,
    CreateSubmissionQueue = 0x01,
    GetLogPage = 0x02,
    DeleteCompletionQueue = 0x04,
    CreateCompletionQueue = 0x05,
    Identify = 0x06,
    Abort = 0x08,
    SetFeatures = 0x09,
    GetFeatures = 0x0a,
    AsynchronousEvent = 0x0c,
};
enum class Io : u8 { Flush = 0x00, Write = 0x01, Read = 0x02, WriteZeroes = 0x08, DatasetManagement = 0x09 };

struct Command {
    u8 opcode = 0;
    u8 flags = 0;  ///< 1:0 fused, 7:6 data pointer kind
    u16 id = 0;
    u32 nsid = 0;
    u64 reserved = 0, metadata = 0, prp1 = 0, prp2 = 0;
    u32 dw10 = 0, dw11 = 0, dw12 = 0, dw13 = 0, dw14 = 0, dw15 = 0;
};
static_assert(sizeof(Command) == 64);

struct Completion {
    u32 result, reserved;
    u16 sq_head, sq_id, command_id;
    u16 status;  ///< bit 0 is the phase
};
static_assert(sizeof(Completion) == 16);

/// Status: code type << 8 | code, and bit 14 for "do not retry".
inline constexpr u16 kSuccess = 0, kNoRetry = 1 << 14;
inline constexpr u16 kInvalidOpcode = 0x001 | kNoRetry, kInvalidField = 0x002 | kNoRetry, kTransferError = 0x004,
                     kInvalidNamespace = 0x00b | kNoRetry, kInvalidPrpOffset = 0x013 | kNoRetry,
                     kLbaRange = 0x080 | kNoRetry, kWriteProtected = 0x020 | kNoRetry;
inline constexpr u16 kInvalidCompletionQueue = 0x100 | kNoRetry, kInvalidQueueId = 0x101 | kNoRetry,
                     kInvalidQueueSize = 0x102 | kNoRetry, kTooManyEventRequests = 0x105 | kNoRetry,
                     kInvalidVector = 0x108 | kNoRetry, kInvalidLogPage = 0x109 | kNoRetry,
                     kInvalidQueueDeletion = 0x10c | kNoRetry;
inline constexpr u16 kWriteFault = 0x280, kUnrecoveredRead = 0x281;

// Identify
inline constexpr u8 kIdentifyNamespace = 0, kIdentifyController = 1, kIdentifyActiveList = 2, kIdentifyDescriptors = 3,
                    kIdentifyCommandSet = 6;
// Features
inline constexpr u8 kFeatureWriteCache = 0x06, kFeatureQueues = 0x07, kFeatureCount = 0x0c;
// Log pages
inline constexpr u8 kLogErrors = 1, kLogHealth = 2, kLogFirmware = 3;
// Queue creation
inline constexpr u32 kContiguous = 1, kInterruptsEnabled = 2;
// Reads and writes
inline constexpr u32 kForceUnitAccess = 1u << 30;
inline constexpr u32 kDeallocate = 1u << 2;

}  // namespace vg::devices::nvme
