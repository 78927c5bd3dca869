// Where processors are: partitions and VPs of a machine by the numbers that people use.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "hv/partition.h"
#include "machine/machine.h"
#include "ui/model/symbol_source.h"

namespace vg::model {

/// A VP, found. Valid until the machine runs again.
struct FoundVp {
    cpu::Vp* vp = nullptr;
    hv::Partition* partition = nullptr;  ///< null: the bare PC's
    u64 partition_id = 0;
    [[nodiscard]] SymbolPlace place() const { return {partition_id, vp->index()}; }
};

/// A partition as it is listed. Valid until the machine runs again.
struct FoundPartition {
    u64 id = 0;  ///< 0: the bare PC
    std::string name;
    const char* kind = "pc";             ///< "pc", "root", "child"
    hv::Partition* partition = nullptr;  ///< null: the bare PC's
    std::vector<FoundVp> vps;
};
/// The partitions that have processors or may get some; those that were only created are not among them.
[[nodiscard]] std::vector<FoundPartition> find_partitions(machine::Machine& machine);

/// Error (Usage): there is no such partition or VP, with those that there are.
[[nodiscard]] Result<FoundPartition> find_partition(machine::Machine& machine, u64 id);
[[nodiscard]] Result<FoundVp> find_vp(machine::Machine& machine, SymbolPlace place);
/// Nothing: it is no VP of this machine (any more), or null.
[[nodiscard]] std::optional<SymbolPlace> place_of(machine::Machine& machine, const cpu::Vp* vp);

/// By which the console and input of a partition are named in machine::Machine: "" for the bare PC and the root.
[[nodiscard]] std::string console_name(const FoundPartition& partition);

}  // namespace vg::model
