// BMI1 and BMI2 (their shifts and multiplications are with the others).
#include "base/bits.h"
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

/// dest = f(source, flags): operands dest, source.
template <class F>
Exec lowest_bit(Interp& in, const Insn& i, F f) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        T a;
        if (!operand(in, i, 1, a)) return in.vp.failed();
        const auto [result, carry] = f(a);
        in.set_gpr(i[0], result);
        in.s.rflags = with_flags(in.s.rflags, flag::Status, zsp(result) | when(carry, flag::CF));
        return Exec::Next;
    });
}

template <class T>
struct WithCarry {
    T result;
    bool carry;
};

/// dest = f(first, second): operands dest, first, second; no flags.
template <class F>
Exec ternary(Interp& in, const Insn& i, F f) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        T a, b;
        if (!operand(in, i, 1, a) || !operand(in, i, 2, b)) return in.vp.failed();
        in.set_gpr(i[0], f(a, b));
        return Exec::Next;
    });
}

}  // namespace

Exec ANDN(Interp& in, const Insn& i) {
    return ternary(in, i, [&]<class T>(T a, T b) { return logic(static_cast<T>(~a & b), in.s.rflags); });
}

Exec BEXTR(Interp& in, const Insn& i) {
    return ternary(in, i, [&]<class T>(T a, T control) {
        const unsigned start = static_cast<u8>(control), length = static_cast<u8>(control >> 8);
        const T r = start >= kBits<T> ? T{0} : static_cast<T>((a >> start) & low_mask(length));
        in.s.rflags = with_flags(in.s.rflags, flag::Status, (zsp(r) & (flag::ZF | flag::PF)) | flag::AF);
        return r;
    });
}

Exec BZHI(Interp& in, const Insn& i) {
    return ternary(in, i, [&]<class T>(T a, T control) {
        const unsigned index = static_cast<u8>(control);
        const T r = static_cast<T>(a & low_mask(index));
        in.s.rflags = with_flags(in.s.rflags, flag::Status, zsp(r) | when(index >= kBits<T>, flag::CF));
        return r;
    });
}

Exec BLSI(Interp& in, const Insn& i) {
    return lowest_bit(in, i, []<class T>(T a) { return WithCarry<T>{static_cast<T>(a & -a), a != 0}; });
}
Exec BLSR(Interp& in, const Insn& i) {
    return lowest_bit(in, i, []<class T>(T a) { return WithCarry<T>{static_cast<T>(a & (a - 1)), a == 0}; });
}
Exec BLSMSK(Interp& in, const Insn& i) {
    return lowest_bit(in, i, []<class T>(T a) { return WithCarry<T>{static_cast<T>(a ^ (a - 1)), a == 0}; });
}

Exec PDEP(Interp& in, const Insn& i) {
    return ternary(in, i, []<class T>(T a, T mask) {
        T r = 0;
        for (; mask != 0; mask = static_cast<T>(mask & (mask - 1)), a = static_cast<T>(a >> 1))
            if ((a & 1) != 0) r = static_cast<T>(r | (mask & -mask));
        return r;
    });
}

Exec PEXT(Interp& in, const Insn& i) {
    return ternary(in, i, []<class T>(T a, T mask) {
        T r = 0;
        for (unsigned n = 0; mask != 0; mask = static_cast<T>(mask & (mask - 1)), ++n)
            if ((a & mask & -mask) != 0) r = static_cast<T>(r | T{1} << n);
        return r;
    });
}

}  // namespace vg::cpu::ops
