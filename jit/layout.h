// Where guest state lives while translated code runs: the register map and the scratch fields of the state page.
//
// Guest RAX, RCX, RDX, RBX, RSI, RDI keep their names, so that implicit operands need no moves; R12..R14 too. Guest
// RSP and RBP move, because the host needs its own stack and one base register for state and tables. R8..R11 and
// R15, the least used by compilers, live in memory within disp8 of the base register. At every boundary between
// guest instructions all registers are in these places: nothing else has to be known to leave the code.
#pragma once

#include <array>

#include "cpu/vp_state.h"
#include "mmu/bank.h"

namespace vg::jit {

// Host registers by number. RBP is the bank base, RSP the host stack.
inline constexpr u8 kRax = 0, kRcx = 1, kRdx = 2, kRbx = 3, kHostStack = 4, kBank = 5, kRsi = 6, kRdi = 7;
inline constexpr u8 kT0 = 8;       ///< scratch: effective address
inline constexpr u8 kT1 = 9;       ///< scratch: table index, then addend
inline constexpr u8 kBudget = 10;  ///< instructions left, the current block already charged
inline constexpr u8 kGuestRbp = 11, kGuestRsp = 15;

inline constexpr u8 kInMemory = 0xff;  ///< the guest register has no host register

/// Host register of each guest register.
inline constexpr std::array<u8, 16> kHostOf = {kRax, kRcx, kRdx,      kRbx,      kGuestRsp, kGuestRbp,
                                               kRsi, kRdi, kInMemory, kInMemory, kInMemory, kInMemory,
                                               12,   13,   14,        kInMemory};

/// Displacement of a guest register's home in the state page.
constexpr int gpr_disp(unsigned reg) { return VG_STATE_DISP(gpr) + 8 * static_cast<int>(reg); }

constexpr int scratch_disp(unsigned number) { return VG_STATE_DISP(jit) + 8 * static_cast<int>(number); }
constexpr int far_disp(unsigned number) { return VG_STATE_DISP(jit_far) + 8 * static_cast<int>(number); }

/// Low word: the status flags as LAHF (high byte) and SETO (low byte) leave them in AX. Valid if kPending is 0.
inline constexpr int kFlagsSlot = scratch_disp(0);
/// Byte: non-zero while the guest's vector registers and MXCSR are in the host's.
inline constexpr int kVectorsLoaded = scratch_disp(0) + 4;
/// Byte: non-zero while the guest's x87 and MMX state is in the host's unit (x87_unit.h).
inline constexpr int kX87Loaded = scratch_disp(0) + 5;
/// Byte: non-zero if an interrupt may be waiting for STI (Vp::interrupt_waits).
inline constexpr int kInterruptWaits = scratch_disp(0) + 6;
/// RIP of the byte at offset 0 of the physical page that the running block lies in. Code holds offsets only, so that
/// one translation serves every address that its page is mapped at.
inline constexpr int kCodePage = scratch_disp(1);
/// A value carried across the memory check of the same instruction.
inline constexpr int kStash = scratch_disp(2);
/// Double word: number of the recipe (flags.h) by which the flags at the block's entry are computed from the registers
/// there; 0: they are in the flags slot.
inline constexpr int kPending = scratch_disp(3);
/// Host addresses for groups of accesses of the running block.
inline constexpr int kGroupSlot = scratch_disp(4);
inline constexpr unsigned kGroupSlots = 4;
/// What a recipe needs besides registers: an operand that came from memory or was overwritten.
inline constexpr int kRecipeValue = far_disp(0);
inline constexpr int kRecipeValueToo = far_disp(4);
/// The Context of the present entry, and the host's stack pointer at entry: above it are no paired returns.
inline constexpr int kContext = far_disp(1);
inline constexpr int kStackBase = far_disp(2);
/// Calls below this stack pointer forget all paired returns first.
inline constexpr int kStackLimit = far_disp(3);

inline constexpr u64 kStatusFlags = 0x8d5;

/// RFLAGS status bits to the flags slot's format and back.
constexpr u16 pack_flags(u64 rflags) { return static_cast<u16>((rflags & 0xd5) << 8 | 0x200 | ((rflags >> 11) & 1)); }
constexpr u64 unpack_flags(u64 slot) { return ((slot >> 8) & 0xd5) | (slot & 1) << 11; }

}  // namespace vg::jit
