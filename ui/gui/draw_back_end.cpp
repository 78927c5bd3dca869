#include "ui/gui/draw_back_end.h"

#include <algorithm>

namespace vg::gui {

DrawBackEnd::DrawBackEnd(SDL_Renderer* renderer) : renderer_(renderer) {
    ImGuiIO& io = ImGui::GetIO();
    io.BackendRendererName = "verdigris SDL_Renderer";
    io.BackendFlags |= ImGuiBackendFlags_RendererHasVtxOffset;
    SDL_SetRenderDrawBlendMode(renderer_, SDL_BLENDMODE_BLEND);
}

DrawBackEnd::~DrawBackEnd() {
    if (fonts_) SDL_DestroyTexture(fonts_);
}

void DrawBackEnd::upload_fonts() {
    unsigned char* pixels = nullptr;
    int width = 0, height = 0;
    ImGui::GetIO().Fonts->GetTexDataAsRGBA32(&pixels, &width, &height);
    if (fonts_) SDL_DestroyTexture(fonts_);
    SDL_SetHint(SDL_HINT_RENDER_SCALE_QUALITY, "nearest");
    fonts_ = SDL_CreateTexture(renderer_, SDL_PIXELFORMAT_ABGR8888, SDL_TEXTUREACCESS_STATIC, width, height);
    if (!fonts_) return;
    SDL_UpdateTexture(fonts_, nullptr, pixels, width * 4);
    SDL_SetTextureBlendMode(fonts_, SDL_BLENDMODE_BLEND);
    ImGui::GetIO().Fonts->SetTexID(fonts_);
}

void DrawBackEnd::draw(const ImDrawData& data) {
    for (int i = 0; i < data.CmdListsCount; ++i) draw_list(*data.CmdLists[i], data);
    SDL_RenderSetClipRect(renderer_, nullptr);
}

void DrawBackEnd::draw_list(const ImDrawList& list, const ImDrawData& data) {
    const int width = static_cast<int>(data.DisplaySize.x), height = static_cast<int>(data.DisplaySize.y);
    for (const ImDrawCmd& command : list.CmdBuffer) {
        if (command.UserCallback) {
            if (command.UserCallback != ImDrawCallback_ResetRenderState) command.UserCallback(&list, &command);
            continue;
        }
        const int x = std::max(0, static_cast<int>(command.ClipRect.x - data.DisplayPos.x));
        const int y = std::max(0, static_cast<int>(command.ClipRect.y - data.DisplayPos.y));
        const int right = std::min(width, static_cast<int>(command.ClipRect.z - data.DisplayPos.x));
        const int bottom = std::min(height, static_cast<int>(command.ClipRect.w - data.DisplayPos.y));
        if (right <= x || bottom <= y || command.ElemCount == 0) continue;
        const SDL_Rect clip = {x, y, right - x, bottom - y};
        SDL_RenderSetClipRect(renderer_, &clip);
        const ImDrawVert* vertices = list.VtxBuffer.Data + command.VtxOffset;
        SDL_RenderGeometryRaw(
            renderer_, static_cast<SDL_Texture*>(command.GetTexID()), &vertices->pos.x, sizeof(ImDrawVert),
            reinterpret_cast<const SDL_Color*>(&vertices->col), sizeof(ImDrawVert), &vertices->uv.x, sizeof(ImDrawVert),
            list.VtxBuffer.Size - static_cast<int>(command.VtxOffset), list.IdxBuffer.Data + command.IdxOffset,
            static_cast<int>(command.ElemCount), sizeof(ImDrawIdx));
    }
}

}  // namespace vg::gui
