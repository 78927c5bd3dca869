// Ports of this partition: where children's messages and signals arrive. K-160..K-163.
#pragma once

#include <array>
#include <map>
#include <span>

#include "base/types.h"
#include "hv/spec/synic.h"
#include "roms/parent/hypercalls.h"
#include "roms/parent/synic.h"

namespace vg::parent {

/// A child's connections, as its provider hears of them.
class PortOwner {
  public:
    virtual ~PortOwner() = default;
    virtual void on_message(u32 type, std::span<const u8> payload) = 0;
    virtual void on_signal(u32 connection_id) = 0;
};

/// Makes ports, and finds who owns the one that something arrived at. Port ids are given out in turn, so that
/// what a port that is gone had queued reaches nobody.
class Ports {
  public:
    /// @param self  this partition's id
    Ports(Synic& synic, u64 self) : synic_(synic), self_(self) {}
    Ports(const Ports&) = delete;
    Ports& operator=(const Ports&) = delete;

    /// A message port, and the child's connection to it.
    HvStatus connect_messages(u64 child, u32 connection_id, PortOwner& owner);
    /// An event port of one flag, and the child's connection to it. InsufficientBuffers: all flags are in use.
    HvStatus connect_event(u64 child, u32 connection_id, PortOwner& owner);
    void disconnect_event(u64 child, u32 connection_id);
    /// Deletes every port of an owner; connections to them go with them.
    void remove(const PortOwner& owner);

    /// False: nobody's.
    bool deliver_message(u64 origin, u32 type, std::span<const u8> payload);
    bool deliver_event(u32 flag);

  private:
    struct Port {
        PortOwner* owner = nullptr;
        u64 child = 0;
        u32 connection_id = 0;
        bool event = false;
        u32 flag = 0;
    };
    HvStatus add(Port port, u32 flag_count);
    void erase(std::map<u32, Port>::iterator it);

    Synic& synic_;
    u64 self_;
    u32 next_id_ = 1;
    std::map<u32, Port> ports_;                               ///< by port id
    std::array<u32, hv::kEventFlagsPerSint> port_of_flag_{};  ///< 0: free
};

}  // namespace vg::parent
