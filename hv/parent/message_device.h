// A small provider of the built-in parent: its core between a VMBus channel and the event queue.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/events.h"
#include "hv/vmbus/channel.h"
#include "hv/vsp/message_core.h"

namespace vg::hv::parent {

/// Moves in-band messages between a core and its channel. All calls on the machine's thread.
class MessageDevice final : public vmbus::ChannelDevice {
  public:
    /// @param name  unique in the machine: it names the timer
    /// @param core  outlives this
    MessageDevice(const std::string& name, EventQueue& events, vsp::MessageCore& core);
    ~MessageDevice() override;
    MessageDevice(const MessageDevice&) = delete;
    MessageDevice& operator=(const MessageDevice&) = delete;

    /// The core may have something to say: the host has told it something.
    void poke();

    void opened(vmbus::Channel& channel) override;
    void signalled(vmbus::Channel& channel) override;
    void closed(vmbus::Channel& channel) override;
    void restored(vmbus::Channel& channel) override { channel_ = &channel; }
    void fields(StateVisitor& v) override;

  private:
    void pump();
    [[nodiscard]] bool send();
    void arm();
    void tick();

    EventQueue& events_;
    vsp::MessageCore& core_;
    vmbus::Channel* channel_ = nullptr;
    std::optional<u64> completion_;  ///< of a packet that asked for one and found no room for it
    EventQueue::TimerId timer_;
    std::array<u8, vsp::MessageCore::kMaxMessage> buffer_{};
};

}  // namespace vg::hv::parent
