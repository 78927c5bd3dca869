// What Dear ImGui's triangles are drawn on.
#pragma once

#include <imgui.h>

#include "ui/gui/png.h"

namespace vg::gui {

/// A frame at a time: draw(), then picture() if it is wanted, then show(). The window's thread.
class Canvas {
  public:
    virtual ~Canvas() = default;
    /// A texture of these pixels, repeated nowhere. Null: no memory for it.
    /// @param smooth  interpolated where it is scaled, if the canvas can
    [[nodiscard]] virtual ImTextureID make_texture(const Picture& picture, bool smooth) = 0;
    /// Of this canvas; null is nothing. Not while a frame that uses it is drawn.
    virtual void drop_texture(ImTextureID texture) = 0;
    virtual void draw(const ImDrawData& data, ImU32 background) = 0;
    [[nodiscard]] virtual Picture picture() const = 0;
    /// Puts the frame on the screen, if there is one.
    virtual void show() = 0;
    /// In pixels, as it is now.
    virtual void size(int& width, int& height) const = 0;
};

/// Builds the font atlas into a texture, in place of the one before.
void upload_fonts(Canvas& canvas);

}  // namespace vg::gui
