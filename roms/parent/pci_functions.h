// Which functions there are on the PCI bus.
#pragma once

#include <optional>

#include "base/types.h"

namespace vg::parent {

/// The first function of bus 0 with this class code (base class, sub-class, programming interface), as platform.h's
/// configuration accesses take it.
[[nodiscard]] std::optional<u16> find_pci_function(u32 class_code);

}  // namespace vg::parent
