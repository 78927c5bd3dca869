// A set of small numbers. Internal to mmu/.
#pragma once

#include <array>

#include "base/types.h"

namespace vg::mmu {

/// Fixed set of small numbers; walking it costs the words plus the members.
template <u32 N>
struct BitSet {
    std::array<u64, N / 64> words{};
    [[nodiscard]] bool test(u32 i) const { return ((words[i / 64] >> (i % 64)) & 1) != 0; }
    void set(u32 i, bool value = true) {
        const u64 bit = u64{1} << (i % 64);
        words[i / 64] = value ? words[i / 64] | bit : words[i / 64] & ~bit;
    }
    void clear() { words.fill(0); }
};

}  // namespace vg::mmu
