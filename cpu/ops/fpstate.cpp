// x87 control and environment, FXSAVE and FXRSTOR, MXCSR. Format: SDM 1 "FXSAVE Area", "x87 FPU State Image".
#include <algorithm>

#include "base/bits.h"
#include "cpu/ops/common.h"
#include "cpu/ops/fpu.h"
#include "cpu/ops/state_image.h"

namespace vg::cpu::ops {

namespace {

/// FXSAVE and FXRSTOR have no x87 attribute, because a pending exception does not stop them.
bool fxsave_allowed(Interp& in) {
    if ((in.s.cr0 & (cr0::EM | cr0::TS)) == 0) return true;
    in.vp.raise(kDeviceNotAvailable);
    return false;
}

bool fxsave_address(Interp& in, const Insn& i, bool write, u64& address) {
    if (!in.memory_address(i, kFxSaveSize, write, address)) return false;
    if ((address & 15) == 0) return true;
    in.vp.raise(kGeneralProtection, 0);
    return false;
}

/// AMD's fast FXSAVE leaves the XMM registers alone at CPL 0 in 64-bit mode.
bool includes_xmm(const Interp& in) {
    return (in.s.efer & efer::FFXSR) == 0 || in.vp.cpl() != 0 || in.vp.code_mode() != CodeMode::Bits64;
}

constexpr unsigned kTagEmpty = 3;

/// The two-bit tag of a register in use: 0 valid, 1 zero, 2 special.
unsigned full_tag(const u8* st) {
    u64 significand;
    u16 exponent;
    std::memcpy(&significand, st, sizeof significand);
    std::memcpy(&exponent, st + 8, sizeof exponent);
    exponent &= 0x7fff;
    if (exponent == 0) return significand == 0 ? 1 : 2;
    return exponent == 0x7fff || !top_bit(significand) ? 2 : 0;
}

u16 full_tags(const X87State& x) {
    unsigned tags = 0;
    for (unsigned physical = 0; physical < 8; ++physical) {
        const bool used = (x.ftw >> physical & 1) != 0;
        tags |= (used ? full_tag(x.st[(physical - x87_top(x)) & 7]) : kTagEmpty) << (2 * physical);
    }
    return static_cast<u16>(tags);
}

u8 abridged_tags(u16 full) {
    unsigned tags = 0;
    for (unsigned n = 0; n < 8; ++n)
        if ((full >> (2 * n) & 3) != kTagEmpty) tags |= 1u << n;
    return static_cast<u8>(tags);
}

/// The environment of FNSTENV and FNSAVE: seven 16- or 32-bit words, with real-mode or protected-mode pointers.
/// CS and DS are stored as zero (CPUID: "deprecates FPU CS and FPU DS values").
struct Environment {
    u32 size;
    u8 bytes[28];
};

bool real_format(const Interp& in) { return !in.vp.protected_mode() || in.vp.v8086(); }

Environment make_environment(const Interp& in, bool wide) {
    const X87State& x = in.s.x87;
    const u32 fip = static_cast<u32>(x.fip), fdp = static_cast<u32>(x.fdp);
    u32 words[7] = {x.fcw, x.fsw, full_tags(x), fip, u32{x.fop} << 16, fdp, 0};
    if (real_format(in)) {
        words[4] = (fip >> 16) << 12 | x.fop;
        words[6] = (fdp >> 16) << 12;
    }
    Environment e;
    if (!wide) {
        if (!real_format(in)) words[4] = 0;
        for (unsigned n = 0; n < 7; ++n) {
            const u16 half = static_cast<u16>(words[n]);
            std::memcpy(e.bytes + 2 * n, &half, sizeof half);
        }
        e.size = 14;
        return e;
    }
    // Upper halves that hold nothing are stored as ones. SDM 1 "Real Mode x87 FPU State Image in Memory": there the low
    // halves of the pointers are by themselves.
    for (const unsigned n : {0u, 1u, 2u, 3u, 5u, 6u})
        if (n < 3 || (n == 6) != real_format(in)) words[n] |= 0xffff0000;
    std::memcpy(e.bytes, words, sizeof words);
    e.size = 28;
    return e;
}

bool wide_environment(const Insn& i) { return i.op_size != 2; }

/// Control, status, tags and, if an exception is unmasked, the pointers.
void set_environment(Interp& in, const u8* bytes, bool wide) {
    X87State& x = in.s.x87;
    const auto word = [&](unsigned n) {
        u32 value = 0;
        std::memcpy(&value, bytes + n * (wide ? 4u : 2u), wide ? 4 : 2);
        return value;
    };
    set_x87_control(x, static_cast<u16>(word(0)), static_cast<u16>(word(1)));
    x.ftw = abridged_tags(static_cast<u16>(word(2)));
    x.fip = x.fdp = 0;
    x.fop = 0;
    if (!x87_exception_pending(x)) return;
    x.fip = word(3);
    x.fdp = word(5);
    if (real_format(in)) {
        const u32 low = wide ? 0xffff : ~u32{0};
        x.fip = (word(3) & low) | (word(4) >> 12) << 16;
        x.fdp = (word(5) & low) | (word(6) >> 12) << 16;
        x.fop = word(4) & 0x7ff;
    } else if (wide) {
        x.fop = (word(4) >> 16) & 0x7ff;
    }
}

constexpr u32 kStackBytes = 80;  // ST0 to ST7 without padding

}  // namespace

Exec FXSAVE(Interp& in, const Insn& i) {
    u64 address;
    if (!fxsave_allowed(in) || !fxsave_address(in, i, true, address)) return in.vp.failed();
    StateImage image(in, address, i.seg == Seg::SS);
    const bool wide = i.op == Op::FXSAVE64;
    image.put_x87(wide);
    image.put_mxcsr();
    if (includes_xmm(in)) image.put_xmm(i.mode == CodeMode::Bits64 ? 16 : 8);
    return image.commit() ? Exec::Next : in.vp.failed();
}

Exec FXRSTOR(Interp& in, const Insn& i) {
    u64 address;
    if (!fxsave_allowed(in) || !fxsave_address(in, i, false, address)) return in.vp.failed();
    StateImage image(in, address, i.seg == Seg::SS);
    if (!image.fetch(0, kFxSaveSize)) return in.vp.failed();
    if ((image.mxcsr() & ~kMxcsrMask) != 0) return in.vp.raise(kGeneralProtection, 0);
    image.get_x87(i.op == Op::FXRSTOR64);
    in.s.mxcsr = image.mxcsr();
    if (includes_xmm(in)) image.get_xmm(i.mode == CodeMode::Bits64 ? 16 : 8);
    return Exec::Next;
}

Exec LDMXCSR(Interp& in, const Insn& i) {
    u32 value;
    if (!in.load_operand(i, &value, sizeof value)) return in.vp.failed();
    if ((value & ~kMxcsrMask) != 0) return in.vp.raise(kGeneralProtection, 0);
    in.s.mxcsr = value;
    return Exec::Next;
}

Exec STMXCSR(Interp& in, const Insn& i) {
    return in.store_operand(i, &in.s.mxcsr, sizeof in.s.mxcsr) ? Exec::Next : in.vp.failed();
}

Exec FNSTENV(Interp& in, const Insn& i) {
    const Environment e = make_environment(in, wide_environment(i));
    if (!in.store_operand(i, e.bytes, e.size)) return in.vp.failed();
    X87State& x = in.s.x87;
    set_x87_control(x, x.fcw | fsw::kExceptions, x.fsw);  // "then masks all floating-point exceptions"
    x.fop = 0;
    x.fip = x.fdp = 0;
    return Exec::Next;
}

Exec FLDENV(Interp& in, const Insn& i) {
    u8 bytes[28];
    if (!in.load_operand(i, bytes, wide_environment(i) ? 28 : 14)) return in.vp.failed();
    set_environment(in, bytes, wide_environment(i));
    return Exec::Next;
}

Exec FNSAVE(Interp& in, const Insn& i) {
    X87State& x = in.s.x87;
    const Environment e = make_environment(in, wide_environment(i));
    u8 bytes[28 + kStackBytes];
    std::memcpy(bytes, e.bytes, e.size);
    for (unsigned n = 0; n < 8; ++n) std::memcpy(bytes + e.size + 10 * n, x.st[n], 10);
    u64 address;
    if (!in.memory_address(i, e.size + kStackBytes, true, address)) return in.vp.failed();
    StateImage image(in, address, i.seg == Seg::SS);
    image.put(0, bytes, e.size + kStackBytes);
    if (!image.commit()) return in.vp.failed();
    init_x87(x);
    return Exec::Next;
}

Exec FRSTOR(Interp& in, const Insn& i) {
    const u32 environment = wide_environment(i) ? 28 : 14;
    u64 address;
    if (!in.memory_address(i, environment + kStackBytes, false, address)) return in.vp.failed();
    StateImage image(in, address, i.seg == Seg::SS);
    if (!image.fetch(0, environment + kStackBytes)) return in.vp.failed();
    set_environment(in, image.data(), wide_environment(i));
    for (unsigned n = 0; n < 8; ++n) {
        std::memset(in.s.x87.st[n], 0, 16);
        std::memcpy(in.s.x87.st[n], image.data() + environment + 10 * n, 10);
    }
    return Exec::Next;
}

Exec FNINIT(Interp& in, const Insn&) {
    init_x87(in.s.x87);
    return Exec::Next;
}

Exec FNCLEX(Interp& in, const Insn&) {
    X87State& x = in.s.x87;
    x.fsw &= 0x7f00;
    x.fop = 0;
    x.fip = x.fdp = 0;
    return Exec::Next;
}

Exec FLDCW(Interp& in, const Insn& i) {
    u16 value;
    if (!in.load_operand(i, &value, sizeof value)) return in.vp.failed();
    set_x87_control(in.s.x87, value, in.s.x87.fsw);
    return Exec::Next;
}

Exec FNSTCW(Interp& in, const Insn& i) { return in.write(i, i[0], in.s.x87.fcw) ? Exec::Next : in.vp.failed(); }
Exec FNSTSW(Interp& in, const Insn& i) { return in.write(i, i[0], in.s.x87.fsw) ? Exec::Next : in.vp.failed(); }
Exec FWAIT(Interp&, const Insn&) { return Exec::Next; }

}  // namespace vg::cpu::ops
