// Shifts and rotates.
#include "base/bits.h"
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

/// dest = f(dest, count, flags) with the count masked to 5 or 6 bits; nothing changes if that is 0 (but the memory
/// operand is still accessed for writing).
template <class F>
Exec shift(Interp& in, const Insn& i, F f) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        u8 raw;
        if (!operand(in, i, 1, raw)) return in.vp.failed();
        const unsigned count = raw & (sizeof(T) == 8 ? 63u : 31u);
        if (count == 0 && i[0].kind == OperandKind::Gpr && sizeof(T) != 4) return Exec::Next;
        return update<T>(in, i, [&](T a, u64& flags) { return count == 0 ? a : f(a, count, flags); });
    });
}

u64 rotate_flags(u64 flags, bool cf, bool of) {
    return with_flags(flags, flag::CF | flag::OF, when(cf, flag::CF) | when(of, flag::OF));
}

template <class T>
T rol(T a, unsigned count, u64& flags) {
    const unsigned c = count & (kBits<T> - 1);
    const T r = c == 0 ? a : static_cast<T>((a << c) | (a >> (kBits<T> - c)));
    const bool cf = (r & 1) != 0;
    flags = rotate_flags(flags, cf, cf != top_bit(r));
    return r;
}

template <class T>
T ror(T a, unsigned count, u64& flags) {
    const unsigned c = count & (kBits<T> - 1);
    const T r = c == 0 ? a : static_cast<T>((a >> c) | (a << (kBits<T> - c)));
    flags = rotate_flags(flags, top_bit(r), top_bit(r) != second_bit(r));
    return r;
}

/// Rotates the (kBits+1)-bit value CF:a left by `count`, less than kBits+1.
template <class T>
T rotate_through_carry(T a, unsigned count, bool& carry) {
    constexpr unsigned n = kBits<T> + 1;
    if (count == 0) return a;
    const u128 value = static_cast<u128>(a) | static_cast<u128>(carry ? 1 : 0) << kBits<T>;
    const u128 rotated = (value << count) | (value >> (n - count));
    carry = ((rotated >> kBits<T>) & 1) != 0;
    return static_cast<T>(rotated);
}

template <class T>
T rcl(T a, unsigned count, u64& flags) {
    bool cf = (flags & flag::CF) != 0;
    const T r = rotate_through_carry(a, count % (kBits<T> + 1), cf);
    flags = rotate_flags(flags, cf, cf != top_bit(r));
    return r;
}

template <class T>
T rcr(T a, unsigned count, u64& flags) {
    constexpr unsigned n = kBits<T> + 1;
    bool cf = (flags & flag::CF) != 0;
    const T r = rotate_through_carry(a, (n - count % n) % n, cf);
    flags = rotate_flags(flags, cf, top_bit(r) != second_bit(r));
    return r;
}

/// SHLD and SHRD: f(dest, source, count, flags); operands dest, source, count.
template <class F>
Exec double_shift(Interp& in, const Insn& i, F f) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        T b;
        u8 raw;
        if (!operand(in, i, 1, b) || !operand(in, i, 2, raw)) return in.vp.failed();
        const unsigned count = raw & (sizeof(T) == 8 ? 63u : 31u);
        return update<T>(in, i, [&](T a, u64& flags) { return count == 0 ? a : f(a, b, count, flags); });
    });
}

// Only 16-bit operands can be shifted by more than their size: the source then follows itself, and CF and OF are those of
// the destination shifted alone.

/// `value` moved up (down) by any count of bits.
template <class T>
constexpr u128 up(T value, unsigned count) { return static_cast<u128>(value) << count; }

template <class T>
T shld(T a, T b, unsigned count, u64& flags) {
    u128 filled = up(b, count) >> kBits<T>;
    if constexpr (sizeof(T) == 2) filled |= filled >> kBits<T>;
    const u128 alone = up(a, count);
    const T r = static_cast<T>(alone | filled);
    const bool cf = ((alone >> kBits<T>) & 1) != 0;
    flags = shift_flags(flags, zsp(r), cf, cf != top_bit(static_cast<T>(alone)));
    return r;
}

template <class T>
T shrd(T a, T b, unsigned count, u64& flags) {
    u128 value = up(b, kBits<T>) | a;
    if constexpr (sizeof(T) == 2) value |= up(b, 32);
    const T r = static_cast<T>(value >> count);
    const bool cf = ((static_cast<u128>(a) >> (count - 1)) & 1) != 0;
    flags = shift_flags(flags, zsp(r), cf, top_bit(r) != second_bit(r));
    return r;
}

/// SHLX, SHRX, SARX: dest = f(source, count), no flags.
template <class F>
Exec flagless_shift(Interp& in, const Insn& i, F f) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        T a, raw;
        if (!operand(in, i, 1, a) || !operand(in, i, 2, raw)) return in.vp.failed();
        in.set_gpr(i[0], f(a, static_cast<unsigned>(raw & (kBits<T> - 1))));
        return Exec::Next;
    });
}

}  // namespace

Exec SHL(Interp& in, const Insn& i) {
    return shift(in, i, []<class T>(T a, unsigned n, u64& f) { return shl(a, n, f); });
}
Exec SHR(Interp& in, const Insn& i) {
    return shift(in, i, []<class T>(T a, unsigned n, u64& f) { return shr(a, n, f); });
}
Exec SAR(Interp& in, const Insn& i) {
    return shift(in, i, []<class T>(T a, unsigned n, u64& f) { return sar(a, n, f); });
}
Exec ROL(Interp& in, const Insn& i) {
    return shift(in, i, []<class T>(T a, unsigned n, u64& f) { return rol(a, n, f); });
}
Exec ROR(Interp& in, const Insn& i) {
    return shift(in, i, []<class T>(T a, unsigned n, u64& f) { return ror(a, n, f); });
}
Exec RCL(Interp& in, const Insn& i) {
    return shift(in, i, []<class T>(T a, unsigned n, u64& f) { return rcl(a, n, f); });
}
Exec RCR(Interp& in, const Insn& i) {
    return shift(in, i, []<class T>(T a, unsigned n, u64& f) { return rcr(a, n, f); });
}
Exec SHLD(Interp& in, const Insn& i) {
    return double_shift(in, i, []<class T>(T a, T b, unsigned n, u64& f) { return shld(a, b, n, f); });
}
Exec SHRD(Interp& in, const Insn& i) {
    return double_shift(in, i, []<class T>(T a, T b, unsigned n, u64& f) { return shrd(a, b, n, f); });
}
Exec SHLX(Interp& in, const Insn& i) {
    return flagless_shift(in, i, []<class T>(T a, unsigned n) { return static_cast<T>(a << n); });
}
Exec SHRX(Interp& in, const Insn& i) {
    return flagless_shift(in, i, []<class T>(T a, unsigned n) { return static_cast<T>(a >> n); });
}
Exec SARX(Interp& in, const Insn& i) {
    return flagless_shift(in, i, []<class T>(T a, unsigned n) {
        return static_cast<T>(static_cast<std::make_signed_t<T>>(a) >> n);
    });
}
Exec RORX(Interp& in, const Insn& i) {
    return flagless_shift(in, i, []<class T>(T a, unsigned n) {
        u64 ignored = 0;
        return ror(a, n, ignored);
    });
}

}  // namespace vg::cpu::ops
