// Bit and range helpers for layouts.
#pragma once

#include "base/types.h"

namespace vg {

/// Mask with the `count` lowest bits set; count 0..64.
constexpr u64 low_mask(unsigned count) { return count >= 64 ? ~u64{0} : (u64{1} << count) - 1; }

/// Bits [high:low] of `value`, moved down to bit 0.
constexpr u64 bits(u64 value, unsigned high, unsigned low) { return (value >> low) & low_mask(high - low + 1); }

/// Bit `index` of `value`.
constexpr bool bit(u64 value, unsigned index) { return ((value >> index) & 1) != 0; }

/// `value` with bits [high:low] replaced by `field`.
constexpr u64 with_bits(u64 value, unsigned high, unsigned low, u64 field) {
    const u64 mask = low_mask(high - low + 1) << low;
    return (value & ~mask) | ((field << low) & mask);
}

/// Sign-extends the `width` lowest bits of `value`; width 1..64.
constexpr u64 sign_extend(u64 value, unsigned width) {
    const unsigned shift = 64 - width;
    return static_cast<u64>(static_cast<s64>(value << shift) >> shift);
}

constexpr u64 align_down(u64 value, u64 alignment) { return value & ~(alignment - 1); }
constexpr u64 align_up(u64 value, u64 alignment) { return (value + alignment - 1) & ~(alignment - 1); }

/// True if `offset + size` stays within `limit` without wrapping.
constexpr bool fits(u64 offset, u64 size, u64 limit) { return offset <= limit && size <= limit - offset; }

}  // namespace vg
