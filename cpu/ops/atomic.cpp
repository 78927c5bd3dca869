// XCHG, XADD, CMPXCHG and the wide compare-exchanges.
#include "cpu/ops/common.h"

namespace vg::cpu::ops {

namespace {

/// The memory operand and its access: atomic for XCHG always, else with LOCK.
template <class T, class F>
bool update_operand(Interp& in, const Insn& i, bool atomic, F f) {
    u64 address;
    return in.memory_address(i, sizeof(T), true, address) &&
           update_memory<T>(in, address, i.seg == Seg::SS, atomic, f);
}

/// 16 bytes as the processor compares them.
struct Pair {
    u64 low, high;
    bool operator==(const Pair&) const = default;
};

bool compare_exchange_host(u8* p, Pair& expected, const Pair& desired) {
    bool done;
    using Bytes = u8[16];
    asm volatile("lock cmpxchg16b %[memory]"
                 : "+a"(expected.low), "+d"(expected.high), [memory] "+m"(*reinterpret_cast<Bytes*>(p)), "=@ccz"(done)
                 : "b"(desired.low), "c"(desired.high)
                 : "memory");
    return done;
}

void set_zf(Interp& in, bool zf) { in.s.rflags = with_flags(in.s.rflags, flag::ZF, when(zf, flag::ZF)); }

}  // namespace

/// One operand at least is a register. LOCK is implied with memory.
Exec XCHG(Interp& in, const Insn& i) {
    const unsigned memory = i[1].kind == OperandKind::Mem ? 1 : 0;
    const Operand& reg = i[1 - memory];
    const u64 mine = in.gpr(reg);
    if (i[memory].kind == OperandKind::Gpr) {
        const u64 other = in.gpr(i[memory]);
        in.set_gpr(i[memory], mine);
        in.set_gpr(reg, other);
        return Exec::Next;
    }
    return by_size(reg.size, [&](auto type) {
        using T = decltype(type);
        T found = 0;
        const bool ok = update_operand<T>(in, i, true, [&](T old, u64&) {
            found = old;
            return static_cast<T>(mine);
        });
        if (!ok) return in.vp.failed();
        in.set_gpr(reg, found);
        return Exec::Next;
    });
}

Exec XADD(Interp& in, const Insn& i) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        const T b = static_cast<T>(in.gpr(i[1]));
        if (i[0].kind == OperandKind::Gpr) {
            const T a = static_cast<T>(in.gpr(i[0]));
            const T sum = add(a, b, false, in.s.rflags);
            in.set_gpr(i[1], a);
            in.set_gpr(i[0], sum);  // last: with the same register twice the sum stays
            return Exec::Next;
        }
        T found = 0;
        const bool ok = update_operand<T>(in, i, i.lock, [&](T old, u64& flags) {
            found = old;
            return add(old, b, false, flags);
        });
        if (!ok) return in.vp.failed();
        in.set_gpr(i[1], found);
        return Exec::Next;
    });
}

/// The destination is written in the failure case too, with what was read.
Exec CMPXCHG(Interp& in, const Insn& i) {
    return by_size(i[0].size, [&](auto type) {
        using T = decltype(type);
        const T expected = static_cast<T>(in.gpr(RAX, sizeof(T))), desired = static_cast<T>(in.gpr(i[1]));
        if (i[0].kind == OperandKind::Gpr) {
            const T found = static_cast<T>(in.gpr(i[0]));
            sub(expected, found, false, in.s.rflags);
            if (found == expected)
                in.set_gpr(i[0], desired);
            else
                in.set_gpr(RAX, sizeof(T), found);
            return Exec::Next;
        }
        T found = 0;
        const bool ok = update_operand<T>(in, i, i.lock, [&](T old, u64& flags) {
            found = old;
            sub(expected, old, false, flags);
            return old == expected ? desired : old;
        });
        if (!ok) return in.vp.failed();
        if (found != expected) in.set_gpr(RAX, sizeof(T), found);
        return Exec::Next;
    });
}

Exec CMPXCHG8B(Interp& in, const Insn& i) {
    const auto joined = [&](Gpr high, Gpr low) { return in.gpr(high, 4) << 32 | in.gpr(low, 4); };
    const u64 expected = joined(RDX, RAX), desired = joined(RCX, RBX);
    u64 found = 0;
    const bool ok = update_operand<u64>(in, i, i.lock, [&](u64 old, u64&) {
        found = old;
        return old == expected ? desired : old;
    });
    if (!ok) return in.vp.failed();
    if (found != expected) {
        in.set_gpr(RAX, 4, found);
        in.set_gpr(RDX, 4, found >> 32);
    }
    set_zf(in, found == expected);
    return Exec::Next;
}

Exec CMPXCHG16B(Interp& in, const Insn& i) {
    const Pair expected{in.s.gpr[RAX], in.s.gpr[RDX]}, desired{in.s.gpr[RBX], in.s.gpr[RCX]};
    const bool stack = i.seg == Seg::SS;
    u64 address;
    if (!in.memory_address(i, sizeof(Pair), true, address)) return in.vp.failed();
    if ((address & 15) != 0) return in.vp.raise(kGeneralProtection, 0);
    Pair found = expected;
    if (u8* p = in.direct(address, sizeof(Pair), true, stack)) {
        compare_exchange_host(p, found, desired);
    } else {
        in.vp.hold_off_others();
        if (in.direct_failed() || !in.probe(address, sizeof(Pair), stack) || !in.load(address, &found, sizeof found, stack))
            return in.vp.failed();
        const Pair& result = found == expected ? desired : found;
        if (!in.store(address, &result, sizeof result, stack)) return in.vp.failed();
    }
    if (found != expected) {
        in.s.gpr[RAX] = found.low;
        in.s.gpr[RDX] = found.high;
    }
    set_zf(in, found == expected);
    return Exec::Next;
}

}  // namespace vg::cpu::ops
