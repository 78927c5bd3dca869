// Hypervisor CPUID leaves: numbers, names and the bits that gate MSRs and hypercalls. Rows C-01..C-94;
// TLFS 6.0b "Feature and Interface Discovery".
#pragma once

#include "base/types.h"

namespace vg::hv {

namespace leaf {
inline constexpr u32 kFirst = 0x40000000, kLast = 0x400000ff;
inline constexpr u32 kVendor = 0x40000000, kInterface = 0x40000001, kVersion = 0x40000002, kFeatures = 0x40000003,
                     kHints = 0x40000004, kLimits = 0x40000005, kHardware = 0x40000006, kCpuManagement = 0x40000007, kNested = 0x4000000a,
                     kIsolation = 0x4000000c;
inline constexpr u32 kStackVendor = 0x40000080, kStackInterface = 0x40000081, kStackProperties = 0x40000082;
inline constexpr u32 kMax = kIsolation;             ///< C-02
inline constexpr u32 kStackMax = kStackProperties;  ///< C-80
inline constexpr u32 kFeatureInfo = 0x1, kPowerManagement = 0x80000007;
}  // namespace leaf

inline constexpr u32 kHypervisorPresent = u32{1} << 31;  ///< leaf 1 ECX, C-01
inline constexpr u32 kX2Apic = u32{1} << 21;             ///< leaf 1 ECX, C-08
inline constexpr u32 kInvariantTsc = u32{1} << 8;        ///< leaf 80000007 EDX, C-08

/// What a partition must have been given before a synthetic MSR or a hypercall exists for it. 0..63 are the bits of
/// leaf 40000003 EBX:EAX (C-10..C-43), 64..95 those of its EDX (C-47..C-58), 96..127 those of leaf 40000004 EAX.
enum class Gate : u8 {
    VpRuntime = 0,
    ReferenceCounter = 1,
    SynIc = 2,
    SyntheticTimers = 3,
    ApicAccess = 4,
    HypercallMsrs = 5,
    VpIndex = 6,
    Reset = 7,
    ReferenceTsc = 9,
    GuestIdle = 10,
    Frequencies = 11,
    Reenlightenment = 13,
    TscInvariant = 15,
    CreatePartitions = 32,
    AccessPartitionId = 33,
    AccessMemoryPool = 34,
    PostMessages = 36,
    SignalEvents = 37,
    CreatePort = 38,
    ConnectPort = 39,
    AccessStats = 40,
    CpuManagement = 44,
    AccessVpRegisters = 49,
    FastOutput = 51,
    ExtendedHypercalls = 52,
    XmmInput = 64 + 4,
    CrashMsrs = 64 + 10,
    XmmOutput = 64 + 15,
    DirectTimers = 64 + 19,
    HintRemoteFlush = 96 + 2,
    HintApicMsrs = 96 + 3,
    HintClusterIpi = 96 + 10,
    HintProcessorMasksEx = 96 + 11,
    None = 255,
};

}  // namespace vg::hv
