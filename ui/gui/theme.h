// Colours, fonts and sizes.
#pragma once

#include <imgui.h>

#include <string>

#include "ui/model/desk/view.h"

namespace vg::gui {

/// The palette is the same for colour-blind people: meaning is carried by words and marks too, hues are blue, orange
/// and their shades.
struct Theme {
    ImU32 window, panel, header, line, text, quiet, accent, good, warning, bad, changed, selection, hover, cursor,
        stripe;
    [[nodiscard]] ImU32 of(desk::Tone tone) const;
    /// Lanes of the timeline, by kind.
    [[nodiscard]] ImU32 lane(std::size_t index) const;
};

/// What panels need to draw: one for the window.
struct Look {
    Theme theme{};
    ImFont* sans = nullptr;
    ImFont* mono = nullptr;
    float scale = 1;
    float row = 0;          ///< height of a line of text, pixels
    float character = 0;    ///< width of one of the mono font
    std::string font_note;  ///< not empty: why the fonts are not those wanted
};

[[nodiscard]] const Theme& theme_named(const std::string& name);
/// Sets ImGui's colours and sizes. Fonts have to be there.
void apply(const Look& look, const std::string& theme);
/// Builds the font atlas for this scale: DejaVu Sans and DejaVu Sans Mono, or ImGui's own with a note.
void load_fonts(Look& look, float scale);

}  // namespace vg::gui
