// Registers of a DMA-remapping unit. "Intel Virtualization Technology for Directed I/O, Architecture Specification",
// Rev. 4.1 ("VT-d 4.1"), "Register Descriptions". Layouts only.
#pragma once

#include "base/types.h"

namespace vg::iommu::reg {

/// Offsets within the unit's 4 KiB page. The last four are the unit's choice: ECAP.IRO and CAP.FRO say where they are.
enum Offset : u32 {
    kVersion = 0x00,
    kCap = 0x08,
    kExtendedCap = 0x10,
    kGlobalCommand = 0x18,
    kGlobalStatus = 0x1c,
    kRootTable = 0x20,
    kContextCommand = 0x28,
    kFaultStatus = 0x34,
    kFaultControl = 0x38,
    kFaultData = 0x3c,
    kFaultAddress = 0x40,
    kFaultUpperAddress = 0x44,
    kProtectedEnable = 0x64,
    kProtectedLowBase = 0x68,
    kProtectedLowLimit = 0x6c,
    kProtectedHighBase = 0x70,
    kProtectedHighLimit = 0x78,
    kQueueHead = 0x80,
    kQueueTail = 0x88,
    kQueueAddress = 0x90,
    kCompletionStatus = 0x9c,
    kCompletionControl = 0xa0,
    kCompletionData = 0xa4,
    kCompletionAddress = 0xa8,
    kCompletionUpperAddress = 0xac,
    kQueueError = 0xb0,
    kInterruptTable = 0xb8,
    kInvalidateAddress = 0xf0,
    kIotlbInvalidate = 0xf8,
    kFaultRecords = 0x200,
};
inline constexpr u64 kSize = 0x1000;

/// "Capability Register"
namespace cap {
inline constexpr u64 kDomains64K = 6;  ///< ND: 2^(4 + 2*6) domain ids
inline constexpr u64 kRequiredWriteBufferFlush = u64{1} << 4;
inline constexpr u64 kProtectedLow = u64{1} << 5, kProtectedHigh = u64{1} << 6;
inline constexpr u64 kCachingMode = u64{1} << 7;
inline constexpr u64 kAgaw39 = u64{1} << 9, kAgaw48 = u64{1} << 10;  ///< SAGAW, bits 12:8
inline constexpr unsigned kMgawLow = 16;                             ///< maximum guest address width, minus 1
inline constexpr u64 kZeroLengthRead = u64{1} << 22;
inline constexpr unsigned kFaultOffsetLow = 24;  ///< FRO, in units of 16 bytes
inline constexpr u64 kPages2M = u64{1} << 34, kPages1G = u64{1} << 35;
inline constexpr u64 kPageSelective = u64{1} << 39;
inline constexpr unsigned kFaultCountLow = 40;  ///< NFR: fault recording registers, minus 1
inline constexpr unsigned kMaxMaskLow = 48;     ///< MAMV
inline constexpr u64 kDrainWrites = u64{1} << 54, kDrainReads = u64{1} << 55;
}  // namespace cap

/// "Extended Capability Register"
namespace ecap {
inline constexpr u64 kCoherent = 1 << 0, kQueuedInvalidation = 1 << 1;
inline constexpr u64 kInterruptRemapping = 1 << 3, kExtendedInterruptMode = 1 << 4;
inline constexpr u64 kPassThrough = 1 << 6, kSnoopControl = 1 << 7;
inline constexpr unsigned kIotlbOffsetLow = 8;     ///< IRO, in units of 16 bytes
inline constexpr unsigned kMaxHandleMaskLow = 20;  ///< MHMV
}  // namespace ecap

/// "Global Command Register" and "Global Status Register": the same places.
namespace global {
inline constexpr u32 kTranslation = u32{1} << 31;
inline constexpr u32 kRootPointer = u32{1} << 30;  ///< command: set it; status: has been set
inline constexpr u32 kWriteBufferFlush = u32{1} << 27;
inline constexpr u32 kQueuedInvalidation = u32{1} << 26;
inline constexpr u32 kInterruptRemapping = u32{1} << 25;
inline constexpr u32 kInterruptPointer = u32{1} << 24;
inline constexpr u32 kCompatibilityFormat = u32{1} << 23;
}  // namespace global

/// "Root Table Address Register", "Interrupt Remapping Table Address Register", "Invalidation Queue Address Register"
inline constexpr u64 kTableAddress = ~u64{0xfff};
inline constexpr unsigned kTranslationModeLow = 10, kTranslationModeHigh = 11;  ///< RTADDR.TTM; 0: legacy
inline constexpr u64 kExtendedMode = u64{1} << 11;                              ///< IRTA.EIME
inline constexpr unsigned kInterruptTableSizeHigh = 3;                          ///< IRTA.S: 2^(S+1) entries
inline constexpr u64 kWideDescriptors = u64{1} << 11;                           ///< IQA.DW
inline constexpr unsigned kQueueSizeHigh = 2;                                   ///< IQA.QS: 2^QS pages
inline constexpr u64 kQueueOffset = 0x7fff0;                                    ///< IQH.QH, IQT.QT

/// "Context Command Register"
namespace ccmd {
inline constexpr u64 kInvalidate = u64{1} << 63;
inline constexpr unsigned kRequestedLow = 61, kActualLow = 59, kMaskLow = 32, kSourceLow = 16;
inline constexpr u64 kWritable = 0xe000'0003'ffff'ffff;
}  // namespace ccmd

/// "IOTLB Invalidate Register" and "Invalidate Address Register"
namespace iotlb {
inline constexpr u64 kInvalidate = u64{1} << 63;
inline constexpr unsigned kRequestedLow = 60, kActualLow = 57, kDomainLow = 32;
inline constexpr u64 kWritable = 0xb003'ffff'0000'0000;
inline constexpr u64 kMask = 0x3f;
inline constexpr u64 kAddressWritable = 0xffff'ffff'ffff'f07f;
}  // namespace iotlb

/// Granularities of invalidations, in registers and in descriptors.
enum Granularity : u8 { kReserved = 0, kGlobal = 1, kDomain = 2, kSelective = 3 };

/// "Fault Status Register"
namespace fsts {
inline constexpr u32 kOverflow = 1 << 0;    ///< PFO
inline constexpr u32 kPending = 1 << 1;     ///< PPF
inline constexpr u32 kQueueError = 1 << 4;  ///< IQE
inline constexpr unsigned kRecordLow = 8;   ///< FRI
}  // namespace fsts

/// "Fault Event Control Register", "Invalidation Event Control Register"
namespace event {
inline constexpr u32 kMask = u32{1} << 31, kPending = u32{1} << 30;
inline constexpr u32 kData = 0xffff, kAddress = 0xffff'fffc;
}  // namespace event
inline constexpr u32 kWaitComplete = 1;  ///< ICS.IWC

/// "Fault Recording Registers": 16 bytes each.
namespace frcd {
inline constexpr u64 kFault = u64{1} << 63;
inline constexpr u64 kRead = u64{1} << 62;  ///< T1
inline constexpr unsigned kReasonLow = 32;
inline constexpr unsigned kInterruptIndexLow = 48;  ///< in the low half
}  // namespace frcd

/// "Invalidation Queue Error Record Register", IQEI
enum QueueError : u8 {
    kNoError = 0,
    kBadTail = 1,
    kFetchFailed = 2,
    kBadType = 3,
    kReservedField = 4,
    kBadWidth = 5,
};

/// "Protected Memory Enable Register"; regions have 2 MiB granularity here.
namespace pmen {
inline constexpr u32 kEnable = u32{1} << 31, kStatus = 1;
inline constexpr u64 kGranule = u64{1} << 21;
}  // namespace pmen

}  // namespace vg::iommu::reg

namespace vg::iommu {

/// "Fault Reason Encodings", those of legacy mode and of interrupt remapping. The comment is the condition's name
/// there.
enum class FaultReason : u8 {
    None = 0,
    RootNotPresent = 0x01,        ///< LRT.2
    ContextNotPresent = 0x02,     ///< LCT.2
    ContextInvalid = 0x03,        ///< LCT.4: type, width, or a top-level table that cannot be read
    AddressTooHigh = 0x04,        ///< LGN.1
    NoWrite = 0x05,               ///< LGN.2
    NoRead = 0x06,                ///< LGN.3
    TableUnreadable = 0x07,       ///< LSS.1
    RootUnreadable = 0x08,        ///< LRT.1
    ContextUnreadable = 0x09,     ///< LCT.1
    RootReserved = 0x0a,          ///< LRT.3
    ContextReserved = 0x0b,       ///< LCT.3
    EntryReserved = 0x0c,         ///< LSS.2
    TranslationBlocked = 0x0d,    ///< LCT.5: translation requests only, which no device here makes
    InterruptRangeOutput = 0x0e,  ///< LGN.4
    InterruptReserved = 0x20,
    InterruptIndex = 0x21,
    InterruptNotPresent = 0x22,
    InterruptUnreadable = 0x23,
    InterruptEntryReserved = 0x24,
    CompatibilityBlocked = 0x25,
    SourceRefused = 0x26,
    RootModeUnsupported = 0x30,  ///< RTA.1
};

}  // namespace vg::iommu
