// Architectural state of one virtual processor: one plain page, aliased below every bank.
//
// Translated code addresses it from the bank base register (the byte behind the page) with negative displacements;
// the last 128 bytes are the ones within disp8. The layout is part of the ABI of emitted code.
#pragma once

#include <cstddef>

#include "base/types.h"

namespace vg::cpu {

enum Gpr : u8 { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum class Seg : u8 { ES, CS, SS, DS, FS, GS, LDTR, TR, None };

/// Hidden part of a segment register. attributes as in K-203 and VMX access rights' low bits:
/// [3:0] type, 4 S, [6:5] DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G. `limit` is in bytes, granularity applied.
struct SegmentReg {
    u64 base;
    u32 limit;
    u16 selector;
    u16 attributes;
    [[nodiscard]] unsigned type() const { return attributes & 15; }
    [[nodiscard]] bool s() const { return (attributes & 0x10) != 0; }
    [[nodiscard]] unsigned dpl() const { return (attributes >> 5) & 3; }
    [[nodiscard]] bool present() const { return (attributes & 0x80) != 0; }
    [[nodiscard]] bool l() const { return (attributes & 0x2000) != 0; }
    [[nodiscard]] bool db() const { return (attributes & 0x4000) != 0; }
    /// Not usable: a null selector was loaded (or VMX said so). Kept as P=0.
    [[nodiscard]] bool usable() const { return present(); }
};

struct TableReg {
    u64 base;
    u32 limit;
    u32 pad;
};

/// x87 and MMX state in the format of FXSAVE64 (bytes 0..159 used: control, pointers, ST0-7/MM0-7).
/// The XMM part is not here but in `ymm`. FIP/FDP/FOP are kept only for unmasked exceptions, else zero
/// (one deterministic rule, whatever the host does).
struct alignas(16) X87State {
    u16 fcw, fsw;
    u8 ftw;  ///< abridged tag word: bit set = register in use
    u8 pad0;
    u16 fop;
    u64 fip, fdp;
    u32 mxcsr_unused, mxcsr_mask_unused;
    u8 st[8][16];
    u8 pad1[352];
};
static_assert(sizeof(X87State) == 512);

inline constexpr u32 kMtrrVariableCount = 8;

/// What the architecture calls activity state. SDM 3C "Guest Non-Register State". Idle is a hypervisor's: halted until
/// an interrupt is pending, whether it can be delivered or not (RFLAGS.IF).
enum class Activity : u32 { Active, Halted, Shutdown, WaitForSipi, Idle };

/// What holds events back until the next instruction boundary (VpState::interrupt_shadow; 0: nothing).
namespace shadow {
inline constexpr u8 Sti = 1, MovSs = 2;
}

inline constexpr std::size_t kColdReserved = 4096 - 512 - 512 - 64 - 6 * 8 - 8 * 8 - 32 - 32 - 8 - 9 * 8 - 9 * 8 - 2 * 8 -
                                              (1 + 11 + 16) * 8 - 2 * 8 - 16 * 8 - 24 - 128 - 272 - 9 * 8 - 2 * 8 - 4 * 8;

struct alignas(4096) VpState {
    // ---- vector and x87 state
    alignas(32) u8 ymm[16][32];
    X87State x87;
    u64 x87_header[8];  ///< makes an XSAVE area of `x87` (jit/x87_unit.h); zero at rest
    // ---- system registers (rarely touched by emitted code)
    u64 cr0, cr2, cr3, cr4, xcr0, xss;  // CR8 is the APIC's TPR
    u64 dr[8];
    TableReg gdtr, idtr;
    u64 pdpte[4];  ///< PAE paging: as loaded
    u32 pkru, mxcsr;
    // ---- MSRs that are plain storage of this VP
    u64 efer, star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat, tsc_aux, misc_enable, feature_control, apic_base, debugctl, tsc_deadline, spec_ctrl, ucode_rev;
    u64 tsc_offset;  ///< guest TSC = virtual time (ns) + tsc_offset
    u64 tsc_adjust;
    u64 mtrr_def_type, mtrr_fixed[11], mtrr_base[kMtrrVariableCount], mtrr_mask[kMtrrVariableCount];
    u64 mcg_status, mcg_ctl, mc_bank[4][4];
    // ---- event delivery
    Activity activity;
    u8 interrupt_shadow;  ///< shadow::Sti, shadow::MovSs (POP SS too)
    u8 nmi_blocked;       ///< until IRET
    u8 nmi_pending;
    u8 debug_pending;     ///< #DB trap is due at this boundary; dr6 bits in pending_dr6
    u64 pending_dr6;
    u8 init_pending, sipi_pending, sipi_vector, cpl;  ///< cpl: current privilege level (SS.DPL), 3 in v8086
    u32 pad_cold;
    // ---- AMD configuration registers (plain storage), and the seed of RDRAND/RDSEED
    u64 hwcr, syscfg, vm_cr, de_cfg, top_mem, top_mem2, virt_spec_ctrl, ls_cfg;
    u64 random_state;
    /// An external interrupt that was acknowledged but whose delivery an exit's owner put off: delivered first.
    u8 acknowledged, acknowledged_vector;
    u8 ferr;  ///< FERR# is asserted
    u8 pad_events[5];
    u64 idle_ns;  ///< virtual time that passed outside this VP's slices
    /// LastBranchFromIP, LastBranchToIP, LastIntFromIP, LastIntToIP (Vp::records_branches).
    u64 last_branch[4];

    /// Room for more cold fields: shrink it by what is added above.
    u8 reserved[kColdReserved];

    // ---- segments: ES CS SS DS FS GS LDTR TR
    SegmentReg seg[8];
    // ---- the last 272 bytes: what every block touches; R8 and up and `jit` are within disp8 of the base register
    u64 rip;
    u64 rflags;       ///< always complete outside emitted code; bit 1 set
    s64 budget;       ///< instructions left in this slice; virtual time is deadline - budget
    u64 deadline;     ///< virtual time at which the slice ends
    u64 request;      ///< non-zero: leave at the next boundary (Stop::Request)
    u64 jit_far[5];   ///< scratch of emitted code, as `jit`, less often used
    u64 gpr[16];
    u64 jit[8];       ///< scratch of emitted code: not architectural, not saved

    [[nodiscard]] SegmentReg& segment(Seg s) { return seg[static_cast<unsigned>(s)]; }
    [[nodiscard]] const SegmentReg& segment(Seg s) const { return seg[static_cast<unsigned>(s)]; }
};
static_assert(sizeof(VpState) == 4096);
static_assert(offsetof(VpState, jit) == 4096 - 64);
static_assert(offsetof(VpState, gpr) + 8 * 8 == 4096 - 128);

/// Displacement of a field from the bank base register.
#define VG_STATE_DISP(field) (static_cast<int>(offsetof(::vg::cpu::VpState, field)) - 4096)

}  // namespace vg::cpu
