// A guest's fault, as a value.
#pragma once

#include "base/types.h"

namespace vg::cpu {

/// Exception vectors. SDM 3A "Exception and Interrupt Vectors".
enum Vector : u8 {
    kDivideError = 0, kDebug = 1, kNmi = 2, kBreakpoint = 3, kOverflow = 4, kBoundRange = 5, kInvalidOpcode = 6,
    kDeviceNotAvailable = 7, kDoubleFault = 8, kInvalidTss = 10, kSegmentNotPresent = 11, kStackFault = 12,
    kGeneralProtection = 13, kPageFault = 14, kX87Error = 16, kAlignmentCheck = 17, kMachineCheck = 18,
    kSimdError = 19, kVirtualization = 20, kControlProtection = 21,
};

/// How an event entered: decides pushes, privilege checks and the EXT bit. Values as in VMX interruption information.
enum class EventType : u8 { External = 0, Nmi = 2, HardException = 3, SoftInt = 4, PrivSoftException = 5, SoftException = 6 };

struct Fault {
    u8 vector = 0;
    bool has_error = false;
    u32 error_code = 0;
    u64 cr2 = 0;          ///< #PF: faulting address
    u64 dr6_bits = 0;     ///< #DB: bits to merge into DR6
    EventType type = EventType::HardException;
    /// A VM entry injects it: no intercept of exceptions sees it, and CR2 and the debug registers stay as they are.
    bool by_entry = false;
};

}  // namespace vg::cpu
