// What must hold for every result of the decoder, whatever the bytes: for tests and for the fuzzer.
#pragma once

#include <span>
#include <string_view>

#include "cpu/decode.h"

namespace vg::cpu {

/// Decodes and checks; returns what is wrong, or an empty text.
[[nodiscard]] std::string_view broken_invariant(std::span<const u8> bytes, CodeMode mode);

}  // namespace vg::cpu
