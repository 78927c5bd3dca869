// Status flags of integer results.
//
// The rule for what the manuals leave undefined, once for all bodies (and for hand emitters that must agree): the value
// that AMD's Zen processors give, as measured and held by the differential test.
//   AND OR XOR TEST, ANDN, BLSx, BZHI       AF = 0; PF and SF from the result
//   BEXTR                                   AF = 1, SF = 0; PF from the result
//   SHL SHR SAR, SHLD SHRD (count not 0)    AF = 1
//   SHL           any count                 OF = CF xor the result's top bit
//   SHLD          any count                 OF = CF xor the top bit of the destination shifted alone
//   SHR           any count                 OF = xor of the result's two top bits
//   SHRD          any count                 OF = xor of the result's two top bits
//   SAR                                     OF = 0
//   ROL, RCL      any count but 0           OF = CF xor the result's top bit
//   ROR, RCR      any count but 0           OF = xor of the result's two top bits
//   SHLD SHRD r16, count above 16           the source follows itself; CF = 0
//   MUL IMUL MULX                           all but CF and OF unchanged
//   DIV IDIV                                AF = 1; PF, ZF, SF = 0; CF, OF unchanged
//   BT BTS BTR BTC                          all but CF unchanged
//   BSF BSR                                 CF, OF, SF, AF = 0; PF from the result; a zero source leaves the
//                                           destination and sets PF
//   LZCNT TZCNT                             OF unchanged; SF, AF, PF = 0
//   AAM AAD                                 CF, OF, AF = 0
//   AAA AAS                                 OF, SF = 0; ZF and PF from AL
//   DAA DAS                                 OF = 0
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include "base/types.h"
#include "cpu/spec/bits.h"

namespace vg::cpu::ops {

template <class T>
inline constexpr unsigned kBits = sizeof(T) * 8;

template <class T>
constexpr bool top_bit(T value) {
    return ((value >> (kBits<T> - 1)) & 1) != 0;
}
template <class T>
constexpr bool second_bit(T value) {
    return ((value >> (kBits<T> - 2)) & 1) != 0;
}

constexpr u64 when(bool condition, u64 bits) { return condition ? bits : 0; }

/// ZF, SF and PF of a result.
template <class T>
constexpr u64 zsp(T result) {
    return when(result == 0, flag::ZF) | when(top_bit(result), flag::SF) |
           when(__builtin_parity(static_cast<unsigned>(result & 0xff)) == 0, flag::PF);
}

/// `flags` with the status bits in `mask` replaced.
constexpr u64 with_flags(u64 flags, u64 mask, u64 bits) { return (flags & ~mask) | bits; }

template <class T>
constexpr T add(T a, T b, bool carry, u64& flags) {
    const T r = static_cast<T>(a + b + (carry ? 1 : 0));
    const bool cf = carry ? r <= a : r < a;
    const T overflow = static_cast<T>((a ^ r) & (b ^ r));
    flags = with_flags(flags, flag::Status,
                       zsp(r) | when(cf, flag::CF) | (static_cast<u64>(a ^ b ^ r) & flag::AF) |
                           when(top_bit(overflow), flag::OF));
    return r;
}

template <class T>
constexpr T sub(T a, T b, bool borrow, u64& flags) {
    const T r = static_cast<T>(a - b - (borrow ? 1 : 0));
    const bool cf = borrow ? a <= b : a < b;
    const T overflow = static_cast<T>((a ^ b) & (a ^ r));
    flags = with_flags(flags, flag::Status,
                       zsp(r) | when(cf, flag::CF) | (static_cast<u64>(a ^ b ^ r) & flag::AF) |
                           when(top_bit(overflow), flag::OF));
    return r;
}

/// Flags of AND, OR, XOR, TEST.
template <class T>
constexpr T logic(T r, u64& flags) {
    flags = with_flags(flags, flag::Status, zsp(r));
    return r;
}

constexpr u64 shift_flags(u64 flags, u64 zsp_bits, bool cf, bool of) {
    return with_flags(flags, flag::Status, zsp_bits | flag::AF | when(cf, flag::CF) | when(of, flag::OF));
}

/// Shifts by a count that is not 0.
template <class T>
constexpr T shl(T a, unsigned count, u64& flags) {
    const T r = count < kBits<T> ? static_cast<T>(a << count) : T{0};
    const bool cf = count <= kBits<T> && ((a >> (kBits<T> - count)) & 1) != 0;
    flags = shift_flags(flags, zsp(r), cf, cf != top_bit(r));
    return r;
}

template <class T>
constexpr T shr(T a, unsigned count, u64& flags) {
    const T r = count < kBits<T> ? static_cast<T>(a >> count) : T{0};
    const bool cf = count <= kBits<T> && ((a >> (count - 1)) & 1) != 0;
    flags = shift_flags(flags, zsp(r), cf, top_bit(r) != second_bit(r));
    return r;
}

template <class T>
constexpr T sar(T a, unsigned count, u64& flags) {
    using S = std::make_signed_t<T>;
    const unsigned last = std::min(count, kBits<T>) - 1;
    const s64 partly = static_cast<s64>(static_cast<S>(a)) >> last;
    const T r = static_cast<T>(partly >> 1);
    flags = shift_flags(flags, zsp(r), (partly & 1) != 0, false);
    return r;
}

}  // namespace vg::cpu::ops
