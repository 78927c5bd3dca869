// Protocol core of the synthetic mouse: a HID pointer with absolute positions. Rows D-05, D-83..D-86. No I/O, no heap.
#pragma once

#include <array>

#include "hv/spec/input_devices.h"
#include "hv/vsp/message_core.h"

namespace vg::hv::vsp {

/// What a report says.
struct MouseReport {
    u8 buttons = 0;    ///< bit 0 left, 1 right, 2 middle, 3 back, 4 forward
    u16 x = 0, y = 0;  ///< 0..mouse::kMaxPosition over the width and height of the screen
    s16 wheel = 0;     ///< up is positive
    bool operator==(const MouseReport&) const = default;
};

class Mouse final : public MessageCore {
  public:
    enum class State : u8 { Closed, AwaitVersion, AwaitAck, Ready };
    static constexpr u32 kMaxQueued = 64;  ///< reports for a guest that does not read

    void opened() override;
    void closed() override;
    void receive(std::span<const u8> message, u64 transaction_id) override;
    [[nodiscard]] Outgoing next(std::span<u8> out) override;
    void sent() override;
    void fields(StateVisitor& v) override;

    /// False: there is no driver in the guest, it does not read, or a value is out of range. A movement joins the
    /// report that waits if nothing but the position differs.
    bool report(const MouseReport& report);

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] u64 invalid() const { return invalid_; }

  private:
    enum class Reply : u8 { None, Version, Info };
    State state_ = State::Closed;
    Reply reply_ = Reply::None;
    bool accepted_ = false;
    u32 version_ = 0;
    u64 reply_to_ = 0;
    u64 reports_ = 0, invalid_ = 0;
    std::array<MouseReport, kMaxQueued> queue_{};
    u32 first_ = 0, queued_ = 0;
};

/// HID report descriptor of MouseReport.
[[nodiscard]] std::span<const u8> mouse_report_descriptor();

}  // namespace vg::hv::vsp
