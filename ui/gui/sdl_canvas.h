// Triangles through SDL_Renderer, for graphics processors: needs no OpenGL of our own.
#pragma once

#include <SDL.h>

#include "ui/gui/canvas.h"

namespace vg::gui {

class SdlCanvas final : public Canvas {
  public:
    /// @param renderer  outlives it
    explicit SdlCanvas(SDL_Renderer* renderer);

    ImTextureID make_texture(const Picture& picture, bool smooth) override;
    void drop_texture(ImTextureID texture) override;
    void draw(const ImDrawData& data, ImU32 background) override;
    Picture picture() const override;
    void show() override { SDL_RenderPresent(renderer_); }
    void size(int& width, int& height) const override { SDL_GetRendererOutputSize(renderer_, &width, &height); }

  private:
    void draw_list(const ImDrawList& list, const ImDrawData& data);
    SDL_Renderer* renderer_;
};

}  // namespace vg::gui
