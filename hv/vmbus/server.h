// The VMBus server of one child partition: a state machine with no I/O inside. Rows V-01..V-81.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/types.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv::vmbus {

using Guid = std::array<u8, 16>;  ///< in wire order

/// What the server asks of the world. Implemented by hv/parent (through ports and the child's memory).
class Notifier {
  public:
    virtual ~Notifier() = default;
    /// Sends a channel message (SynIC message type 1) to the SINT and VP of INITIATE_CONTACT, in order.
    virtual void send_message(u32 vp_index, u8 sint, std::span<const u8> message) = 0;
    /// Signals the guest: event flag `flag` (relid) of the SINT on a VP.
    virtual void signal_guest(u32 vp_index, u8 sint, u16 flag) = 0;
    /// Creates or removes the event connection by which the guest signals a channel.
    virtual void connect_event(u32 connection_id) = 0;
    virtual void disconnect_event(u32 connection_id) = 0;
    /// Guest memory: false if some page is not RAM.
    [[nodiscard]] virtual bool read_guest(u64 gpa, void* out, u64 size) = 0;
    [[nodiscard]] virtual bool write_guest(u64 gpa, const void* data, u64 size) = 0;
};

class Channel;

/// A device behind an offer: a protocol core plus its back end. All calls on the machine's thread.
class ChannelDevice {
  public:
    virtual ~ChannelDevice() = default;
    /// The guest opened the channel (or sub-channel): rings are mapped.
    virtual void opened(Channel& channel) = 0;
    /// The guest signalled, or the channel was just opened: read packets until the ring is empty.
    virtual void signalled(Channel& channel) = 0;
    /// Closed, rescinded or unloaded: forget all requests in flight; the rings must not be touched any more.
    virtual void closed(Channel& channel) = 0;
    virtual void fields(StateVisitor& v) = 0;
};

/// What is offered. The relid, the connection id and the monitor fields are the server's.
struct Offer {
    std::string name;      ///< for people: "storage0"
    Guid type{};
    Guid instance{};
    u16 flags = 0;         ///< D-18
    u16 mmio_megabytes = 0;
    std::array<u8, 120> user_data{};
    u16 sub_channel = 0;
};

}  // namespace vg::hv::vmbus
