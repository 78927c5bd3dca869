// The fixed code at the start of the arena: entry, exit, and the ways from a block into C++ and back.
#pragma once

#include "base/types.h"
#include "jit/block.h"
#include "jit/code_cache.h"
#include "jit/context.h"
#include "jit/string_thunks.h"

namespace vg::jit {

/// Arena offsets, except for `enter`.
struct Thunks {
    /// Runs translated code at `code` with the bank at `bank` until it leaves; Context says why.
    using Enter = void (*)(Context& context, const void* code, void* bank);
    Enter enter = nullptr;
    u32 leave = 0;      ///< pushed: site. Registers are live: spill and return to the dispatcher
    /// Called; below the return address: MissWord. T0 = address ^ tag, T1 = table index. Returns with the entry's addend in
    /// T1, or goes on where slow_access says.
    u32 miss_read = 0;
    u32 miss_write = 0;
    u32 miss_jump = 0;     ///< pushed: site. T0 = target that the jump cache does not know; tries again or executes
    u32 miss_edge = 0;     ///< the same for a direct jump to another page, by the site's entry in the edge table
    u32 settle = 0;        ///< called: puts the flags that kPending describes in the slot
    u32 execute = 0;       ///< pushed: site. Executes that instruction in the interpreter, goes on behind it
    u32 promote = 0;       ///< pushed: site. The block has run often: goes on in its next translation
    u32 memo_misses = 0;   ///< pushed: site. A memo has missed often: goes on at its check
    u32 trace_full = 0;    ///< pushed: site. There is no room for another record (block_trace.h); goes on at its check
    u32 helper = 0;        ///< called, T0 = site: the same inline; returns if execution goes on there
    u32 load_vectors = 0;  ///< called, rest as it is: guest vector registers and MXCSR into the host's
    u32 load_x87 = 0;      ///< the same for x87 and MMX
    StringThunks strings;

    /// Size of the code emitted by make_thunks: its own, and what other files make for it.
    static constexpr u32 kOwnSize = 8192, kSize = kOwnSize + StringThunks::kSize;
};

/// Host stack that paired returns may take, in bytes.
inline constexpr u32 kPairBytes = 64 << 10;
/// Guest return address of the pair below all others: non-canonical, so no return ends there; if it did, the host
/// would return to a thunk that leaves.
inline constexpr u64 kNoReturn = 0x5b1e'0dd1'7ab1'e000;

/// C++ behind the thunks. Called with all guest registers and the budget in the state page, the host's MXCSR loaded.
/// They return the host address to continue at, with Context's bank and scratch registers; helper_execute may also
/// return kContinueHere. 0 leaves to the dispatcher. Either way the state page is the truth.
inline constexpr u64 kContinueHere = 1;
extern "C" u64 vg_jit_slow_access(Context* context, u32 site, u64 address);
extern "C" u64 vg_jit_slow_jump(Context* context, u32 site, u64 target);
extern "C" u64 vg_jit_slow_edge(Context* context, u32 site, u64 target);
extern "C" void vg_jit_settle(Context* context);  ///< returns to the code it came from
extern "C" u64 vg_jit_promote(Context* context, u32 site);
extern "C" u64 vg_jit_memo_misses(Context* context, u32 site);
extern "C" u64 vg_jit_trace_full(Context* context, u32 site);
extern "C" u64 vg_jit_slow_execute(Context* context, u32 site);
extern "C" u64 vg_jit_helper_execute(Context* context, u32 site);

/// Emits the thunks at the start of the arena.
Thunks make_thunks(CodeArena& arena);

}  // namespace vg::jit
