#include "ui/gui/sdl_canvas.h"

#include <algorithm>

namespace vg::gui {

SdlCanvas::SdlCanvas(SDL_Renderer* renderer) : renderer_(renderer) {
    SDL_SetRenderDrawBlendMode(renderer_, SDL_BLENDMODE_BLEND);
}

ImTextureID SdlCanvas::make_texture(const Picture& picture, bool smooth) {
    SDL_SetHint(SDL_HINT_RENDER_SCALE_QUALITY, smooth ? "linear" : "nearest");
    SDL_Texture* made =
        SDL_CreateTexture(renderer_, SDL_PIXELFORMAT_ABGR8888, SDL_TEXTUREACCESS_STATIC, picture.width, picture.height);
    if (!made) return nullptr;
    SDL_UpdateTexture(made, nullptr, picture.pixels.data(), picture.width * 4);
    SDL_SetTextureBlendMode(made, SDL_BLENDMODE_BLEND);
    return made;
}

void SdlCanvas::drop_texture(ImTextureID texture) {
    if (texture) SDL_DestroyTexture(static_cast<SDL_Texture*>(texture));
}

Picture SdlCanvas::picture() const {
    Picture picture;
    size(picture.width, picture.height);
    picture.pixels.resize(static_cast<std::size_t>(picture.width) * static_cast<std::size_t>(picture.height));
    SDL_RenderReadPixels(renderer_, nullptr, SDL_PIXELFORMAT_ABGR8888, picture.pixels.data(), picture.width * 4);
    return picture;
}

void SdlCanvas::draw(const ImDrawData& data, ImU32 background) {
    const auto byte = [background](int shift) { return static_cast<Uint8>(background >> shift); };
    SDL_SetRenderDrawColor(renderer_, byte(IM_COL32_R_SHIFT), byte(IM_COL32_G_SHIFT), byte(IM_COL32_B_SHIFT), 255);
    SDL_RenderClear(renderer_);
    for (int i = 0; i < data.CmdListsCount; ++i) draw_list(*data.CmdLists[i], data);
    SDL_RenderSetClipRect(renderer_, nullptr);
    SDL_RenderFlush(renderer_);
}

void SdlCanvas::draw_list(const ImDrawList& list, const ImDrawData& data) {
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
