// Decoded instructions, found again by their bytes.
#pragma once

#include <array>
#include <cstring>

#include "cpu/decode.h"

namespace vg::cpu {

/// Decoding is a pure function of bytes and mode, so an entry is right whenever both are equal: whoever looks one up
/// has just fetched the bytes, and nothing ever needs invalidating. The address only chooses the slot.
class DecodeCache {
  public:
    static constexpr unsigned kBits = 13;

    /// The slot for an instruction at this linear address; it may hold any other.
    [[nodiscard]] Insn& slot(u64 address) { return slots_[(address ^ (address >> kBits)) & ((1u << kBits) - 1)]; }

    /// True if `entry` is what decoding `bytes` (16 of them readable, `count` of them fetched) in `mode` gives.
    [[nodiscard]] static bool matches(const Insn& entry, const u8* bytes, u32 count, CodeMode mode) {
        static_assert(offsetof(Insn, pad) == offsetof(Insn, bytes) + kMaxInsnLength);
        const u32 length = entry.length;
        if (length == 0 || length > count || entry.mode != mode) return false;
        u64 a[2], b[2];
        std::memcpy(a, entry.bytes, sizeof a);
        std::memcpy(b, bytes, sizeof b);
        if (length <= 8) return ((a[0] ^ b[0]) << (64 - 8 * length)) == 0;
        return a[0] == b[0] && ((a[1] ^ b[1]) << (128 - 8 * length)) == 0;
    }

  private:
    std::array<Insn, 1u << kBits> slots_{};
};

}  // namespace vg::cpu
