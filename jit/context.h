// What thunks and the C++ behind them share while translated code runs.
#pragma once

#include "base/types.h"
#include "cpu/interp.h"
#include "jit/layout.h"
#include "jit/mode_key.h"

namespace vg::jit {

class JitEngine;

/// Why translated code came back to the dispatcher.
enum class Leave : u32 {
    None,
    Lookup,  ///< at an instruction boundary: find the block at rip
    Link,    ///< as Lookup, and the jump of `site` may be patched
    Resync,  ///< everything may have changed
    Unwind   ///< the owner of a level asked to unwind (Stop::Leave)
};

/// One per entry into translated code, on the host stack; thunks reach it through RSP. Offsets are checked below.
struct Context {
    JitEngine* engine = nullptr;
    cpu::Vp* vp = nullptr;
    cpu::Interp* interp = nullptr;
    cpu::VpState* state = nullptr;
    void* bank = nullptr;  ///< to continue with
    u64 host_stack = 0;    ///< to continue with: the stack pointer, paired returns below kStackBase
    u64 t0 = 0, t1 = 0;    ///< scratch registers to continue with
    u32 host_mxcsr = 0, guest_unused = 0;
    u32 site = 0;  ///< site through which the code left
    Leave leave = Leave::None;
    ModeKey key{};  ///< of the code that runs, or ran last
};

}  // namespace vg::jit
