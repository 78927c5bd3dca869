// What the small providers have in common: their packets are in-band messages, both ways. No I/O, no heap.
#pragma once

#include <cstring>
#include <span>

#include "base/types.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv::vsp {

/// Integration components, keyboard, mouse, video, dynamic memory. Whoever owns one moves messages between it and a
/// channel: first everything that next() has, then one message of the guest, and so on. So a guest that does not read
/// is not read from either, and nothing is ever queued for it but what next() is about to say.
class MessageCore {
  public:
    /// Of one message, either way.
    static constexpr u32 kMaxMessage = 8192;
    struct Outgoing {
        u32 size = 0;  ///< 0: there is nothing to say
        u64 transaction_id = 0;
    };

    virtual ~MessageCore() = default;
    /// The guest opened the channel: it starts afresh.
    virtual void opened() = 0;
    /// It is closed.
    virtual void closed() = 0;
    /// A message of the guest, in private memory; longer ones than kMaxMessage are cut.
    virtual void receive(std::span<const u8> message, u64 transaction_id) = 0;
    /// Puts the next message for the guest into `out` (kMaxMessage bytes). The same until sent().
    [[nodiscard]] virtual Outgoing next(std::span<u8> out) = 0;
    /// What next() said last is in the ring.
    virtual void sent() = 0;
    /// When tick() wants to be called, from now on; 0: never.
    [[nodiscard]] virtual u64 tick_after_ns() const { return 0; }
    virtual void tick() {}
    virtual void fields(StateVisitor& v) = 0;
};

/// The beginning of a message as a struct; what is missing is zero. `whole` says whether anything was.
template <class Message>
[[nodiscard]] Message read_message(std::span<const u8> bytes, bool& whole) {
    Message message{};
    whole = bytes.size() >= sizeof message;
    const std::size_t size = whole ? sizeof message : bytes.size();
    if (size != 0) std::memcpy(&message, bytes.data(), size);
    return message;
}

/// Writes a struct at `at`; it has to fit.
template <class Message>
void put_message(std::span<u8> out, const Message& message, std::size_t at = 0) {
    std::memcpy(out.subspan(at, sizeof message).data(), &message, sizeof message);
}

}  // namespace vg::hv::vsp
