// Dear ImGui's triangles through SDL_Renderer: needs no OpenGL, and draws into memory as well as into windows.
#pragma once

#include <SDL.h>
#include <imgui.h>

#include <vector>

namespace vg::gui {

class DrawBackEnd {
  public:
    explicit DrawBackEnd(SDL_Renderer* renderer);
    ~DrawBackEnd();
    DrawBackEnd(const DrawBackEnd&) = delete;
    DrawBackEnd& operator=(const DrawBackEnd&) = delete;

    /// Uploads the font atlas again, after it was built.
    void upload_fonts();
    void draw(const ImDrawData& data);
    [[nodiscard]] SDL_Renderer* renderer() const { return renderer_; }

  private:
    void draw_list(const ImDrawList& list, const ImDrawData& data);
    SDL_Renderer* renderer_;
    SDL_Texture* fonts_ = nullptr;
};

}  // namespace vg::gui
