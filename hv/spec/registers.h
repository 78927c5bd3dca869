// Names of virtual processor registers for GetVpRegisters and SetVpRegisters, and layouts of their values. Rows
// K-190..K-214; TLFS 6.0b "Virtual Processor Register".
#pragma once

#include "base/types.h"

namespace vg::hv {

namespace reg {
// K-190
inline constexpr u32 kExplicitSuspend = 0, kInterceptSuspend = 1, kInstructionEmulationHints = 2, kDispatchSuspend = 3,
                     kInternalActivity = 4;
// K-191
inline constexpr u32 kHypervisorVersion = 0x100, kPrivilegesAndFeatures = 0x200, kFeatures = 0x201, kLimits = 0x202,
                     kHardwareFeatures = 0x203, kCpuManagementFeatures = 0x204, kCrashP0 = 0x210, kCrashControl = 0x215,
                     kTscFrequency = 0x240, kApicFrequency = 0x241, kGuestIdle = 0x250;
// K-194..K-197
inline constexpr u32 kPendingInterruption = 0x10002, kInterruptState = 0x10003, kPendingEvent0 = 0x10004,
                     kPendingEvent1 = 0x10005, kDeliverabilityNotifications = 0x10006, kPendingDebugException = 0x10007,
                     kPendingEvent2 = 0x10008, kPendingEvent3 = 0x10009;
// K-198: sixteen registers in the order RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8..R15
inline constexpr u32 kRax = 0x20000, kR15 = 0x2000f, kRip = 0x20010, kRflags = 0x20011;
// K-199
inline constexpr u32 kXmm0 = 0x30000, kXmm15 = 0x3000f, kFp0 = 0x30010, kFp7 = 0x30017, kFpControl = 0x30018,
                     kXmmControl = 0x30019;
// K-200
inline constexpr u32 kCr0 = 0x40000, kCr2 = 0x40001, kCr3 = 0x40002, kCr4 = 0x40003, kCr8 = 0x40004, kXfem = 0x40005,
                     kIntermediateCr0 = 0x41000, kIntermediateCr3 = 0x41002, kIntermediateCr4 = 0x41003,
                     kIntermediateCr8 = 0x41004, kDr0 = 0x50000, kDr3 = 0x50003, kDr6 = 0x50004, kDr7 = 0x50005;
// K-203
inline constexpr u32 kEs = 0x60000, kCs = 0x60001, kSs = 0x60002, kDs = 0x60003, kFs = 0x60004, kGs = 0x60005,
                     kLdtr = 0x60006, kTr = 0x60007, kIdtr = 0x70000, kGdtr = 0x70001;
// K-204
inline constexpr u32 kTsc = 0x80000, kEfer = 0x80001, kKernelGsBase = 0x80002, kApicBase = 0x80003, kPat = 0x80004,
                     kSysenterCs = 0x80005, kSysenterEip = 0x80006, kSysenterEsp = 0x80007, kStar = 0x80008,
                     kLstar = 0x80009, kCstar = 0x8000a, kSfmask = 0x8000b, kInitialApicId = 0x8000c,
                     kMtrrCap = 0x8000d, kMtrrDefType = 0x8000e, kMtrrPhysBase0 = 0x80010, kMtrrPhysMask0 = 0x80040,
                     kMtrrFix64k = 0x80070, kMtrrFix4kLast = 0x8007a;
// K-207
inline constexpr u32 kTscAux = 0x8007b, kBndcfgs = 0x8007c, kDebugCtl = 0x8007d, kSpecCtrl = 0x80084, kXss = 0x8008b,
                     kUCet = 0x8008c, kSCet = 0x8008d, kSsp = 0x8008e, kPl0Ssp = 0x8008f, kPl1Ssp = 0x80090,
                     kPl2Ssp = 0x80091, kPl3Ssp = 0x80092, kInterruptSspTable = 0x80093, kTscDeadline = 0x80095,
                     kTscAdjust = 0x80096, kMiscEnable = 0x800a0;
// K-208: by x2APIC MSR
inline constexpr u32 kApicFirst = 0x84802, kApicLast = 0x8483f;
// K-209
inline constexpr u32 kVpRuntime = 0x90000, kHypercall = 0x90001, kGuestOsId = 0x90002, kVpIndex = 0x90003,
                     kTimeRefCount = 0x90004, kCpuManagementVersion = 0x90007, kVpAssistPage = 0x90013,
                     kVpRootSignalCount = 0x90014, kReferenceTsc = 0x90017, kReferenceTscSequence = 0x9001a;
// K-210
inline constexpr u32 kSint0 = 0xa0000, kSint15 = 0xa000f, kScontrol = 0xa0010, kSversion = 0xa0011, kSiefp = 0xa0012,
                     kSimp = 0xa0013, kEom = 0xa0014, kSirbp = 0xa0015, kStimer0Config = 0xb0000,
                     kStimer3Count = 0xb0007;
}  // namespace reg

/// A segment register's value (K-203). attributes: [3:0] type, 4 S, [6:5] DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G.
struct SegmentValue {
    u64 base;
    u32 limit;
    u16 selector, attributes;
};
static_assert(sizeof(SegmentValue) == 16);

struct TableValue {  // K-203: IDTR, GDTR
    u16 pad[3], limit;
    u64 base;
};
static_assert(sizeof(TableValue) == 16);

/// x87 control registers (kFpControl), as in the front of an FXSAVE64 image.
struct FpControlValue {
    u16 control, status;
    u8 tag, reserved;
    u16 last_opcode;
    u64 last_rip;
};
static_assert(sizeof(FpControlValue) == 16);

/// kXmmControl: last data pointer, MXCSR and its mask.
struct XmmControlValue {
    u64 last_rdp;
    u32 mxcsr, mxcsr_mask;
};
static_assert(sizeof(XmmControlValue) == 16);

/// kPendingInterruption (K-194). Types as in VMX interruption information.
namespace pending_interruption {
inline constexpr u64 kPending = 1, kErrorValid = 1 << 4;
inline constexpr unsigned kTypeLow = 1, kTypeHigh = 3, kVectorLow = 16, kErrorLow = 32;
}  // namespace pending_interruption

/// kInterruptState (K-195).
namespace interrupt_state {
inline constexpr u64 kShadow = 1, kNmiMasked = 2;
}

/// kDeliverabilityNotifications (K-197).
namespace deliverability {
inline constexpr u64 kNmi = 1, kInterrupt = 2;
}

/// kInternalActivity (K-190).
namespace internal_activity {
inline constexpr u64 kStartupSuspend = 1, kHaltSuspend = 2, kIdleSuspend = 4;
}

}  // namespace vg::hv
