// What the engine did: the same facts for a run's statistics, for `inspect jit` and for the control protocol.
#pragma once

#include <string>

#include "machine/machine.h"
#include "ui/model/json_text.h"

namespace vg::model {

/// What the engine did, as `--stats` and `inspect jit` have it.
[[nodiscard]] Json engine_statistics(machine::Machine& machine);
/// The same for people. @param instructions  that the machine has executed
[[nodiscard]] std::string engine_summary(const Json& engine, u64 instructions);

}  // namespace vg::model
