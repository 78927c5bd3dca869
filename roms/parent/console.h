// The machine's first serial port and its display: lines out, typed bytes in.
#pragma once

#include <optional>
#include <string_view>

#include "base/types.h"

namespace vg::parent {

/// Sets the port up (8 bits, FIFOs, receive interrupt through the IOAPIC); shows all text on the display too, if the machine
/// has one.
void start_console();
/// Text as it is, every "\n" with a "\r" in front.
void console_write(std::string_view text);
/// The next byte that was typed.
[[nodiscard]] std::optional<u8> console_read();

}  // namespace vg::parent
