// Where a machine's processors were when its run went wrong.
#pragma once

#include <string>

#include "machine/machine.h"

namespace vg::cli {

/// For a run that ended with this exit code by a fault of a guest's, or because nothing goes on: each processor that
/// matters, where it is and why, and its innermost frames, in lines that go behind the verdict. "" for other codes.
[[nodiscard]] std::string post_mortem(machine::Machine& machine, int exit_code);

}  // namespace vg::cli
