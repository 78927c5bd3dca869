// Triangles filled by the processor: for hosts without a graphics processor, and into memory.
#pragma once

#include <SDL.h>

#include <memory>
#include <vector>

#include "ui/gui/canvas.h"

namespace vg::gui {

/// Most of what Dear ImGui draws are upright rectangles of one colour and glyphs of one; those are filled row by row.
/// A pixel belongs to a shape when its centre does (left and top edges included), so neighbours neither overlap nor
/// leave gaps. Textures are sampled at the nearest point.
class Raster final : public Canvas {
  public:
    /// Into memory. Sizes 1..16384
    Raster(int width, int height);
    /// Shown in a window, which outlives it.
    explicit Raster(SDL_Window* window);
    ~Raster() override;

    ImTextureID make_texture(const Picture& picture, bool smooth) override;
    void drop_texture(ImTextureID texture) override;
    void draw(const ImDrawData& data, ImU32 background) override;
    Picture picture() const override { return target_; }
    void show() override;
    void size(int& width, int& height) const override;

    struct Texture;  ///< for the implementation

  private:
    void draw_list(const ImDrawList& list, const ImDrawData& data);
    SDL_Window* window_ = nullptr;
    Picture target_;
    std::vector<std::unique_ptr<Texture>> textures_;
};

}  // namespace vg::gui
