// What every chip offers to the board: a name, reset, and its fields.
#pragma once

#include <string_view>

#include "base/state.h"
#include "devices/core/io.h"
#include "mmu/physical_memory.h"

namespace vg::devices {

class PciFunction;

class Device {
  public:
    virtual ~Device() = default;
    [[nodiscard]] virtual std::string_view name() const = 0;
    /// Back to power-on state: assignment of a fresh state struct.
    virtual void reset() = 0;
    /// Lists the fields once: save, restore, inspect, diff and hash derive from it.
    virtual void fields(StateVisitor& v) = 0;
    virtual PortIo* port_io() { return nullptr; }
    virtual mmu::MmioHandler* mmio() { return nullptr; }
    virtual PciFunction* pci() { return nullptr; }
};

}  // namespace vg::devices
