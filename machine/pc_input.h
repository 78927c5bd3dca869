// Keys that the host presses on the PC's keyboard.
#pragma once

#include <deque>

#include "base/events.h"
#include "devices/ps2.h"
#include "hv/vsp/keyboard.h"

namespace vg::machine {

/// A keyboard holds a few bytes only, and firmware reads it leisurely: keystrokes wait here and follow each other at
/// the pace of a quick typist, each when the one before has been read.
class PcInput {
  public:
    static constexpr std::size_t kMaxQueued = hv::vsp::Keyboard::kMaxQueued;
    static constexpr VTime kPace = 5'000'000;

    PcInput(EventQueue& events, devices::Ps2Keyboard& keyboard);

    /// False: there is no room for all of them, and none was taken.
    bool press(std::span<const hv::vsp::Keystroke> keys);
    void reset();
    void fields(StateVisitor& v);

  private:
    void feed();

    EventQueue& events_;
    devices::Ps2Keyboard& keyboard_;
    EventQueue::TimerId timer_;
    std::deque<hv::vsp::Keystroke> waiting_;
};

}  // namespace vg::machine
