// Messages that the hypervisor sends to a parent: intercepts, scheduler signals, completions. Rows S-50..S-78;
// TLFS 6.0b "Intercept Messages".
#pragma once

#include "base/types.h"
#include "hv/spec/partition.h"
#include "hv/spec/registers.h"

namespace vg::hv {

/// SynIC message types with bit 31 (section 5.5).
enum class MessageType : u32 {
    None = 0,
    UnmappedGpa = 0x80000000,
    GpaIntercept = 0x80000001,
    TimerExpired = 0x80000010,
    InvalidVpRegister = 0x80000020,
    UnrecoverableException = 0x80000021,
    UnsupportedFeature = 0x80000022,
    OpaqueIntercept = 0x8000003f,
    HypercallIntercept = 0x80000050,
    SynicEventIntercept = 0x80000060,
    SintIntercept = 0x80000061,
    SintDeliverable = 0x80000062,
    AsyncCallCompletion = 0x80000070,
    SchedulerVpSignalBitset = 0x80000100,
    SchedulerVpSignalPair = 0x80000101,
    IoPortIntercept = 0x80010000,
    MsrIntercept = 0x80010001,
    CpuidIntercept = 0x80010002,
    ExceptionIntercept = 0x80010003,
    ApicEoi = 0x80010004,
    Halt = 0x80010007,
    InterruptionDeliverable = 0x80010008,
    SipiIntercept = 0x80010009,
};

/// A whole message as in a SIMP slot or an intercept message page: header (S-01), then the payload.
inline constexpr u32 kMessageSize = 256, kMessagePayloadOffset = 16;

/// Where a root partition hears of intercepts and of doorbells (S-20).
inline constexpr u8 kInterceptSint = 0, kDoorbellSint = 5;

#pragma pack(push, 1)

struct InterceptHeader {  // S-70
    u32 vp_index;
    u8 length_and_cr8;  ///< [3:0] instruction length, [7:4] CR8
    u8 access;          ///< InterceptAccess
    u16 execution_state;
    SegmentValue cs;
    u64 rip, rflags;
};
static_assert(sizeof(InterceptHeader) == 40);
enum class InterceptAccess : u8 { Read = 0, Write = 1, Execute = 2 };
namespace execution_state {
inline constexpr u16 kProtected = 1 << 2, kAlignmentMask = 1 << 3, kLongMode = 1 << 4, kDebugActive = 1 << 5,
                     kInterruptionPending = 1 << 6, kInterruptShadow = 1 << 12;
}

struct MemoryIntercept {  // S-71
    InterceptHeader header;
    u32 cache_type;
    u8 instruction_bytes, access_info, tpr, reserved;
    u64 gva, gpa;
    u8 instruction[16];
};
static_assert(sizeof(MemoryIntercept) == 80);
namespace memory_access {
inline constexpr u8 kGvaValid = 1, kGvaGpaValid = 2;
}

struct IoPortIntercept {  // S-72
    InterceptHeader header;
    u16 port;
    u8 access_info;  ///< [2:0] size, 3 string, 4 rep
    u8 instruction_bytes;
    u32 reserved;
    u64 rax;
    u8 instruction[16];
    SegmentValue ds, es;
    u64 rcx, rsi, rdi;
};
static_assert(sizeof(IoPortIntercept) == 128);
namespace io_access {
inline constexpr u8 kString = 8, kRep = 16;
}

struct MsrIntercept {  // S-73
    InterceptHeader header;
    u32 msr, reserved;
    u64 rdx, rax;
};
static_assert(sizeof(MsrIntercept) == 64);

struct CpuidIntercept {  // S-74
    InterceptHeader header;
    u64 rax, rcx, rdx, rbx;
    u64 default_rax, default_rcx, default_rdx, default_rbx;
};
static_assert(sizeof(CpuidIntercept) == 104);

struct ExceptionIntercept {  // S-75
    InterceptHeader header;
    u16 vector;
    u8 info;  ///< 0 error code valid, 1 software
    u8 instruction_bytes;
    u32 error_code;
    u64 parameter, reserved;
    u8 instruction[16];
    SegmentValue ds, ss;
    u64 gpr[16];
};
static_assert(sizeof(ExceptionIntercept) == 240);

struct HypercallIntercept {  // S-76
    InterceptHeader header;
    u64 rax, rbx, rcx, rdx, r8, rsi, rdi;
    u8 xmm[6][16];
    u32 flags;
};
static_assert(sizeof(HypercallIntercept) == 196);

struct HaltIntercept {  // S-77: also UnrecoverableException
    InterceptHeader header;
};

struct DeliverableIntercept {  // S-63, 80010008
    InterceptHeader header;
    u32 type, reserved;  ///< pending interruption type: 0 external interrupt, 2 NMI
};
static_assert(sizeof(DeliverableIntercept) == 48);

struct SipiIntercept {  // S-63, 80010009
    InterceptHeader header;
    u32 target_vp, vector;
};
static_assert(sizeof(SipiIntercept) == 48);

struct SintDeliverable {  // S-58, 80000062
    InterceptHeader header;
    u16 sints, reserved[3];
};
static_assert(sizeof(SintDeliverable) == 48);

struct OpaqueIntercept {  // S-55
    u32 vp_index;
};

struct SintInterceptNotification {  // S-58, 80000061
    u32 sint;
};

struct ApicEoiMessage {  // S-63, 80010004
    u32 vp_index, vector;
};

struct InvalidVpRegister {  // S-54
    u32 vp_index, reserved;
};

struct AsyncCallCompletion {  // S-59
    u64 partition_id;
    u32 status, count;
    u64 sub_status;
};

struct VpSignalPairs {  // S-62
    u32 overflow;
    u8 count, reserved[3];
    u64 partition_id[19];
    u32 vp_index[19];
    u8 pad[4];
};
static_assert(sizeof(VpSignalPairs) == 240);

#pragma pack(pop)

}  // namespace vg::hv
