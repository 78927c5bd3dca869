#include "jit/mode_key.h"

#include "cpu/spec/bits.h"

namespace vg::jit {

namespace {

/// No x87 instruction can report an exception, or be asked where the last one was.
bool x87_is_quiet(const cpu::VpState& s) {
    constexpr u32 kMasks = 0x3f;
    const cpu::X87State& x = s.x87;
    return (x.fcw & kMasks) == kMasks && (x.fip | x.fdp | x.fop | s.ferr) == 0;
}

bool time_is_plain(const cpu::Vp& vp) {
    if ((vp.state().cr4 & cpu::cr4::TSD) != 0 && vp.cpl() != 0) return false;
    for (const cpu::virt::Level& level : vp.levels())
        if (level.controls.rdtsc || level.controls.no_rdtscp) return false;
    return true;
}

bool pause_is_plain(const cpu::Vp& vp) {
    for (const cpu::virt::Level& level : vp.levels())
        if (level.controls.pause) return false;
    return true;
}

bool cr_is_plain(const cpu::Vp& vp) {
    const cpu::virt::Controls& controls = vp.controls();
    return !controls.cr_all && (controls.cr0_view.mask | controls.cr4_view.mask) == 0;
}

}  // namespace

ModeKey mode_key(const cpu::Vp& vp, u32 model) {
    namespace cr0 = cpu::cr0;
    namespace cr4 = cpu::cr4;
    const cpu::VpState& s = vp.state();
    const cpu::CodeMode mode = vp.code_mode();
    u32 key = static_cast<u32>(mode) | model << ModeKey::kModelShift;
    if (vp.cpl() == 3) key |= ModeKey::kUser;
    // Rings 1 and 2, which nobody uses in 64-bit mode, are left to the interpreter: native code is for CPL 0 or CPL 3.
    if (mode == cpu::CodeMode::Bits64 && (vp.cpl() == 0 || vp.cpl() == 3)) key |= ModeKey::kFlat;
    if (time_is_plain(vp)) key |= ModeKey::kPlainTime;
    if (pause_is_plain(vp)) key |= ModeKey::kPlainPause;
    if (cr_is_plain(vp)) key |= ModeKey::kPlainCr;
    if (!vp.controls().stacked_flags) key |= ModeKey::kPlainFlags;
    constexpr u32 kMxcsrMasks = 0x1f80;
    const bool fpu_on = (s.cr0 & (cr0::EM | cr0::TS)) == 0;
    if (fpu_on && x87_is_quiet(s)) key |= ModeKey::kX87;
    if (fpu_on && (s.cr4 & cr4::OSFXSR) != 0 && (s.mxcsr & kMxcsrMasks) == kMxcsrMasks) {
        key |= ModeKey::kSse;
        constexpr u64 kSseAvxState = 6;
        if ((s.cr4 & cr4::OSXSAVE) != 0 && (s.xcr0 & kSseAvxState) == kSseAvxState) key |= ModeKey::kAvx;
    }
    if (vp.cpl() == 3 && (s.cr0 & cr0::AM) != 0 && (s.rflags & cpu::flag::AC) != 0) key |= ModeKey::kAligned;
    return {key};
}

}  // namespace vg::jit
