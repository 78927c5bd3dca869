// What a VP needs from the machine around it when no level intercepts: ports, and who hears about it.
#pragma once

#include "base/types.h"

namespace vg::cpu {

class Vp;

/// The board as a VP sees it. Called from the VP's thread.
class Platform {
  public:
    virtual ~Platform() = default;
    /// Port input of 1, 2 or 4 bytes. Unclaimed ports read as all-ones.
    virtual u32 port_read(Vp& vp, u16 port, unsigned size) = 0;
    virtual void port_write(Vp& vp, u16 port, unsigned size, u32 value) = 0;
    /// The interrupt acknowledge cycle of an external controller (8259): vector, or -1.
    virtual int acknowledge_external(Vp& vp) = 0;
    /// The VP shut down (triple fault).
    virtual void shutdown(Vp& vp) = 0;
};

}  // namespace vg::cpu
