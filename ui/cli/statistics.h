// What a run did: for the summary on the terminal and for `--stats`.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "machine/machine.h"
#include "ui/cli/commands.h"

namespace vg::cli {

/// A moment of the boot worth timing: console text that marks it.
struct BootMark {
    std::string name;
    double guest_seconds = 0, wall_seconds = 0;
};

/// One JSON object with everything `--stats` promises. Flushes nothing, changes nothing.
[[nodiscard]] nlohmann::ordered_json collect_statistics(machine::Machine& machine, const Verdict& verdict, double wall_seconds,
                                                        const std::vector<BootMark>& marks);

/// The same for people, a few lines per partition.
[[nodiscard]] std::string summary_text(const nlohmann::ordered_json& statistics);

}  // namespace vg::cli
