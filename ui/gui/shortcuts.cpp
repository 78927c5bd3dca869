#include "ui/gui/shortcuts.h"

#include <string>

namespace vg::gui {

std::optional<Shortcut> parse_shortcut(std::string_view text) {
    Shortcut shortcut;
    while (true) {
        const std::size_t plus = text.find('+');
        if (plus == std::string_view::npos) break;
        const std::string_view part = text.substr(0, plus);
        if (part == "Ctrl")
            shortcut.control = true;
        else if (part == "Shift")
            shortcut.shift = true;
        else if (part == "Alt")
            shortcut.alt = true;
        else
            return {};
        text.remove_prefix(plus + 1);
    }
    shortcut.key = SDL_GetScancodeFromName(std::string(text).c_str());
    if (shortcut.key == SDL_SCANCODE_UNKNOWN) return {};
    return shortcut;
}

Shortcut pressed(const SDL_KeyboardEvent& event) {
    const auto held = [&](int modifiers) { return (event.keysym.mod & modifiers) != 0; };
    // Letters by what they print, so that Ctrl+P is where the keyboard has its P; the rest by place.
    const SDL_Keycode code = event.keysym.sym;
    SDL_Scancode key = event.keysym.scancode;
    if (code >= SDLK_a && code <= SDLK_z) key = static_cast<SDL_Scancode>(SDL_SCANCODE_A + (code - SDLK_a));
    return {key, held(KMOD_CTRL), held(KMOD_SHIFT), held(KMOD_ALT)};
}

}  // namespace vg::gui
