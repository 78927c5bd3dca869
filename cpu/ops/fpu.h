// x87, MMX and MXCSR state: facts shared by the bodies and the host stubs.
#pragma once

#include <cstddef>
#include <cstring>

#include "cpu/vp_state.h"

namespace vg::cpu::ops {

inline constexpr u32 kMxcsrMask = 0xffff;       ///< writable bits; MXCSR_MASK of FXSAVE
inline constexpr u32 kMxcsrInit = 0x1f80;
inline constexpr u16 kFcwInit = 0x37f;
inline constexpr std::size_t kFxControlSize = 24;  ///< FCW to FDP
inline constexpr std::size_t kFxLegacySize = 160;  ///< and MXCSR, ST0-7

namespace fsw {
inline constexpr u16 kExceptions = 0x3f, kSummary = 0x80, kBusy = 0x8000;
inline constexpr unsigned kTopShift = 11;
}  // namespace fsw

/// An unmasked x87 exception waits for the next waiting instruction. SDM 1 "x87 FPU Status Word".
inline bool x87_exception_pending(const X87State& x) { return (x.fsw & ~x.fcw & fsw::kExceptions) != 0; }

inline unsigned x87_top(const X87State& x) { return (x.fsw >> fsw::kTopShift) & 7; }

/// The 80 bits of physical register n, and the 64 bits of MMn, lie in ST(n - TOP).
inline u8* physical_register(X87State& x, unsigned n) { return x.st[(n - x87_top(x)) & 7]; }
inline u8* mmx_register(X87State& x, unsigned n) { return physical_register(x, n); }

/// Sets FSW, keeping the contents of the physical registers: st[] is ordered from the top of the stack.
inline void set_x87_status(X87State& x, u16 status) {
    u8 physical[8][16];
    for (unsigned n = 0; n < 8; ++n) std::memcpy(physical[n], physical_register(x, n), 16);
    x.fsw = status;
    for (unsigned n = 0; n < 8; ++n) std::memcpy(physical_register(x, n), physical[n], 16);
}

/// Sets control and status as loaded from memory: bit 6 of FCW reads as one, reserved bits as zero; ES and B follow
/// from flags and masks. Physical registers keep their contents.
inline void set_x87_control(X87State& x, u16 control, u16 status) {
    x.fcw = static_cast<u16>((control & 0x1f3f) | 0x40);
    set_x87_status(x, static_cast<u16>(status & ~(fsw::kSummary | fsw::kBusy)));
    if (x87_exception_pending(x)) x.fsw = static_cast<u16>(x.fsw | fsw::kSummary | fsw::kBusy);
}

/// The state after FNINIT; physical registers keep their contents.
inline void init_x87(X87State& x) {
    x.fcw = kFcwInit;
    set_x87_status(x, 0);
    x.ftw = 0;
    x.fop = 0;
    x.fip = x.fdp = 0;
}

/// XINUSE: the XSAVE components that differ from their initial configuration.
/// @param count_mxcsr  MXCSR is counted with SSE, as XSAVEC, XSAVES and XGETBV 1 do (measured; XSAVE and XSAVEOPT do not)
[[nodiscard]] u64 components_in_use(const VpState& s, bool count_mxcsr);

/// What every MMX instruction but EMMS does to the x87: TOP = 0, all registers in use.
inline void enter_mmx(X87State& x) {
    set_x87_status(x, static_cast<u16>(x.fsw & ~(7 << fsw::kTopShift)));
    x.ftw = 0xff;
}

}  // namespace vg::cpu::ops
