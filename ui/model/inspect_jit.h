// `verdigris inspect SOCKET jit`: the translator's counters, the hottest blocks, guest and host code side by side.
#pragma once

#include <string>

#include "jit/survey.h"
#include "machine/machine.h"

namespace vg::model {

/// Whether an inspect path is about the translator: "jit" or "jit/...".
[[nodiscard]] bool is_jit_path(const std::string& path);

/// jit: counters and the hottest blocks; jit/top/N: the N hottest with their code; jit/ADDRESS: every block that begins at
/// that guest address (hexadecimal). Empty if there is no such part. @param survey  nullptr: blocks are not counted
[[nodiscard]] std::string inspect_jit(machine::Machine& machine, const jit::Survey* survey, const std::string& path, bool json);

}  // namespace vg::model
