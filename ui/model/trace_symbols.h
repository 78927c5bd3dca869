// Names for a trace, from the memory of the machine that was traced.
#pragma once

#include <set>
#include <utility>
#include <vector>

#include "machine/trace_file.h"
#include "ui/model/symbol_source.h"

namespace vg::model {

/// The functions that code at these places (partition and RIP) belongs to, each once. Places without a symbol have
/// none.
[[nodiscard]] std::vector<machine::TraceSymbol> functions_at(machine::Machine& machine, SymbolSource& symbols,
                                                             const std::set<std::pair<u64, u64>>& places);

}  // namespace vg::model
