// The machine's display as a console.
#pragma once

#include <memory>

#include "roms/parent/frame_console.h"

namespace vg::parent {

/// A console on the display of the machine, in the mode that it is in, or 1024 by 768 if it is off. Null: there is no
/// display, or its memory does not hold two pictures. Lives as long as the machine.
[[nodiscard]] std::unique_ptr<FrameConsole> find_display();

}  // namespace vg::parent
