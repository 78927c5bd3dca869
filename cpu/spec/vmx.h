// Layouts of VMX: control bits, exit reasons, interruption information, instruction errors. SDM 3C (edition 085), "Virtual
// Machine Control Structures", appendices "VMX Capability Reporting Facility" and "VMX Basic Exit Reasons".
#pragma once

#include "base/types.h"

namespace vg::cpu::vmx {

namespace pin {
inline constexpr u32 kExternalInterrupt = 1 << 0, kNmi = 1 << 3, kVirtualNmis = 1 << 5, kPreemptionTimer = 1 << 6,
                     kPostedInterrupts = 1 << 7;
}
namespace proc {
inline constexpr u32 kInterruptWindow = 1 << 2, kTscOffset = 1 << 3, kHlt = 1 << 7, kInvlpg = 1 << 9, kMwait = 1 << 10,
                     kRdpmc = 1 << 11, kRdtsc = 1 << 12, kCr3Load = 1 << 15, kCr3Store = 1 << 16, kCr8Load = 1 << 19,
                     kCr8Store = 1 << 20, kTprShadow = 1 << 21, kNmiWindow = 1 << 22, kMovDr = 1 << 23,
                     kUnconditionalIo = 1 << 24, kIoBitmaps = 1 << 25, kMonitorTrap = 1 << 27, kMsrBitmaps = 1 << 28,
                     kMonitor = 1 << 29, kPause = 1 << 30, kSecondary = 1u << 31;
}
namespace proc2 {
inline constexpr u32 kApicAccesses = 1 << 0, kEpt = 1 << 1, kDescriptorTables = 1 << 2, kRdtscp = 1 << 3, kX2apic = 1 << 4,
                     kVpid = 1 << 5, kWbinvd = 1 << 6, kUnrestricted = 1 << 7, kApicRegisters = 1 << 8,
                     kVirtualInterrupts = 1 << 9, kPauseLoop = 1 << 10, kRdrand = 1 << 11, kInvpcid = 1 << 12,
                     kVmFunctions = 1 << 13, kShadowVmcs = 1 << 14, kRdseed = 1 << 16, kPml = 1 << 17,
                     kVirtualizationException = 1 << 18, kXsaves = 1 << 20, kModeBasedExecute = 1 << 22,
                     kTscScaling = 1 << 25;
}
namespace exits {
inline constexpr u32 kSaveDebug = 1 << 2, kHost64 = 1 << 9, kAcknowledge = 1 << 15, kSavePat = 1 << 18, kLoadPat = 1 << 19,
                     kSaveEfer = 1 << 20, kLoadEfer = 1 << 21, kSavePreemptionTimer = 1 << 22;
}
namespace entries {
inline constexpr u32 kLoadDebug = 1 << 2, kGuest64 = 1 << 9, kLoadPat = 1 << 14, kLoadEfer = 1 << 15;
}

/// Basic exit reasons.
namespace reason {
enum : u32 {
    kExceptionOrNmi = 0, kExternalInterrupt = 1, kTripleFault = 2, kInit = 3, kSipi = 4, kInterruptWindow = 7, kNmiWindow = 8,
    kTaskSwitch = 9, kCpuid = 10, kHlt = 12, kInvd = 13, kInvlpg = 14, kRdpmc = 15, kRdtsc = 16, kVmcall = 18, kVmclear = 19,
    kVmlaunch = 20, kVmptrld = 21, kVmptrst = 22, kVmread = 23, kVmresume = 24, kVmwrite = 25, kVmxoff = 26, kVmxon = 27,
    kCrAccess = 28, kMovDr = 29, kIo = 30, kRdmsr = 31, kWrmsr = 32, kInvalidGuestState = 33, kMsrLoading = 34, kMwait = 36,
    kMonitorTrap = 37, kMonitor = 39, kPause = 40, kTprBelowThreshold = 43, kApicAccess = 44, kVirtualizedEoi = 45,
    kGdtrIdtr = 46, kLdtrTr = 47, kEptViolation = 48, kEptMisconfiguration = 49, kInvept = 50, kRdtscp = 51,
    kPreemptionTimer = 52, kInvvpid = 53, kWbinvd = 54, kXsetbv = 55, kApicWrite = 56, kRdrand = 57, kInvpcid = 58,
    kVmfunc = 59, kRdseed = 61, kPageModificationLogFull = 62, kXsaves = 63, kXrstors = 64
};
inline constexpr u32 kEntryFailure = 1u << 31;
}  // namespace reason

/// VM-instruction error numbers. SDM 3C "VM Instruction Error Numbers".
namespace error {
enum : u32 {
    kVmcallInRoot = 1, kVmclearAddress = 2, kVmclearVmxonPointer = 3, kLaunchNotClear = 4, kResumeNotLaunched = 5,
    kControls = 7, kHostState = 8, kVmptrldAddress = 9, kVmptrldVmxonPointer = 10, kVmptrldRevision = 11,
    kUnsupportedField = 12, kReadOnlyField = 13, kVmxonInRoot = 15, kMovSsBlocking = 26, kInvalidInvalidation = 28
};
}

/// Interruption information, of entries, exits and IDT vectoring alike.
namespace interruption {
inline constexpr u32 kErrorCode = 1 << 11, kNmiUnblocking = 1 << 12, kValid = 1u << 31;
constexpr u32 type(u32 info) { return info >> 8 & 7; }
enum : u32 { kExternal = 0, kReserved = 1, kNmi = 2, kHardException = 3, kSoftInt = 4, kPrivSoftException = 5, kSoftException = 6,
             kOther = 7 };
}  // namespace interruption

namespace interruptibility {
inline constexpr u32 kSti = 1 << 0, kMovSs = 1 << 1, kSmi = 1 << 2, kNmi = 1 << 3;
}
enum : u32 { kActivityActive = 0, kActivityHlt = 1, kActivityShutdown = 2, kActivityWaitForSipi = 3 };

/// Pending debug exceptions: B0-B3, an enabled breakpoint among them, single step.
namespace pending_debug {
inline constexpr u64 kBreakpoints = 15, kEnabled = 1 << 12, kStep = 1 << 14, kRtm = 1 << 16;
}

/// Access rights of a segment: as SegmentReg::attributes, and this.
inline constexpr u32 kUnusable = 1 << 16;

/// EPTP.
namespace eptp {
inline constexpr u64 kWriteBack = 6, kUncached = 0, kWalkLength4 = 3 << 3, kAccessedDirty = 1 << 6;
}

inline constexpr u64 kNoVmcs = ~u64{0};           ///< VMCS pointers: none
inline constexpr u32 kRevision = 0x56470001;      ///< of this layout of the VMCS region
inline constexpr u32 kShadowIndicator = 1u << 31;
inline constexpr unsigned kTimerRate = 2;         ///< the preemption timer counts once per 2^2 TSC ticks
inline constexpr u32 kMaxMsrList = 512;           ///< recommended maximum of IA32_VMX_MISC; longer lists do nothing more

}  // namespace vg::cpu::vmx
