// Bits of control and debug registers, EFER, RFLAGS. SDM 3A "Control Registers", SDM 1 "EFLAGS Register".
#pragma once

#include "base/types.h"

namespace vg::cpu {

namespace flag {
inline constexpr u64 CF = 1 << 0, PF = 1 << 2, AF = 1 << 4, ZF = 1 << 6, SF = 1 << 7, TF = 1 << 8, IF = 1 << 9,
                     DF = 1 << 10, OF = 1 << 11, IOPL = 3 << 12, NT = 1 << 14, RF = 1 << 16, VM = 1 << 17,
                     AC = 1 << 18, VIF = 1 << 19, VIP = 1 << 20, ID = 1 << 21, Always1 = 1 << 1;
inline constexpr u64 Status = CF | PF | AF | ZF | SF | OF;
}  // namespace flag

namespace cr0 {
inline constexpr u64 PE = 1 << 0, MP = 1 << 1, EM = 1 << 2, TS = 1 << 3, ET = 1 << 4, NE = 1 << 5, WP = 1 << 16,
                     AM = 1 << 18, NW = 1 << 29, CD = 1 << 30, PG = u64{1} << 31;
}
namespace cr4 {
inline constexpr u64 VME = 1 << 0, PVI = 1 << 1, TSD = 1 << 2, DE = 1 << 3, PSE = 1 << 4, PAE = 1 << 5, MCE = 1 << 6,
                     PGE = 1 << 7, PCE = 1 << 8, OSFXSR = 1 << 9, OSXMMEXCPT = 1 << 10, UMIP = 1 << 11,
                     LA57 = 1 << 12, VMXE = 1 << 13, SMXE = 1 << 14, FSGSBASE = 1 << 16, PCIDE = 1 << 17,
                     OSXSAVE = 1 << 18, SMEP = 1 << 20, SMAP = 1 << 21, PKE = 1 << 22;
}
namespace dr6 {
inline constexpr u64 BD = 1 << 13, BS = 1 << 14, BT = 1 << 15;
}
namespace dr7 {
inline constexpr u64 GD = 1 << 13;
}
namespace efer {
inline constexpr u64 SCE = 1 << 0, LME = 1 << 8, LMA = 1 << 10, NXE = 1 << 11, SVME = 1 << 12, LMSLE = 1 << 13,
                     FFXSR = 1 << 14;
}
namespace debugctl {
inline constexpr u64 Lbr = 1 << 0, Btf = 1 << 1;
}
namespace misc_enable {
/// IA32_MISC_ENABLE: CPUID shows at most leaf 2; execute-disable is neither shown nor usable. SDM 4, MSR 1A0H.
inline constexpr u64 LimitCpuid = 1 << 22, XdDisable = u64{1} << 34;
}

}  // namespace vg::cpu
