// `verdigris inspect SOCKET partitions`, `iommu` and `walk/PARTITION/GPA`: ui/model's snapshots as lines of the tree.
#pragma once

#include <string>

#include "base/state.h"
#include "machine/machine.h"

namespace vg::model {

/// Adds partitions/ and iommu/ to a printed tree, where there is something to say.
void show_hypervisor(machine::Machine& machine, StateVisitor& v);

/// Whether an inspect path asks for a second-level walk: "walk/...".
[[nodiscard]] bool is_walk_path(const std::string& path);
/// walk/PARTITION/GPA (decimal, hexadecimal with 0x): every level's entry and what is behind it, as `path = value`
/// lines. Empty if there is no such partition or GPA.
[[nodiscard]] std::string inspect_walk(machine::Machine& machine, const std::string& path);

}  // namespace vg::model
