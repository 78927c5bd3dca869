// Reproducible random numbers for tests.
#pragma once

#include "base/types.h"

namespace vg::test {

class Random {
  public:
    explicit Random(u64 seed) : state_(seed) { state_ = next() ^ seed << 32; }
    u64 next() {
        state_ += 0x9e3779b97f4a7c15;
        u64 z = state_;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    /// 0 .. bound-1
    u64 below(u64 bound) { return static_cast<u64>(static_cast<u128>(next()) * bound >> 64); }
    bool chance(unsigned percent) { return below(100) < percent; }
    u8 byte() { return static_cast<u8>(next()); }

  private:
    u64 state_;
};

}  // namespace vg::test
