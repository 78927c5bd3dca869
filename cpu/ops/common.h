// What instruction bodies share: dispatch by operand size, read-modify-write, atomic access.
#pragma once

#include <cstring>

#include "cpu/interp.h"
#include "cpu/isa/bodies.h"
#include "cpu/ops/flags.h"

namespace vg::cpu::ops {

/// Calls f with a value of the unsigned type of `size` bytes (1, 2, 4 or 8).
template <class F>
auto by_size(unsigned size, F f) {
    switch (size) {
        case 1: return f(u8{});
        case 2: return f(u16{});
        case 4: return f(u32{});
        default: return f(u64{});
    }
}

template <class T>
T load_host(const u8* p) {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
}
template <class T>
void store_host(u8* p, T value) {
    std::memcpy(p, &value, sizeof value);
}

/// LOCK CMPXCHG on host memory at any alignment (the host locks the bus for a split access, as the guest asked).
/// On failure `expected` gets the value found.
template <class T>
bool compare_exchange_host(u8* p, T& expected, T desired) {
    bool done;
    using Bytes = u8[sizeof(T)];
    asm volatile("lock cmpxchg %[desired], %[memory]"
                 : "+a"(expected), [memory] "+m"(*reinterpret_cast<Bytes*>(p)), "=@ccz"(done)
                 : [desired] "r"(desired)
                 : "memory");
    return done;
}

/// Read-modify-write of memory: `f(T old, u64& flags) -> T`. Nothing changes unless it succeeds; then flags are set.
template <class T, class F>
bool update_memory(Interp& in, u64 address, bool stack, bool atomic, F f) {
    u64 flags = in.s.rflags;
    if (u8* p = in.direct(address, sizeof(T), true, stack)) {
        T old = load_host<T>(p);
        if (atomic) {
            T desired = f(old, flags);
            while (!compare_exchange_host(p, old, desired)) {
                flags = in.s.rflags;
                desired = f(old, flags);
            }
        } else {
            store_host(p, f(old, flags));
        }
    } else {
        T old;
        if (atomic) in.vp.hold_off_others();
        if (in.direct_failed() || !in.probe(address, sizeof(T), stack) || !in.load(address, &old, sizeof(T), stack)) return false;
        const T result = f(old, flags);
        if (!in.store(address, &result, sizeof(T), stack)) return false;
    }
    in.s.rflags = flags;
    return true;
}

/// Read-modify-write of operand 0, a register or memory (atomic with LOCK).
template <class T, class F>
Exec update(Interp& in, const Insn& i, F f) {
    const Operand& d = i[0];
    if (d.kind == OperandKind::Gpr) {
        u64 flags = in.s.rflags;
        in.set_gpr(d, f(static_cast<T>(in.gpr(d)), flags));
        in.s.rflags = flags;
        return Exec::Next;
    }
    u64 address;
    if (!in.memory_address(i, sizeof(T), true, address)) return in.vp.failed();
    return update_memory<T>(in, address, i.seg == Seg::SS, i.lock, f) ? Exec::Next : in.vp.failed();
}

/// Operand `n` as a T; on failure the body returns vp.failed().
template <class T>
bool operand(Interp& in, const Insn& i, unsigned n, T& out) {
    u64 value;
    if (!in.read(i, i[n], value)) return false;
    out = static_cast<T>(value);
    return true;
}

}  // namespace vg::cpu::ops
