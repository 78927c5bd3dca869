// Our decoder against Zydis, one instruction at a time.
#pragma once

#include <span>
#include <string>

#include "cpu/decode.h"

namespace vg::cpu {

struct Difference {
    std::string what;     ///< which property differs; empty if none does
    std::string details;  ///< bytes, both readings
    [[nodiscard]] bool any() const { return !what.empty(); }
};

/// Decodes `bytes` (at least 16) with both and compares everything that both say.
[[nodiscard]] Difference compare_with_zydis(std::span<const u8> bytes, CodeMode mode);

}  // namespace vg::cpu
