// The machine's AHCI controller as the driver sees it.
#pragma once

#include <memory>

#include "roms/parent/ahci_system.h"

namespace vg::parent {

/// An AHCI controller (class 01:06:01) on bus 0, with an interrupt vector of its own; null: there is none. Everything
/// that the caller hands to the device is in the parent's own memory, where a physical address is the pointer.
[[nodiscard]] std::unique_ptr<AhciSystem> find_ahci();

}  // namespace vg::parent
