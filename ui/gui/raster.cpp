#include "ui/gui/raster.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace vg::gui {

/// Of glyphs, which are white, only the coverage is kept.
struct Raster::Texture {
    int width = 0, height = 0;
    std::vector<u32> pixels;   ///< empty: white
    std::vector<u8> coverage;  ///< empty: in `pixels`
    [[nodiscard]] u32 texel(int x, int y) const {
        const std::size_t at =
            static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x);
        return coverage.empty() ? pixels[at] : u32{0xffffff} | static_cast<u32>(coverage[at]) << 24;
    }
};

namespace {

using Texture = Raster::Texture;
constexpr u32 kRgb = 0xffffff;

/// (a * b) / 255 of two bytes, to the nearest.
constexpr u32 times(u32 a, u32 b) {
    const u32 product = a * b + 128;
    return (product + (product >> 8)) >> 8;
}

/// `colour`, of which alpha/255 covers what is there.
inline u32 over(u32 there, u32 colour, u32 alpha) {
    const u32 part = alpha + (alpha >> 7);  // 0..256
    const u32 red_blue = ((there & 0xff00ff) * (256 - part) + (colour & 0xff00ff) * part) >> 8 & 0xff00ff;
    const u32 green = ((there & 0xff00) * (256 - part) + (colour & 0xff00) * part) >> 8 & 0xff00;
    return 0xff000000 | red_blue | green;
}

inline u32 modulate(u32 a, u32 b) {
    u32 product = 0;
    for (int shift = 0; shift < 32; shift += 8) product |= times(a >> shift & 0xff, b >> shift & 0xff) << shift;
    return product;
}

/// First pixel whose centre is at or behind `at`, kept in [low, high].
inline int first_pixel(float at, int low, int high) {
    const float pixel = std::ceil(at - 0.5F);
    if (!(pixel > static_cast<float>(low))) return low;
    return pixel >= static_cast<float>(high) ? high : static_cast<int>(pixel);
}

struct Clip {
    int left, top, right, bottom;
};

class Filler {
  public:
    Filler(Picture& target, const Clip& clip, const Texture* texture)
        : target_(target), clip_(clip), texture_(texture) {}

    /// An upright rectangle of one colour; `a` is its upper left corner, `c` the lower right one.
    void rectangle(const ImDrawVert& a, const ImDrawVert& c) {
        const int left = first_pixel(a.pos.x, clip_.left, clip_.right),
                  right = first_pixel(c.pos.x, clip_.left, clip_.right);
        const int top = first_pixel(a.pos.y, clip_.top, clip_.bottom),
                  bottom = first_pixel(c.pos.y, clip_.top, clip_.bottom);
        if (left >= right || top >= bottom) return;
        if (!texture_ || (a.uv.x == c.uv.x && a.uv.y == c.uv.y)) {
            const u32 colour = texture_ ? modulate(a.col, sample(a.uv.x, a.uv.y)) : a.col;
            for (int y = top; y < bottom; ++y) flat(row(y), left, right, colour);
            return;
        }
        const float across = (c.uv.x - a.uv.x) / (c.pos.x - a.pos.x), down = (c.uv.y - a.uv.y) / (c.pos.y - a.pos.y);
        columns_.clear();
        for (int x = left; x < right; ++x)
            columns_.push_back(place(a.uv.x + (static_cast<float>(x) + 0.5F - a.pos.x) * across, texture_->width));
        for (int y = top; y < bottom; ++y) {
            const int v = place(a.uv.y + (static_cast<float>(y) + 0.5F - a.pos.y) * down, texture_->height);
            if (texture_->coverage.empty())
                picture_row(row(y) + left, v, a.col);
            else
                glyph_row(row(y) + left, v, a.col);
        }
    }

    void triangle(const ImDrawVert& a, const ImDrawVert& b, const ImDrawVert& c) {
        const float area = (b.pos.x - a.pos.x) * (c.pos.y - a.pos.y) - (c.pos.x - a.pos.x) * (b.pos.y - a.pos.y);
        if (!(std::abs(area) > 1e-6F)) return;
        const bool one_texel =
            !texture_ || (a.uv.x == b.uv.x && a.uv.y == b.uv.y && a.uv.x == c.uv.x && a.uv.y == c.uv.y);
        const bool one_colour = a.col == b.col && a.col == c.col;
        const u32 texel = !texture_ ? ~u32{0} : one_texel ? sample(a.uv.x, a.uv.y) : 0;
        const int top = first_pixel(std::min({a.pos.y, b.pos.y, c.pos.y}), clip_.top, clip_.bottom);
        const int bottom = first_pixel(std::max({a.pos.y, b.pos.y, c.pos.y}), clip_.top, clip_.bottom);
        for (int y = top; y < bottom; ++y) {
            const float centre = static_cast<float>(y) + 0.5F;
            float from = 0, to = 0;
            if (!span(a, b, c, centre, from, to)) continue;
            const int left = first_pixel(from, clip_.left, clip_.right),
                      right = first_pixel(to, clip_.left, clip_.right);
            if (one_colour && one_texel) {
                flat(row(y), left, right, modulate(a.col, texel));
                continue;
            }
            for (int x = left; x < right; ++x) {
                const float px = static_cast<float>(x) + 0.5F - a.pos.x, py = centre - a.pos.y;
                const float of_b = (px * (c.pos.y - a.pos.y) - (c.pos.x - a.pos.x) * py) / area;
                const float of_c = ((b.pos.x - a.pos.x) * py - px * (b.pos.y - a.pos.y)) / area;
                const float of_a = 1 - of_b - of_c;
                const u32 paint = one_colour ? a.col : mix(a.col, b.col, c.col, of_a, of_b, of_c);
                const u32 here = one_texel ? texel
                                           : sample(of_a * a.uv.x + of_b * b.uv.x + of_c * c.uv.x,
                                                    of_a * a.uv.y + of_b * b.uv.y + of_c * c.uv.y);
                const u32 colour = modulate(paint, here);
                u32& pixel = row(y)[x];
                pixel = over(pixel, colour, colour >> 24);
            }
        }
    }

  private:
    [[nodiscard]] u32* row(int y) const {
        return target_.pixels.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(target_.width);
    }
    static int place(float at, int size) {
        const float texel = at * static_cast<float>(size);
        if (!(texel > 0)) return 0;
        return texel >= static_cast<float>(size) ? size - 1 : static_cast<int>(texel);
    }
    [[nodiscard]] u32 sample(float u, float v) const {
        return texture_->texel(place(u, texture_->width), place(v, texture_->height));
    }
    static void flat(u32* line, int left, int right, u32 colour) {
        if (left >= right) return;
        const u32 alpha = colour >> 24;
        if (alpha == 255) {
            std::fill(line + left, line + right, colour);
        } else if (alpha != 0) {
            for (int x = left; x < right; ++x) line[x] = over(line[x], colour, alpha);
        }
    }
    void glyph_row(u32* line, int v, u32 colour) const {
        const u8* coverage =
            texture_->coverage.data() + static_cast<std::size_t>(v) * static_cast<std::size_t>(texture_->width);
        const u32 alpha = colour >> 24, solid = colour | 0xff000000;
        for (const int u : columns_) {
            u32& pixel = *line++;
            const u32 covered = times(coverage[u], alpha);
            if (covered == 255)
                pixel = solid;
            else if (covered != 0)
                pixel = over(pixel, colour, covered);
        }
    }
    void picture_row(u32* line, int v, u32 colour) const {
        const bool plain = colour == ~u32{0};
        for (const int u : columns_) {
            const u32 texel = texture_->texel(u, v), paint = plain ? texel : modulate(texel, colour);
            *line = over(*line, paint, paint >> 24);
            ++line;
        }
    }
    static u32 mix(u32 a, u32 b, u32 c, float of_a, float of_b, float of_c) {
        u32 mixed = 0;
        for (int shift = 0; shift < 32; shift += 8) {
            const auto part = [shift](u32 colour) { return static_cast<float>(colour >> shift & 0xff); };
            const float value = of_a * part(a) + of_b * part(b) + of_c * part(c) + 0.5F;
            mixed |= static_cast<u32>(std::clamp(value, 0.0F, 255.0F)) << shift;
        }
        return mixed;
    }
    /// Where the line of height `y` enters and leaves the triangle. Each edge is cut the same way whichever triangle
    /// it is of.
    static bool span(const ImDrawVert& a, const ImDrawVert& b, const ImDrawVert& c, float y, float& from, float& to) {
        const std::array<std::pair<const ImVec2*, const ImVec2*>, 3> edges = {
            {{&a.pos, &b.pos}, {&b.pos, &c.pos}, {&c.pos, &a.pos}}};
        int cuts = 0;
        for (auto [low, high] : edges) {
            if (low->y > high->y) std::swap(low, high);
            if (!(low->y <= y && y < high->y)) continue;
            const float x = low->x + (high->x - low->x) * ((y - low->y) / (high->y - low->y));
            (cuts++ == 0 ? from : to) = x;
        }
        if (cuts != 2) return false;
        if (from > to) std::swap(from, to);
        return true;
    }

    Picture& target_;
    Clip clip_;
    const Texture* texture_;
    std::vector<int> columns_;  ///< of the texture, for each pixel of a row
};

/// The corners of an upright rectangle of one colour, as ImDrawList::PrimRect and glyphs have them.
bool is_rectangle(const ImDrawIdx* index, const ImDrawVert* v) {
    if (index[0] != index[3] || index[2] != index[4]) return false;
    const ImDrawVert &a = v[index[0]], &b = v[index[1]], &c = v[index[2]], &d = v[index[5]];
    return a.pos.y == b.pos.y && b.pos.x == c.pos.x && c.pos.y == d.pos.y && d.pos.x == a.pos.x && a.pos.x <= c.pos.x &&
           a.pos.y <= c.pos.y && a.col == b.col && a.col == c.col && a.col == d.col && a.uv.y == b.uv.y &&
           b.uv.x == c.uv.x && c.uv.y == d.uv.y && d.uv.x == a.uv.x;
}

}  // namespace

Raster::Raster(int width, int height) {
    target_.width = std::clamp(width, 1, 16384);
    target_.height = std::clamp(height, 1, 16384);
    target_.pixels.resize(static_cast<std::size_t>(target_.width) * static_cast<std::size_t>(target_.height));
}

Raster::Raster(SDL_Window* window) : Raster(1, 1) { window_ = window; }

Raster::~Raster() = default;

void Raster::size(int& width, int& height) const {
    width = target_.width;
    height = target_.height;
    if (window_) SDL_GetWindowSize(window_, &width, &height);
}

ImTextureID Raster::make_texture(const Picture& picture, bool) {
    if (picture.width <= 0 || picture.height <= 0) return nullptr;
    auto made = std::make_unique<Texture>();
    made->width = picture.width;
    made->height = picture.height;
    const auto white = [](u32 pixel) { return (pixel & kRgb) == kRgb; };
    if (std::all_of(picture.pixels.begin(), picture.pixels.end(), white)) {
        made->coverage.reserve(picture.pixels.size());
        for (const u32 pixel : picture.pixels) made->coverage.push_back(static_cast<u8>(pixel >> 24));
    } else {
        made->pixels = picture.pixels;
    }
    textures_.push_back(std::move(made));
    return textures_.back().get();
}

void Raster::drop_texture(ImTextureID texture) {
    std::erase_if(textures_, [texture](const auto& each) { return each.get() == texture; });
}

void Raster::draw(const ImDrawData& data, ImU32 background) {
    if (window_) {
        size(target_.width, target_.height);
        target_.pixels.resize(static_cast<std::size_t>(target_.width) * static_cast<std::size_t>(target_.height));
    }
    std::fill(target_.pixels.begin(), target_.pixels.end(), background | 0xff000000);
    for (int i = 0; i < data.CmdListsCount; ++i) draw_list(*data.CmdLists[i], data);
}

void Raster::draw_list(const ImDrawList& list, const ImDrawData& data) {
    for (const ImDrawCmd& command : list.CmdBuffer) {
        if (command.UserCallback) {
            if (command.UserCallback != ImDrawCallback_ResetRenderState) command.UserCallback(&list, &command);
            continue;
        }
        const Clip clip = {std::max(0, static_cast<int>(command.ClipRect.x - data.DisplayPos.x)),
                           std::max(0, static_cast<int>(command.ClipRect.y - data.DisplayPos.y)),
                           std::min(target_.width, static_cast<int>(command.ClipRect.z - data.DisplayPos.x)),
                           std::min(target_.height, static_cast<int>(command.ClipRect.w - data.DisplayPos.y))};
        if (clip.right <= clip.left || clip.bottom <= clip.top) continue;
        Filler fill(target_, clip, static_cast<const Texture*>(command.GetTexID()));
        const ImDrawVert* vertices = list.VtxBuffer.Data + command.VtxOffset;
        const ImDrawIdx* index = list.IdxBuffer.Data + command.IdxOffset;
        for (unsigned left = command.ElemCount; left >= 3;) {
            if (left >= 6 && is_rectangle(index, vertices)) {
                fill.rectangle(vertices[index[0]], vertices[index[2]]);
                index += 6;
                left -= 6;
            } else {
                fill.triangle(vertices[index[0]], vertices[index[1]], vertices[index[2]]);
                index += 3;
                left -= 3;
            }
        }
    }
}

void Raster::show() {
    SDL_Surface* shown = window_ ? SDL_GetWindowSurface(window_) : nullptr;
    if (!shown) return;
    SDL_Surface* drawn = SDL_CreateRGBSurfaceWithFormatFrom(target_.pixels.data(), target_.width, target_.height, 32,
                                                            target_.width * 4, SDL_PIXELFORMAT_XBGR8888);
    if (!drawn) return;
    SDL_BlitSurface(drawn, nullptr, shown, nullptr);
    SDL_FreeSurface(drawn);
    SDL_UpdateWindowSurface(window_);
}

void upload_fonts(Canvas& canvas) {
    ImFontAtlas& atlas = *ImGui::GetIO().Fonts;
    unsigned char* bytes = nullptr;
    Picture picture;
    atlas.GetTexDataAsRGBA32(&bytes, &picture.width, &picture.height);
    const std::size_t count = static_cast<std::size_t>(picture.width) * static_cast<std::size_t>(picture.height);
    const u32* pixels = reinterpret_cast<const u32*>(bytes);
    picture.pixels.assign(pixels, pixels + count);
    ImGui::GetIO().BackendFlags |= ImGuiBackendFlags_RendererHasVtxOffset;
    canvas.drop_texture(atlas.TexID);
    atlas.SetTexID(canvas.make_texture(picture, false));
}

}  // namespace vg::gui
