// Arithmetic and logic with flags.
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

/// dest = f(dest, source, flags); the result is dropped with `Write` false (CMP, TEST).
template <bool Write, class F>
Exec binary(Interp& in, const Insn& i, F f) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        T b;
        if constexpr (Write) {
            if (!operand(in, i, 1, b)) return in.vp.failed();
            return update<T>(in, i, [&](T a, u64& flags) { return f(a, b, flags); });
        } else {
            T a;
            if (!operand(in, i, 0, a) || !operand(in, i, 1, b)) return in.vp.failed();
            f(a, b, in.s.rflags);
            return Exec::Next;
        }
    });
}

template <class F>
Exec unary(Interp& in, const Insn& i, F f) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        return update<T>(in, i, [&](T a, u64& flags) { return f(a, flags); });
    });
}

/// f leaves CF as it was (INC, DEC).
template <class F>
auto keeping_carry(F f) {
    return [f](auto a, u64& flags) {
        const u64 carry = flags & flag::CF;
        const auto r = f(a, flags);
        flags = (flags & ~flag::CF) | carry;
        return r;
    };
}

/// ADCX and ADOX: an add whose carry in and out is one flag; no other changes.
Exec add_with(Interp& in, const Insn& i, u64 carry_flag) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        T b;
        if (!operand(in, i, 1, b)) return in.vp.failed();
        return update<T>(in, i, [&](T a, u64& flags) {
            u64 all = 0;
            const T r = add(a, b, (flags & carry_flag) != 0, all);
            flags = with_flags(flags, carry_flag, when((all & flag::CF) != 0, carry_flag));
            return r;
        });
    });
}

}  // namespace

Exec ADD(Interp& in, const Insn& i) {
    return binary<true>(in, i, []<class T>(T a, T b, u64& f) { return add(a, b, false, f); });
}
Exec ADC(Interp& in, const Insn& i) {
    return binary<true>(in, i, []<class T>(T a, T b, u64& f) { return add(a, b, (f & flag::CF) != 0, f); });
}
Exec SUB(Interp& in, const Insn& i) {
    return binary<true>(in, i, []<class T>(T a, T b, u64& f) { return sub(a, b, false, f); });
}
Exec SBB(Interp& in, const Insn& i) {
    return binary<true>(in, i, []<class T>(T a, T b, u64& f) { return sub(a, b, (f & flag::CF) != 0, f); });
}
Exec CMP(Interp& in, const Insn& i) {
    return binary<false>(in, i, []<class T>(T a, T b, u64& f) { return sub(a, b, false, f); });
}
Exec AND(Interp& in, const Insn& i) {
    return binary<true>(in, i, []<class T>(T a, T b, u64& f) { return logic(static_cast<T>(a & b), f); });
}
Exec OR(Interp& in, const Insn& i) {
    return binary<true>(in, i, []<class T>(T a, T b, u64& f) { return logic(static_cast<T>(a | b), f); });
}
Exec XOR(Interp& in, const Insn& i) {
    return binary<true>(in, i, []<class T>(T a, T b, u64& f) { return logic(static_cast<T>(a ^ b), f); });
}
Exec TEST(Interp& in, const Insn& i) {
    return binary<false>(in, i, []<class T>(T a, T b, u64& f) { return logic(static_cast<T>(a & b), f); });
}

Exec NOT(Interp& in, const Insn& i) {
    return unary(in, i, []<class T>(T a, u64&) { return static_cast<T>(~a); });
}
Exec NEG(Interp& in, const Insn& i) {
    return unary(in, i, []<class T>(T a, u64& f) { return sub(T{0}, a, false, f); });
}
Exec INC(Interp& in, const Insn& i) {
    return unary(in, i, keeping_carry([]<class T>(T a, u64& f) { return add(a, T{1}, false, f); }));
}
Exec DEC(Interp& in, const Insn& i) {
    return unary(in, i, keeping_carry([]<class T>(T a, u64& f) { return sub(a, T{1}, false, f); }));
}

Exec ADCX(Interp& in, const Insn& i) { return add_with(in, i, flag::CF); }
Exec ADOX(Interp& in, const Insn& i) { return add_with(in, i, flag::OF); }

}  // namespace vg::cpu::ops
