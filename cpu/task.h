// Hardware task switching of legacy modes. SDM 3A "Task Management".
#pragma once

#include "cpu/segments.h"

namespace vg::cpu {

enum class TaskSwitch : u8 { Jump, Call, Interrupt, Return };

/// Switches to the task of `selector` (a TSS selector in the GDT; for a return, the back link).
/// The TSS descriptor's type, presence and privilege through gate or selector are checked here as for each reason.
/// Faults before the commit point leave the old task untouched; later ones belong to the new task (rip is the new
/// task's). @param next_rip  saved as EIP of the old task
/// @param flags  saved as its EFLAGS (a return saves NT clear)
/// @return Resync, Fault or Leave
Exec switch_task(Vp& vp, u16 selector, TaskSwitch reason, u64 next_rip, u64 flags);

/// Pushes an exception's error code on the new task's stack.
[[nodiscard]] bool push_task_error(Vp& vp, u32 error_code);

}  // namespace vg::cpu
