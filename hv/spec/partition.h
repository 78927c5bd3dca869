// Partitions, their memory and their virtual processors as a parent manages them: parameters of the hypercalls,
// creation flags, properties. Rows K-120..K-141, K-250..K-270; TLFS 6.0b "Partition Management", "Virtual Processor
// Management".
//
// Padding is named `pad`: callers leave stale bytes there, so nothing reads it.
#pragma once

#include "base/types.h"
#include "hv/spec/hypercall.h"

namespace vg::hv {

inline constexpr u64 kPartitionSelf = ~u64{0}, kPartitionInvalid = 0;
inline constexpr u32 kVpSelf = 0xfffffffe, kVpAny = 0xffffffff;

/// Where memory should come from; zero: anywhere.
struct ProximityInfo {
    u32 domain_id, flags;
};
static_assert(sizeof(ProximityInfo) == 8);

/// "VTL byte": [3:0] target VTL, 4 use it.
inline constexpr u8 kVtlMask = 0xf, kUseTargetVtl = 0x10;

// ---- partitions (K-120..K-130)

/// Flags of CreatePartition (K-130).
namespace create_flag {
inline constexpr u64 kSmtGuest = u64{1} << 0, kNestedVirtualization = u64{1} << 1, kGpaSuperPages = u64{1} << 4,
                     kExo = u64{1} << 8, kLapic = u64{1} << 13, kPmu = u64{1} << 15, kLbr = u64{1} << 16,
                     kInterceptMessagePage = u64{1} << 19, kDoorbellPage = u64{1} << 20, kX2Apic = u64{1} << 22;
}

struct CreatePartitionIn {  // K-120; output: partition id
    u64 flags;
    ProximityInfo proximity;
    u32 compatibility_version, pad;
    u64 disabled_features[2];
    u64 disabled_xsave;
    u64 isolation;  ///< [4:0] type
};
static_assert(sizeof(CreatePartitionIn) == 56);

struct PartitionIn {  // K-121, K-122: Initialize, Finalize, Delete; K-029: ClearVirtualInterrupt
    u64 partition_id;
};

struct NextChildIn {  // K-020; output: id, 0 at the end
    u64 parent_id, previous_id;
};

struct GetPropertyIn {  // K-123; output: u64
    u64 partition_id;
    u32 code, pad;
};
static_assert(sizeof(GetPropertyIn) == 16);

struct SetPropertyIn {  // K-124
    u64 partition_id;
    u32 code, pad;
    u64 value;
};
static_assert(sizeof(SetPropertyIn) == 24);

struct GetPropertyExIn {  // K-125; output: property data
    u64 partition_id;
    u32 code, pad;
    u64 argument;
};
static_assert(sizeof(GetPropertyExIn) == 24);

struct SetPropertyExIn {  // K-069: property data follows as a variable header
    u64 partition_id;
    u32 code, pad;
    u64 argument;
};
static_assert(sizeof(SetPropertyExIn) == 24);

/// Property codes (section 4.11).
enum class PartitionProperty : u32 {
    PrivilegeFlags = 0x10000,
    SyntheticProcessorFeatures = 0x10001,
    Suspend = 0x20000,
    CpuReserve = 0x20001,
    CpuCap = 0x20002,
    CpuWeight = 0x20003,
    CpuGroup = 0x20004,
    TimeFreeze = 0x30003,
    ApicFrequency = 0x30004,
    ReferenceTime = 0x30005,
    DebugChannel = 0x40000,
    VirtualTlbPages = 0x50000,
    VsmConfig = 0x50001,
    ZeroMemoryOnReset = 0x50002,
    ProcessorsPerSocket = 0x50003,
    NestedTlbSize = 0x50004,
    PageAccessTracking = 0x50005,
    UnimplementedMsrAction = 0x50017,
    ProcessorVendor = 0x60000,
    ProcessorXsaveFeatures = 0x60002,
    ClFlushSize = 0x60003,
    CompatibilityVersion = 0x60005,
    PhysicalAddressWidth = 0x60006,
    XsaveStates = 0x60007,
    MaxXsaveDataSize = 0x60008,
    ClockFrequency = 0x60009,
    ProcessorFeatures0 = 0x6000a,
    ProcessorFeatures1 = 0x6000b,
    GuestOsId = 0x70000,
    NestedFeatures = 0x80000,
    VmmCapabilities = 0x90007,              ///< Ex
    AssignableSyntheticFeatures = 0x90009,  ///< Ex
};

/// Bits of SyntheticProcessorFeatures that decide which leaves a child sees (K-251).
namespace synthetic_feature {
inline constexpr u64 kHypervisorPresent = u64{1} << 0, kHv1 = u64{1} << 1, kVpRuntime = u64{1} << 2,
                     kReferenceCounter = u64{1} << 3, kSynIc = u64{1} << 4, kSyntheticTimers = u64{1} << 5,
                     kInterruptControl = u64{1} << 6, kHypercall = u64{1} << 7, kVpIndex = u64{1} << 8,
                     kReferenceTsc = u64{1} << 9, kGuestIdle = u64{1} << 10, kFrequencies = u64{1} << 11,
                     kExtendedGvaFlush = u64{1} << 15, kVsm = u64{1} << 16, kFastOutput = u64{1} << 18,
                     kStartVp = u64{1} << 20, kDirectTimers = u64{1} << 22, kExtendedProcessorMasks = u64{1} << 24,
                     kTlbFlush = u64{1} << 25, kClusterIpi = u64{1} << 26, kLongSpinWait = u64{1} << 27,
                     kSignalEvents = u64{1} << 29, kRetarget = u64{1} << 30, kVpRegisters = u64{1} << 38;
}

/// Output of GetPropertyEx(VmmCapabilities) and (AssignableSyntheticFeatures): K-268, K-269.
struct VmmCapabilities {
    u16 bank_count, reserved[3];
    u64 capabilities;
};
static_assert(sizeof(VmmCapabilities) == 16);

// ---- memory (K-126..K-131)

struct DepositHeader {
    u64 partition_id;
};
using DepositIn = RepInput<DepositHeader, u64>;  // K-126: page numbers; output: none

struct WithdrawHeader {
    u64 partition_id;
    ProximityInfo proximity;
};
static_assert(sizeof(WithdrawHeader) == 16);
using WithdrawIn = RepInput<WithdrawHeader, None>;  // K-127; output: a page number for each element

struct MemoryBalanceIn {  // K-022
    u64 partition_id;
    ProximityInfo proximity;
};
struct MemoryBalanceOut {
    u64 pages_available, pages_in_use;
};

/// Flags of MapGpaPages (K-128).
namespace map_flag {
inline constexpr u32 kRead = 1, kWrite = 2, kKernelExecute = 4, kUserExecute = 8, kAdjustable = 0x8000,
                     kKindMask = 0x70000, kNoAccess = 0x10000, kZeroed = 0x20000, kOnes = 0x30000,
                     kNoOverlay = 0x100000, kNotCached = 0x200000, kLarge = 0x80000000;
}
inline constexpr u32 kUnmapLarge = 2;  ///< flags of UnmapGpaPages (K-129)
inline constexpr u64 kPagesPerLargePage = 512;

struct MapGpaHeader {
    u64 partition_id, target_pfn;
    u32 flags, pad;
};
static_assert(sizeof(MapGpaHeader) == 24);
using MapGpaIn = RepInput<MapGpaHeader, u64>;  // K-128: page numbers of the caller

using UnmapGpaIn = RepInput<MapGpaHeader, None>;  // K-129: no list

struct AccessStatesHeader {
    u64 partition_id;
    u64 flags;  ///< 0 clear accessed, 1 set accessed, 2 clear dirty, 3 set dirty
    u64 base_pfn;
};
static_assert(sizeof(AccessStatesHeader) == 24);
using AccessStatesIn = RepInput<AccessStatesHeader, None>;  // K-131; output: u8 each, b0 accessed, b1 dirty
namespace access_flag {
inline constexpr u64 kClearAccessed = 1, kSetAccessed = 2, kClearDirty = 4, kSetDirty = 8;
}

struct ReadGpaIn {  // K-141
    u64 partition_id;
    u32 vp_index, count;
    u64 gpa, control;
};
static_assert(sizeof(ReadGpaIn) == 32);
struct ReadGpaOut {
    u64 access_result;
    u8 data[16];
};
struct WriteGpaIn {  // K-141; output: access result
    u64 partition_id;
    u32 vp_index, count;
    u64 gpa, control;
    u8 data[16];
};
static_assert(sizeof(WriteGpaIn) == 48);

// ---- virtual processors (K-132..K-141)

struct CreateVpIn {  // K-132
    u64 partition_id;
    u32 vp_index;
    u8 pad[3], subnode_type;
    u64 subnode_id;
    ProximityInfo proximity;
    u64 flags;  ///< [31:0] logical processor of a root VP
};
static_assert(sizeof(CreateVpIn) == 40);

struct DeleteVpIn {  // K-133
    u64 partition_id;
    u32 vp_index, pad;
};
static_assert(sizeof(DeleteVpIn) == 16);

/// A register value: the low bytes count.
struct RegisterValue {
    u64 low, high;
};

struct VpRegistersHeader {
    u64 partition_id;
    u32 vp_index;
    u8 target_vtl, pad[3];
};
static_assert(sizeof(VpRegistersHeader) == 16);
using GetVpRegistersIn = RepInput<VpRegistersHeader, u32>;  // K-134: names; output: RegisterValue each

struct RegisterAssignment {
    u32 name, pad[3];
    RegisterValue value;
};
static_assert(sizeof(RegisterAssignment) == 32);
using SetVpRegistersIn = RepInput<VpRegistersHeader, RegisterAssignment>;  // K-135

/// Control of TranslateVirtualAddress (K-139).
namespace translate_flag {
inline constexpr u64 kRead = 1, kWrite = 2, kExecute = 4, kPrivilegeExempt = 8, kSetPageTableBits = 0x10,
                     kTlbFlushInhibit = 0x20, kSupervisor = 0x40, kUser = 0x80, kEnforceSmap = 0x100,
                     kOverrideSmap = 0x200, kShadowStack = 0x400;
}
enum class TranslateResult : u32 {
    Success = 0,
    NotPresent = 1,
    Privilege = 2,
    ReservedBits = 3,
    GpaUnmapped = 4,
    GpaNoRead = 5,
    GpaNoWrite = 6,
    GpaIllegalOverlay = 7,
    Intercept = 8,
    GpaUnaccepted = 9
};
struct TranslateIn {  // K-139
    u64 partition_id;
    u32 vp_index, pad;
    u64 control, gva_page;
};
static_assert(sizeof(TranslateIn) == 32);
struct TranslateOut {
    u32 code;
    u8 cache_type, overlay, reserved[2];
    u64 gpa_page;
};
static_assert(sizeof(TranslateOut) == 16);

// ---- intercepts (K-136, K-137) and CPUID (K-138)

enum class InterceptType : u32 {
    IoPort = 0,
    Msr = 1,
    Cpuid = 2,
    Exception = 3,
    Mmio = 5,
    GlobalCpuid = 6,
    ApicSmi = 7,
    Hypercall = 8,
    InitSipi = 9,
    MicrocodeUpdate = 0xa,
    ApicWrite = 0xb,
    MsrIndex = 0xc,
    UnknownSynicConnection = 0xd,
    ApicEoi = 0xe,
    RetargetUnknownDevice = 0xf,
    ExceptionTrap = 0x10,
    IoPortRange = 0x11
};
namespace intercept_access {
inline constexpr u32 kRead = 1, kWrite = 2, kExecute = 4;
}
struct InstallInterceptIn {  // K-136
    u64 partition_id;
    u32 access, type;
    u64 parameter;  ///< port, MSR, leaf, vector; base | end << 16 for a range of ports
};
static_assert(sizeof(InstallInterceptIn) == 24);

#pragma pack(push, 4)
struct MaskedValue {
    u32 value, mask;
};
struct InterceptResultIn {  // K-137, CPUID form
    u64 partition_id;
    u32 vp_index, type;
    u32 eax, ecx;
    u8 subleaf_specific, always_override;
    u16 pad;
    MaskedValue result[4];  ///< EAX, EBX, ECX, EDX
};
static_assert(sizeof(InterceptResultIn) == 60);
#pragma pack(pop)

struct CpuidValuesHeader {
    u64 partition_id;
    u32 vp_index, flags;
    u64 reserved;
};
static_assert(sizeof(CpuidValuesHeader) == 24);
struct CpuidQuery {
    u32 eax, ecx;
    u64 xfem, xss;
};
static_assert(sizeof(CpuidQuery) == 24);
struct CpuidRegs {
    u32 eax, ebx, ecx, edx;
};
using CpuidValuesIn = RepInput<CpuidValuesHeader, CpuidQuery>;  // K-138; output: CpuidRegs each

}  // namespace vg::hv
