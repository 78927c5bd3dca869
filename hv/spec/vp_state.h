// Pages that show a virtual processor to its parent, and images of its state. Rows K-170..K-180, S-102, S-103.
#pragma once

#include <cstddef>

#include "base/types.h"
#include "hv/spec/partition.h"
#include "hv/spec/registers.h"

namespace vg::hv {

// ---- state pages (K-170, K-171)

enum class StatePage : u16 { Registers = 0, InterceptMessage = 1, Ghcb = 2 };

struct MapStatePageIn {  // K-170; output: page number
    u64 partition_id;
    u32 vp_index;
    u16 type;
    u8 vtl, flags;  ///< flags b0: requested_pfn counts
    u64 requested_pfn;
};
static_assert(sizeof(MapStatePageIn) == 24);

struct UnmapStatePageIn {  // K-171
    u64 partition_id;
    u32 vp_index;
    u16 type;
    u8 vtl, flags;
};
static_assert(sizeof(UnmapStatePageIn) == 16);

#pragma pack(push, 1)
/// The VP register page (S-102).
struct RegisterPage {
    u16 version;  ///< 1
    u8 is_valid, reserved0;
    u32 dirty;
    u64 gpr[16];  ///< RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8..R15
    u64 rip, rflags, reserved1;
    u8 xmm[6][16];
    SegmentValue segment[6];  ///< ES, CS, SS, DS, FS, GS
    u64 cr0, cr3, cr4, cr8, efer, dr7;
    u64 pending_interruption, interrupt_state, emulation_hints, xfem;
    u8 reserved2[256];
    u8 vector_count, vectors[7];
};
#pragma pack(pop)
static_assert(sizeof(RegisterPage) == 696 && offsetof(RegisterPage, vector_count) == 688 &&
              offsetof(RegisterPage, segment) == 256 && offsetof(RegisterPage, cr0) == 352);
inline constexpr u16 kRegisterPageVersion = 1;
namespace register_page_dirty {
inline constexpr u32 kGprs = 1, kRip = 2, kXmm = 4, kSegments = 8, kRflags = 16;
}

// ---- state images (K-172..K-176)

enum class VpStateType : u32 {
    SyntheticTimers = 4,
    LocalApic = 0x80000000,
    Xsave = 0x80000001,
    MessagePage = 0x80000002,
    EventFlagsPage = 0x80000003,
};
/// Types with this bit exchange pages of the caller; the others go through the output or the input itself.
inline constexpr u32 kVpStateByPages = u32{1} << 31;

struct VpStateIn {  // K-172, K-173: page numbers or data follow as a variable header
    u64 partition_id;
    u32 vp_index;
    u8 vtl, pad[3];
    u32 type, reserved;
    u64 xsave_flags, xsave_states;
};
static_assert(sizeof(VpStateIn) == 40);

struct LocalApicState {  // K-175
    u32 id, version, ldr, dfr, svr;
    u32 isr[8], tmr[8], irr[8];
    u32 esr, icr_high, icr_low;
    u32 lvt_timer, lvt_thermal, lvt_perfmon, lvt_lint0, lvt_lint1, lvt_error, lvt_cmci;
    u32 error_status, initial_count, current_count, divide, remote_read;
};
static_assert(sizeof(LocalApicState) == 176 && offsetof(LocalApicState, esr) == 116);

struct SyntheticTimersState {  // K-176
    struct Timer {
        u32 undelivered_pending, reserved;
        u64 config, count, adjustment, undelivered_expiration;
    } timer[4];
    u64 reserved[5];
};
static_assert(sizeof(SyntheticTimersState) == 200);

// ---- statistics (K-177..K-180)

enum class StatsType : u32 { Hypervisor = 1, LogicalProcessor = 2, Partition = 0x10001, Vp = 0x10002 };
enum class StatsArea : u8 { Self = 0, Parent = 1, Internal = 2 };

/// What a statistics page is about: VP {partition id, VP index}; partition {id}; LP {index in the low half of `id`}.
struct StatsIdentity {
    u64 id;
    u32 vp_index;
    u16 flags;
    u8 pad, area;
};
static_assert(sizeof(StatsIdentity) == 16);

struct StatsPageIn {  // K-177 (output: page number), K-178
    u32 type, pad;
    StatsIdentity identity;
};
static_assert(sizeof(StatsPageIn) == 24);

/// Indices of 64-bit counters in a statistics page (K-180).
inline constexpr u32 kStatsLogicalProcessors = 1, kStatsDispatchThreadBlocked = 202;

}  // namespace vg::hv
