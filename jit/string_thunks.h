// Repeated string instructions as fixed code: page-sized runs of the host's own.
#pragma once

#include <array>

#include "base/types.h"
#include "jit/code_cache.h"

namespace vg::jit {

/// Arena offsets by log2 of the element size. Called with T0 = site, the flags in their slot, 64-bit addresses and no
/// segment base; all else is as in translated code. They return when the repetition is complete; the flags are in the
/// slot. Whatever is not plain (DF set, a page that is not in the TLB, an element that crosses a page, a budget that
/// may not last) goes to the `execute` thunk with the iterations up to there done and charged.
///
/// The host's string instructions are the exact thing: overlapping operands propagate, and an iteration is an iteration.
struct StringThunks {
    using BySize = std::array<u32, 4>;
    BySize movs{}, stos{}, repe_cmps{}, repne_cmps{}, repe_scas{}, repne_scas{};

    /// Size of the code emitted by make_string_thunks.
    static constexpr u32 kSize = 8192;
};

/// Emits them at arena offset `at`. @param execute  the thunk that executes the instruction of a pushed site
StringThunks make_string_thunks(CodeArena& arena, u32 at, u32 execute);

}  // namespace vg::jit
