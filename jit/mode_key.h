// What a translation depends on besides its bytes.
#pragma once

#include "cpu/vp.h"

namespace vg::jit {

/// Part of every block's identity. Two VPs in modes with equal keys run the same code.
struct ModeKey {
    u32 value = 0;

    static constexpr u32 kModeMask = 3;      ///< cpu::CodeMode
    static constexpr u32 kUser = 1 << 2;     ///< CPL 3
    static constexpr u32 kFlat = 1 << 3;     ///< 64-bit mode: emit natively
    static constexpr u32 kSse = 1 << 4;      ///< legacy SSE can execute, with all exceptions masked
    static constexpr u32 kAvx = 1 << 5;      ///< VEX-encoded vector instructions too
    static constexpr u32 kAligned = 1 << 6;  ///< alignment checks are in force
    static constexpr u32 kSeparate = 1 << 7; ///< every access has its own check (translations beside the usual ones)
    static constexpr u32 kX87 = 1 << 8;  ///< x87 and MMX can execute, with all x87 exceptions masked and no trace of any
    static constexpr u32 kPlainTime = 1 << 9;  ///< RDTSC and RDTSCP neither fault nor exit
    static constexpr u32 kStops = 1 << 10;     ///< of a linear page with breakpoints: none of them begins an instruction here
    static constexpr u32 kPlainCr = 1 << 11;   ///< MOV from CR0, CR3 and CR4 reads the register itself
    static constexpr u32 kPlainFlags = 1 << 12;  ///< PUSHF does not exit
    static constexpr u32 kPlainPause = 1 << 13;  ///< PAUSE does not exit
    static constexpr unsigned kModelShift = 14;

    [[nodiscard]] bool has(u32 bits) const { return (value & bits) == bits; }
    [[nodiscard]] cpu::CodeMode code_mode() const { return static_cast<cpu::CodeMode>(value & kModeMask); }
    bool operator==(const ModeKey&) const = default;
};

/// Key of the VP's present mode. @param model  number of its CPU model among the engine's
[[nodiscard]] ModeKey mode_key(const cpu::Vp& vp, u32 model);

}  // namespace vg::jit
