// Copies of this process that stay where they are: key frames of a run, to go on from again and again.
#pragma once

#include <sys/types.h>

#include "base/result.h"

namespace vg {

/// As fork(2), with the memory that this process shares with itself (two views of translated code, states that several
/// banks show) copied too, so that neither process sees what the other does. Private memory is copied by the host as it
/// is written. Descriptors are shared as after fork(2).
///
/// In the child, descriptors of such memory lead to the copy. The parent goes on only when the child is complete.
/// Returns the child's id in the parent and 0 in the child. Error (Host): the host refuses, or the process has
/// other threads, which a copy would not have.
[[nodiscard]] Result<pid_t> copy_process();

}  // namespace vg
