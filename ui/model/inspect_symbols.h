// The parts of inspect that names of guest code are needed for: symbols/, stack/, explain/.
#pragma once

#include <string>

#include "machine/machine.h"
#include "ui/model/symbols.h"

namespace vg::model {

/// "symbols", "stack", "explain", or a path below one of them.
[[nodiscard]] bool is_symbol_path(const std::string& path);
/// As lines `path = value`: "symbols" what is known of each partition; "symbols/NAME" the addresses of a symbol;
/// "symbols/PARTITION/TEXT" symbols whose names contain it; "stack/PARTITION/VP"; "explain/PARTITION/VP" and
/// "explain/PARTITION/VP/WHAT". Partition 0 is the bare PC. Nothing if there is no such thing.
[[nodiscard]] std::string inspect_symbols(machine::Machine& machine, GuestSymbols& symbols, const std::string& path);

/// Where a VP is and how it came there, for the end of a run: a line each, or "" if there is nothing to say.
/// @param frames  at most so many
[[nodiscard]] std::string describe_stack(machine::Machine& machine, GuestSymbols& symbols, SymbolPlace place,
                                         std::size_t frames);

/// Partitions that have VPs, in their order: 0 for a bare PC.
[[nodiscard]] std::vector<u64> partitions_with_code(machine::Machine& machine);

}  // namespace vg::model
