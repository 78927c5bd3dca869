// The Toeplitz hash by which receive-side scaling spreads flows over queues.
#pragma once

#include <span>

#include "base/types.h"

namespace vg::hv::vsp {

/// For every bit of `input` that is set, the 32 bits of the key that begin there. The key has at least
/// input.size() + 4 bytes.
constexpr u32 toeplitz(std::span<const u8> key, std::span<const u8> input) {
    u32 window = u32{key[0]} << 24 | u32{key[1]} << 16 | u32{key[2]} << 8 | key[3];
    u32 hash = 0;
    for (std::size_t i = 0; i < input.size(); ++i) {
        for (unsigned bit = 8; bit-- != 0;) {
            if ((input[i] >> bit & 1) != 0) hash ^= window;
            window = window << 1 | (key[i + 4] >> bit & 1u);
        }
    }
    return hash;
}

}  // namespace vg::hv::vsp
