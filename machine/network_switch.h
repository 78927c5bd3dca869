// An Ethernet switch inside the machine: what connects partitions to each other.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/events.h"
#include "devices/net/frame.h"

namespace vg::machine {

/// Learns where addresses are, and floods what it does not know. Frames arrive at a virtual time that depends on what
/// was sent before alone: a run with switches is a run without a host.
class NetworkSwitch {
  public:
    static constexpr VTime kLatency_ns = 2'000;
    /// Frames on their way; further ones are lost.
    static constexpr u64 kQueueBytes = 8 << 20;
    /// Addresses that are remembered; then it starts over.
    static constexpr std::size_t kMaxAddresses = 1024;

    using Deliver = std::function<void(std::span<const u8> frame)>;

    /// @param name  unique in the machine: it names the timer
    NetworkSwitch(std::string name, EventQueue& events);
    ~NetworkSwitch();
    NetworkSwitch(const NetworkSwitch&) = delete;
    NetworkSwitch& operator=(const NetworkSwitch&) = delete;

    /// Returns the port's number. `deliver` takes what leaves the switch there; it may put frames.
    u32 add_port(Deliver deliver);
    /// A frame enters at a port.
    void put(u32 port, std::span<const u8> frame);
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] EventQueue::TimerId timer() const { return timer_; }
    void fields(StateVisitor& v);

  private:
    struct Frame {
        VTime when = 0;
        u32 port = 0;  ///< where it came in
        std::vector<u8> bytes;
    };
    void deliver_due(VTime now);
    void forward(const Frame& frame);

    std::string name_;
    EventQueue& events_;
    EventQueue::TimerId timer_;
    std::vector<Deliver> ports_;
    std::map<devices::MacAddress, u32> addresses_;
    std::deque<Frame> frames_;
    u64 frame_bytes_ = 0;
    u64 forwarded_ = 0, flooded_ = 0, lost_ = 0;
};

}  // namespace vg::machine
