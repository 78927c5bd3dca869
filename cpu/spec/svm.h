// Layouts of SVM: intercepts and exit codes, control words of the VMCB, event injection, MSRs. AMD APM 2, "Secure
// Virtual Machine", appendices "Layout of VMCB" and "SVM Intercept Exit Codes".
#pragma once

#include "base/types.h"

namespace vg::cpu::svm {

/// Exit codes. Those below kIntercepts are numbered as the intercepts are: bit code % 32 of intercept vector code / 32.
namespace code {
enum : u32 {
    kCrRead = 0x00,
    kCrWrite = 0x10,
    kDrRead = 0x20,
    kDrWrite = 0x30,
    kException = 0x40,
    kIntr = 0x60,
    kNmi = 0x61,
    kSmi = 0x62,
    kInit = 0x63,
    kVintr = 0x64,
    kCr0SelectiveWrite = 0x65,
    kIdtrRead = 0x66,
    kGdtrRead = 0x67,
    kLdtrRead = 0x68,
    kTrRead = 0x69,
    kIdtrWrite = 0x6a,
    kGdtrWrite = 0x6b,
    kLdtrWrite = 0x6c,
    kTrWrite = 0x6d,
    kRdtsc = 0x6e,
    kRdpmc = 0x6f,
    kPushf = 0x70,
    kPopf = 0x71,
    kCpuid = 0x72,
    kRsm = 0x73,
    kIret = 0x74,
    kSoftwareInterrupt = 0x75,
    kInvd = 0x76,
    kPause = 0x77,
    kHlt = 0x78,
    kInvlpg = 0x79,
    kInvlpga = 0x7a,
    kIoio = 0x7b,
    kMsr = 0x7c,
    kTaskSwitch = 0x7d,
    kFerrFreeze = 0x7e,
    kShutdown = 0x7f,
    kVmrun = 0x80,
    kVmmcall = 0x81,
    kVmload = 0x82,
    kVmsave = 0x83,
    kStgi = 0x84,
    kClgi = 0x85,
    kSkinit = 0x86,
    kRdtscp = 0x87,
    kIcebp = 0x88,
    kWbinvd = 0x89,
    kMonitor = 0x8a,
    kMwait = 0x8b,
    kMwaitArmed = 0x8c,
    kXsetbv = 0x8d,
    kInvpcid = 0xa2,
    kIntercepts = 0xc0,
    kNestedPageFault = 0x400
};
inline constexpr u64 kInvalid = ~u64{0};
}  // namespace code
inline constexpr unsigned kInterceptVectors = code::kIntercepts / 32;

/// TLB_CONTROL.
namespace tlb_flush {
enum : u32 { kNothing = 0, kEverything = 1, kGuest = 3, kGuestNonGlobal = 7 };
}

/// Offset 060h: virtual interrupts.
namespace virq {
inline constexpr u32 kTpr = 0xff, kIrq = 1 << 8, kGif = 1 << 9, kNmi = 1 << 11, kNmiMask = 1 << 12,
                     kIgnoreTpr = 1 << 20, kMasking = 1 << 24, kGifEnable = 1 << 25, kNmiEnable = 1 << 26;
constexpr u32 priority(u32 word) { return word >> 16 & 15; }
}  // namespace virq

/// Offset 068h: bit 0 interrupt shadow, bit 1 the guest's RFLAGS.IF (under AVIC and encryption only).
inline constexpr u32 kInterruptShadow = 1;

/// Offset 090h.
inline constexpr u64 kNestedPaging = 1;

/// Offset 0B8h.
namespace extras {
inline constexpr u64 kLbr = 1, kVmload = 2;
}

/// EVENTINJ and EXITINTINFO.
namespace event {
enum : u32 { kInterrupt = 0, kNmi = 2, kException = 3, kSoftwareInterrupt = 4 };
inline constexpr u64 kErrorCode = 1 << 11, kValid = u64{1} << 31;
constexpr u32 type(u64 info) { return info >> 8 & 7; }
}  // namespace event

/// EXITINFO1 of IOIO.
namespace io_info {
inline constexpr u64 kIn = 1, kString = 4, kRep = 8;
inline constexpr unsigned kSizeShift = 4, kAddressShift = 7, kSegmentShift = 10, kPortShift = 16;
}  // namespace io_info
/// EXITINFO2 of TASK_SWITCH.
namespace task_info {
inline constexpr u64 kIret = u64{1} << 36, kJump = u64{1} << 38, kErrorCode = u64{1} << 44, kResumeFlag = u64{1} << 48;
}
/// EXITINFO1 of CR accesses: made by MOV, so that bits 3:0 are the general register.
inline constexpr u64 kByMov = u64{1} << 63;
/// EXITINFO1 of nested page faults, above a page fault's error code.
namespace npf {
inline constexpr u64 kPresent = 1, kWrite = 2, kUser = 4, kReserved = 8, kFetch = 16, kFinal = u64{1} << 32,
                     kWalk = u64{1} << 33;
}

/// CPUID Fn8000_000A EDX: what this processor has. Clean bits need nothing: state that is not cached is always read.
inline constexpr u32 kRevision = 1, kAsids = 0x8000;
inline constexpr u32 kFeatures = 1 << 0 /* NP */ | 1 << 1 /* LbrVirt */ | 1 << 2 /* SVML */ | 1 << 3 /* NRIPS */ | 1 << 4 /* TscRateMsr */ |
                                 1 << 5 /* VmcbClean */ | 1 << 6 /* FlushByAsid */ | 1 << 7 /* DecodeAssists */ |
                                 1 << 10 /* PauseFilter */ | 1 << 12 /* PauseFilterThreshold */ |
                                 1 << 15 /* VmsaveVirt */ | 1 << 16 /* VGIF */ |
                                 1 << 25 /* VNMI */;

/// MSRs.
namespace vm_cr {
inline constexpr u64 kDebugPortDisable = 1, kInitRedirect = 2, kA20Disable = 4, kLock = 8, kSvmDisable = 16;
}
/// TSC ratio: 8.32 fixed point.
inline constexpr u64 kTscRatioOne = u64{1} << 32, kTscRatioReserved = ~u64{0} << 40;

/// Permission maps. Of the third page of an I/O map the first byte counts.
inline constexpr u32 kMsrpmSize = 0x2000, kIopmSize = 0x2001;

}  // namespace vg::cpu::svm
