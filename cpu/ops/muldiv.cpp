// Multiplication and division.
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

template <class T>
struct Wide;
template <> struct Wide<u8> { using U = u16; using S = s16; };
template <> struct Wide<u16> { using U = u32; using S = s32; };
template <> struct Wide<u32> { using U = u64; using S = s64; };
template <> struct Wide<u64> { using U = u128; using S = s128; };

template <class T>
using WideU = typename Wide<T>::U;
template <class T>
using WideS = typename Wide<T>::S;
template <class T>
using Signed = std::make_signed_t<T>;

/// The double-width register: AX, DX:AX, EDX:EAX, RDX:RAX.
template <class T>
WideU<T> wide_accumulator(const Interp& in) {
    if constexpr (sizeof(T) == 1)
        return static_cast<u16>(in.gpr(RAX, 2));
    else
        return static_cast<WideU<T>>(static_cast<WideU<T>>(in.gpr(RDX, sizeof(T))) << kBits<T> |
                                     static_cast<T>(in.gpr(RAX, sizeof(T))));
}

/// Sets low and high halves: AL and AH, or AX and DX and so on.
template <class T>
void set_halves(Interp& in, T low, T high) {
    if constexpr (sizeof(T) == 1) {
        in.set_gpr(RAX, 2, static_cast<u64>(low) | static_cast<u64>(high) << 8);
    } else {
        in.set_gpr(RAX, sizeof(T), low);
        in.set_gpr(RDX, sizeof(T), high);
    }
}

void set_overflow(Interp& in, bool overflow) {
    in.s.rflags = with_flags(in.s.rflags, flag::CF | flag::OF, when(overflow, flag::CF | flag::OF));
}

template <class T>
WideS<T> signed_product(T a, T b) {
    return static_cast<WideS<T>>(static_cast<WideS<T>>(static_cast<Signed<T>>(a)) *
                                 static_cast<WideS<T>>(static_cast<Signed<T>>(b)));
}

template <class T>
Exec imul_one(Interp& in, const Insn& i) {
    T b;
    if (!operand(in, i, 0, b)) return in.vp.failed();
    const WideS<T> product = signed_product(static_cast<T>(in.gpr(RAX, sizeof(T))), b);
    const T low = static_cast<T>(product);
    set_halves<T>(in, low, static_cast<T>(static_cast<WideU<T>>(product) >> kBits<T>));
    set_overflow(in, product != static_cast<Signed<T>>(low));
    return Exec::Next;
}

void set_division_flags(Interp& in) {
    in.s.rflags = with_flags(in.s.rflags, flag::PF | flag::AF | flag::ZF | flag::SF, flag::AF);
}

}  // namespace

Exec MUL(Interp& in, const Insn& i) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        T b;
        if (!operand(in, i, 0, b)) return in.vp.failed();
        const WideU<T> product = static_cast<WideU<T>>(static_cast<WideU<T>>(in.gpr(RAX, sizeof(T))) * b);
        const T high = static_cast<T>(product >> kBits<T>);
        set_halves<T>(in, static_cast<T>(product), high);
        set_overflow(in, high != 0);
        return Exec::Next;
    });
}

Exec IMUL(Interp& in, const Insn& i) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        if (i.operand_count == 1) return imul_one<T>(in, i);
        const unsigned first = i.operand_count == 3 ? 1 : 0;
        T a, b;
        if (!operand(in, i, first, a) || !operand(in, i, first + 1, b)) return in.vp.failed();
        const WideS<T> product = signed_product(a, b);
        const T low = static_cast<T>(product);
        in.set_gpr(i[0], low);
        set_overflow(in, product != static_cast<Signed<T>>(low));
        return Exec::Next;
    });
}

Exec MULX(Interp& in, const Insn& i) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        T b;
        if (!operand(in, i, 2, b)) return in.vp.failed();
        const WideU<T> product = static_cast<WideU<T>>(static_cast<WideU<T>>(in.gpr(RDX, sizeof(T))) * b);
        in.set_gpr(i[1], static_cast<T>(product));
        in.set_gpr(i[0], static_cast<T>(product >> kBits<T>));  // last: with equal destinations the high half stays
        return Exec::Next;
    });
}

Exec DIV(Interp& in, const Insn& i) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        T divisor;
        if (!operand(in, i, 0, divisor)) return in.vp.failed();
        const WideU<T> dividend = wide_accumulator<T>(in);
        if (divisor == 0 || static_cast<T>(dividend >> kBits<T>) >= divisor) return in.vp.raise(kDivideError);
        set_halves<T>(in, static_cast<T>(dividend / divisor), static_cast<T>(dividend % divisor));
        set_division_flags(in);
        return Exec::Next;
    });
}

Exec IDIV(Interp& in, const Insn& i) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        using S = WideS<T>;
        T raw;
        if (!operand(in, i, 0, raw)) return in.vp.failed();
        const S divisor = static_cast<Signed<T>>(raw);
        const S dividend = static_cast<S>(wide_accumulator<T>(in));
        const S minimum = static_cast<S>(S{1} << (2 * kBits<T> - 2)) * -2;
        if (divisor == 0 || (divisor == -1 && dividend == minimum)) return in.vp.raise(kDivideError);
        const S quotient = static_cast<S>(dividend / divisor);
        if (quotient != static_cast<Signed<T>>(quotient)) return in.vp.raise(kDivideError);
        set_halves<T>(in, static_cast<T>(quotient), static_cast<T>(dividend % divisor));
        set_division_flags(in);
        return Exec::Next;
    });
}

}  // namespace vg::cpu::ops
