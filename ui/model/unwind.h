// Call stacks of a guest's code.
#pragma once

#include <optional>
#include <vector>

#include "ui/model/linear_view.h"
#include "ui/model/linux_kernel.h"

namespace vg::model {

/// Registers that unwinding begins with.
struct UnwindRegisters {
    u64 ip = 0, sp = 0, bp = 0, r10 = 0, r13 = 0, di = 0, dx = 0;
    bool user = false;  ///< at CPL 3
};

struct UnwoundFrame {
    u64 pc = 0, sp = 0;
    /// Kernel: as the kernel's tables say. Guess: an address that lies on the stack and looks like one of a return.
    /// User: what the kernel was entered from, or below it.
    enum class Kind : u8 { Kernel, Guess, User };
    Kind kind = Kind::Kernel;
    bool interrupted = false;  ///< pc is the next instruction, not a return address
};

/// Unwinds from these registers, innermost frame first, at most `limit` frames. A guest's stack can hold anything: the
/// work is bounded by `limit`, and nothing is followed that does not go on.
/// @param kernel  null: no kernel is known, frames follow RBP
[[nodiscard]] std::vector<UnwoundFrame> unwind(const LinearView& view, const LinuxKernel* kernel,
                                               const UnwindRegisters& registers, std::size_t limit);

}  // namespace vg::model
