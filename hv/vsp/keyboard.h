// Protocol core of the synthetic keyboard. Rows D-04, D-80..D-82. No I/O, no heap.
#pragma once

#include <array>

#include "hv/spec/input_devices.h"
#include "hv/vsp/message_core.h"

namespace vg::hv::vsp {

/// One key going down or up.
struct Keystroke {
    u8 code = 0;   ///< make code of scan code set 1, below 0x80
    u8 flags = 0;  ///< keyboard::kBreak, kE0, kE1
};

class Keyboard final : public MessageCore {
  public:
    enum class State : u8 { Closed, AwaitVersion, Ready };
    static constexpr u32 kMaxQueued = 4096;  ///< keystrokes for a guest that does not read

    void opened() override;
    void closed() override;
    void receive(std::span<const u8> message, u64 transaction_id) override;
    [[nodiscard]] Outgoing next(std::span<u8> out) override;
    void sent() override;
    void fields(StateVisitor& v) override;

    /// How many keystrokes press() takes: none without a driver in the guest.
    [[nodiscard]] u32 room() const { return state_ == State::Ready ? kMaxQueued - queued_ : 0; }
    /// False: no room, or a code that no key has.
    bool press(Keystroke key);

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] u32 leds() const { return leds_; }
    [[nodiscard]] u64 invalid() const { return invalid_; }

  private:
    State state_ = State::Closed;
    bool reply_due_ = false, accepted_ = false;
    u64 reply_to_ = 0;
    u32 leds_ = 0;
    u64 pressed_ = 0, invalid_ = 0;
    std::array<Keystroke, kMaxQueued> queue_{};
    u32 first_ = 0, queued_ = 0;
};

}  // namespace vg::hv::vsp
