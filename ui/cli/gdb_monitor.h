// The `monitor` commands of the GDB stub. docs/guide.md, "GDB".
#pragma once

#include <optional>
#include <string>

#include "ui/model/control_link.h"
#include "ui/model/symbol_source.h"

namespace vg::cli {

/// What a command prints, mistakes included; ends with a line end.
/// @param place  the VP that gdb has selected; nothing: where the machine stopped
[[nodiscard]] std::string gdb_monitor(model::ControlLink& link, const std::optional<model::SymbolPlace>& place,
                                      std::string_view command);

}  // namespace vg::cli
