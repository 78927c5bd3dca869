// Decimal adjustment: outside 64-bit mode only. SDM 2A.
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

u8 al(const Interp& in) { return static_cast<u8>(in.s.gpr[RAX]); }

void set_al_flags(Interp& in, u8 value, u64 others) {
    in.set_gpr(RAX, 1, value);
    in.s.rflags = with_flags(in.s.rflags, flag::Status, zsp(value) | others);
}

bool needs_low_adjust(const Interp& in) { return (al(in) & 0xf) > 9 || (in.s.rflags & flag::AF) != 0; }

/// DAA and DAS: sign is +1 or -1.
Exec decimal(Interp& in, int sign) {
    const u8 old = al(in);
    const bool old_cf = (in.s.rflags & flag::CF) != 0;
    u8 value = old;
    bool cf = false, af = false;
    if (needs_low_adjust(in)) {
        const int adjusted = value + sign * 6;
        cf = old_cf || adjusted < 0 || adjusted > 0xff;
        value = static_cast<u8>(adjusted);
        af = true;
    }
    if (old > 0x99 || old_cf) {
        value = static_cast<u8>(value + sign * 0x60);
        cf = true;
    } else if (sign > 0) {
        cf = false;  // DAA clears what the first step may have carried: it cannot carry without old > 0x99
    }
    set_al_flags(in, value, when(cf, flag::CF) | when(af, flag::AF));
    return Exec::Next;
}

/// AAA and AAS.
Exec ascii(Interp& in, int sign) {
    const bool adjust = needs_low_adjust(in);
    u64 ax = in.gpr(RAX, 2);
    if (adjust) ax = static_cast<u16>(sign > 0 ? ax + 0x106 : ax - 0x106);
    in.set_gpr(RAX, 2, ax & 0xff0f);
    const u8 value = al(in);
    in.s.rflags = with_flags(in.s.rflags, flag::Status,
                             (zsp(value) & ~flag::SF) | when(adjust, flag::AF | flag::CF));
    return Exec::Next;
}

}  // namespace

Exec DAA(Interp& in, const Insn&) { return decimal(in, 1); }
Exec DAS(Interp& in, const Insn&) { return decimal(in, -1); }
Exec AAA(Interp& in, const Insn&) { return ascii(in, 1); }
Exec AAS(Interp& in, const Insn&) { return ascii(in, -1); }

Exec AAM(Interp& in, const Insn& i) {
    const u8 base = static_cast<u8>(i.imm), value = al(in);
    if (base == 0) return in.vp.raise(kDivideError);
    in.set_gpr(RAX, 2, static_cast<u64>(value / base) << 8 | value % base);
    set_al_flags(in, al(in), 0);
    return Exec::Next;
}

Exec AAD(Interp& in, const Insn& i) {
    const u8 ah = static_cast<u8>(in.s.gpr[RAX] >> 8);
    const u8 value = static_cast<u8>(al(in) + ah * static_cast<u8>(i.imm));
    in.set_gpr(RAX, 2, value);
    set_al_flags(in, value, 0);
    return Exec::Next;
}

}  // namespace vg::cpu::ops
