// Keys of commands, as the command table names them.
#pragma once

#include <SDL.h>

#include <optional>
#include <string_view>

namespace vg::gui {

struct Shortcut {
    SDL_Scancode key = SDL_SCANCODE_UNKNOWN;
    bool control = false, shift = false, alt = false;
    friend bool operator==(const Shortcut&, const Shortcut&) = default;
};

/// "Ctrl+Shift+F5", "Alt+Left". Nothing: it names no key.
[[nodiscard]] std::optional<Shortcut> parse_shortcut(std::string_view text);
[[nodiscard]] Shortcut pressed(const SDL_KeyboardEvent& event);

}  // namespace vg::gui
