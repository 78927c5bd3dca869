// Instruction bytes for comparing decoders: every opcode of every map, with prefixes and random tails.
#pragma once

#include <array>

#include "cpu/decode.h"

namespace vg::cpu {

/// Small deterministic generator (splitmix64).
class Random {
  public:
    explicit Random(u64 seed) : state_(seed) {}
    u64 next() {
        u64 z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    u32 below(u32 bound) { return static_cast<u32>((next() >> 32) * bound >> 32); }
    bool one_in(u32 n) { return below(n) == 0; }

  private:
    u64 state_;
};

struct Sample {
    CodeMode mode = CodeMode::Bits64;
    std::array<u8, 24> bytes{};
};

inline constexpr u32 kGeneratedMaps = 10;  ///< four legacy maps, C5, C4 with its three maps, any C4, any bytes

/// Random instruction whose opcode byte is `opcode` in `map` (below kGeneratedMaps): up to four legacy prefixes,
/// mandatory ones preferred, maybe REX, and random bytes behind.
[[nodiscard]] Sample generate(Random& random, CodeMode mode, u32 map, u8 opcode);

/// Random instruction that meets the conditions of row `index` of the instruction table, with no prefix beyond those it
/// needs. An earlier row may claim it all the same: check Insn::row.
[[nodiscard]] Sample generate_row(Random& random, u16 index);

}  // namespace vg::cpu
