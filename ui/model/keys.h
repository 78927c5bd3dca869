// From what a person types to what a keyboard sends: scan codes of set 1, US layout.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hv/vsp/keyboard.h"

namespace vg::model {

/// Keys that write this text, pressed and released one by one. Nothing if some character is on no key ('\n' is Enter,
/// '\t' Tab, '\b' Backspace, '\x1b' Escape).
[[nodiscard]] std::optional<std::vector<hv::vsp::Keystroke>> keys_of_text(std::string_view text);

/// A chord: names joined by '+', e.g. "ctrl+alt+f2", "enter", "shift+a". Pressed in order, released in reverse. Nothing
/// if a name is unknown.
[[nodiscard]] std::optional<std::vector<hv::vsp::Keystroke>> keys_of_chord(std::string_view chord);

/// Names of keys besides the characters that they write.
[[nodiscard]] std::vector<std::string> key_names();

}  // namespace vg::model
