// A set of small numbers. Internal to mmu/.
#pragma once

#include <array>
#include <bit>

#include "base/types.h"

namespace vg::mmu {

/// Fixed set of small numbers; walking it costs the words plus the members.
template <u32 N>
struct BitSet {
    std::array<u64, (N + 63) / 64> words{};
    [[nodiscard]] bool test(u32 i) const { return ((words[i / 64] >> (i % 64)) & 1) != 0; }
    void set(u32 i, bool value = true) {
        const u64 bit = u64{1} << (i % 64);
        words[i / 64] = value ? words[i / 64] | bit : words[i / 64] & ~bit;
    }
    void clear() { words.fill(0); }
};

/// The same for sets that are mostly empty: walking it costs the words that are not, and a little.
template <u32 N>
class SparseSet {
  public:
    [[nodiscard]] bool test(u32 i) const { return set_.test(i); }
    void add(u32 i) {
        set_.set(i);
        used_.set(i / 64);
    }
    void remove(u32 i) { set_.set(i, false); }
    [[nodiscard]] u64 word(u32 index) const { return set_.words[index]; }
    /// Calls `visit(index, word)` for each word with members, in their order; it may change the word.
    template <class Visit>
    void each_word(Visit visit) {
        for (u32 group = 0; group < used_.words.size(); ++group) {
            for (u64 each = used_.words[group]; each != 0; each &= each - 1) {
                const u32 index = group * 64 + static_cast<u32>(std::countr_zero(each));
                if (set_.words[index] != 0) visit(index, set_.words[index]);
                if (set_.words[index] == 0) used_.set(index, false);
            }
        }
    }

  private:
    static_assert(N % 64 == 0);
    BitSet<N> set_;
    BitSet<N / 64> used_;  ///< words that may have members
};

}  // namespace vg::mmu
