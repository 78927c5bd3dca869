// Keyboard and mouse at the two ports of an 8042 (IBM PS/2 Technical Reference "Keyboards (101- and 102-Key)",
// "Auxiliary Device"; Microsoft "PS/2 Mouse: IntelliMouse").
#pragma once

#include <array>
#include <functional>
#include <string_view>

#include "base/state.h"
#include "base/types.h"

namespace vg::devices {

/// A device that takes bytes and has bytes to send, at most kCapacity of them.
class Ps2Device {
  public:
    static constexpr u32 kCapacity = 32;

    virtual ~Ps2Device() = default;
    /// A byte from the host. The answer is queued, ahead of nothing: what had been queued before is dropped.
    virtual void receive(u8 byte) = 0;
    virtual void reset() = 0;
    virtual void fields(StateVisitor& v) = 0;

    [[nodiscard]] bool has_byte() const { return count_ != 0; }
    /// The next byte to send; there must be one.
    u8 take();
    /// Told when bytes were queued by something else than receive().
    void on_input(std::function<void()> observer) { observer_ = std::move(observer); }

  protected:
    void clear() {
        bytes_ = {};
        count_ = 0;
    }
    void queue(u8 byte) {
        if (count_ < kCapacity) bytes_[count_++] = byte;
    }
    [[nodiscard]] u32 room() const { return kCapacity - count_; }
    void announce() const {
        if (observer_) observer_();
    }
    void queue_fields(StateVisitor& v);

  private:
    std::array<u8, kCapacity> bytes_{};
    u8 count_ = 0;
    std::function<void()> observer_;
};

/// 101-key keyboard, scan code sets 1 and 2.
class Ps2Keyboard final : public Ps2Device {
  public:
    void receive(u8 byte) override;
    void reset() override;
    void fields(StateVisitor& v) override;

    /// A key goes down or up: its make code of set 1 (1..127), with the E0 prefix or not. Dropped while scanning is off
    /// or while there is no room: a keyboard has no more than its buffer.
    void key(u8 make_code, bool extended, bool down);
    /// Bit 0 scroll lock, 1 num lock, 2 caps lock.
    [[nodiscard]] u8 leds() const { return state_.leds; }

  private:
    struct State {
        u8 pending = 0;  // command that waits for its argument
        u8 set = 2, leds = 0, rate = 0x2b, last = 0;
        bool scanning = true;
    };
    void answer(u8 byte);
    void argument(u8 command, u8 byte);

    State state_;
};

/// Three-button mouse that becomes an IntelliMouse with a wheel when the driver knocks.
class Ps2Mouse final : public Ps2Device {
  public:
    void receive(u8 byte) override;
    void reset() override;
    void fields(StateVisitor& v) override;

    /// Movement to the right, up and of the wheel since the last call; buttons: bit 0 left, 1 right, 2 middle.
    void move(s32 right, s32 up, s32 wheel, u8 buttons);

  private:
    struct State {
        u8 pending = 0;
        u8 rate = 100, resolution = 2, buttons = 0, id = 0;
        std::array<u8, 2> knocks{};  // sample rates before the last
        bool scaling = false, remote = false, enabled = false, wrap = false;
    };
    void command(u8 byte);
    void set_rate(u8 rate);
    void packet(s32 right, s32 up, s32 wheel);

    State state_;
};

/// Scan codes of set 2 as the 8042 translates them to set 1; an F0 prefix becomes the high bit of the next code.
[[nodiscard]] u8 to_set_1(u8 set_2);

}  // namespace vg::devices
