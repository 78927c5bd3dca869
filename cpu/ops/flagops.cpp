// Single flags, and flags through AH.
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

Exec CLC(Interp& in, const Insn&) {
    in.s.rflags &= ~flag::CF;
    return Exec::Next;
}
Exec STC(Interp& in, const Insn&) {
    in.s.rflags |= flag::CF;
    return Exec::Next;
}
Exec CMC(Interp& in, const Insn&) {
    in.s.rflags ^= flag::CF;
    return Exec::Next;
}
Exec CLD(Interp& in, const Insn&) {
    in.s.rflags &= ~flag::DF;
    return Exec::Next;
}
Exec STD(Interp& in, const Insn&) {
    in.s.rflags |= flag::DF;
    return Exec::Next;
}

namespace {

constexpr u64 kAhFlags = flag::CF | flag::PF | flag::AF | flag::ZF | flag::SF;

}  // namespace

Exec LAHF(Interp& in, const Insn&) {
    const u64 ah = (in.s.rflags & kAhFlags) | flag::Always1;
    in.s.gpr[RAX] = (in.s.gpr[RAX] & ~u64{0xff00}) | ah << 8;
    return Exec::Next;
}

Exec SAHF(Interp& in, const Insn&) {
    in.s.rflags = with_flags(in.s.rflags, kAhFlags, (in.s.gpr[RAX] >> 8) & kAhFlags);
    return Exec::Next;
}

Exec SALC(Interp& in, const Insn&) {
    in.set_gpr(RAX, 1, (in.s.rflags & flag::CF) != 0 ? 0xff : 0);
    return Exec::Next;
}

}  // namespace vg::cpu::ops
