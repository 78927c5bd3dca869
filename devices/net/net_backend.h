// What a network card is connected to on the host.
#pragma once

#include <memory>

#include "devices/net/frame.h"

namespace vg::devices {

/// Frames of the guest come in by put(), inside the machine's events: they are only queued there. The host is looked at
/// in exchange(), between slices of the machine: the one moment when frames may come back.
class NetBackend : public FrameSink {
  public:
    /// Hands queued frames to the host, then what the host has to the card; at most about `room` bytes of it.
    /// @param wait_ms  how long to wait for the host if there is nothing, 0: not at all. Ends early on a signal
    virtual void exchange(int wait_ms, u64 room, FrameSink& card) = 0;
    /// Frames of the guest wait for exchange().
    [[nodiscard]] virtual bool has_queued() const = 0;
};

}  // namespace vg::devices
