// What stands between devices and memory, as far as the hypervisor needs it. It knows no remapping unit: the machine
// gives it one that is programmed and out of every guest's reach.
#pragma once

#include "base/types.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv {

/// Keeps each device within the memory of the partition that owns it, by the partition's own second-level table.
class DeviceGuard {
  public:
    /// Every device is refused from then on.
    virtual ~DeviceGuard() = default;
    /// The table of a partition has changed within [gpa, gpa+size): what its devices' unit remembers of that is dropped
    /// before this returns. A partition without devices costs nothing.
    virtual void flush(u64 partition_id, Gpa gpa, u64 size) = 0;
    virtual void fields(StateVisitor& v) = 0;
};

}  // namespace vg::hv
