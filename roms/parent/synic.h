// This partition's synthetic interrupt controller: messages and event flags of the first processor. S-01..S-07, R-21.
#pragma once

#include <functional>
#include <span>

#include "base/types.h"

namespace vg::parent {

/// What arrives. Called from drain(), never from an interrupt.
class SynicListener {
  public:
    virtual ~SynicListener() = default;
    /// @param payload  a private copy, at most 240 bytes
    virtual void on_message(u8 sint, u32 type, u64 origin, std::span<const u8> payload) = 0;
    virtual void on_event(u8 sint, u32 flag) = 0;
};

/// SINTs of this system besides the hypervisor's own (hv::kInterceptSint).
inline constexpr u8 kMessageSint = 2, kEventSint = 3;

class Synic {
  public:
    /// Places the pages and opens the SINTs, each with a vector that only wakes the processor.
    Synic();
    Synic(const Synic&) = delete;
    Synic& operator=(const Synic&) = delete;

    /// Hands over what is there. True if there was anything.
    bool drain(SynicListener& listener);
    /// Forgets an event that may have been signalled.
    void clear_event(u8 sint, u32 flag);

  private:
    bool drain_messages(u8 sint, SynicListener& listener);
    bool drain_events(u8 sint, SynicListener& listener);

    u64 message_page_, event_page_;
};

}  // namespace vg::parent
