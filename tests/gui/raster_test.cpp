// The rasterizer against SDL's own and against exact sums.
#include <catch2/catch.hpp>

#include <cmath>
#include <random>

#include "ui/gui/raster.h"
#include "ui/gui/sdl_canvas.h"
#include "ui/gui/widgets/rows.h"

using namespace vg;

namespace {

constexpr int kWidth = 320, kHeight = 240;
constexpr ImU32 kBack = 0xff302010;

/// A context with a font, and one list to draw into.
struct Sheet {
    gui::Look look;
    Sheet() {
        ImGui::CreateContext();
        ImGui::GetIO().IniFilename = nullptr;
        ImGui::GetIO().DisplaySize = {kWidth, kHeight};
        gui::load_fonts(look, 1);
    }
    ~Sheet() { ImGui::DestroyContext(); }

    /// Each canvas has its own textures, so what is drawn is made again for it.
    template <class Draw>
    gui::Picture on(gui::Canvas& canvas, Draw draw) {
        ImGui::GetIO().Fonts->SetTexID(nullptr);  // that of another canvas is not this one's to drop
        gui::upload_fonts(canvas);
        ImGui::NewFrame();
        draw(*ImGui::GetForegroundDrawList());
        ImGui::Render();
        canvas.draw(*ImGui::GetDrawData(), kBack);
        return canvas.picture();
    }
};

int difference(u32 a, u32 b) {
    int most = 0;
    for (int shift = 0; shift < 24; shift += 8)
        most = std::max(most, std::abs(static_cast<int>(a >> shift & 0xff) - static_cast<int>(b >> shift & 0xff)));
    return most;
}

}  // namespace

TEST_CASE("raster: text, rectangles and lines come out as SDL's renderer has them", "[gui]") {
    Sheet sheet;
    const auto draw = [](ImDrawList& list) {
        list.AddRectFilled({10, 10}, {200, 60}, IM_COL32(200, 40, 40, 255));
        list.AddRectFilled({50, 30}, {310, 100}, IM_COL32(40, 200, 40, 120));
        list.AddText({20, 20}, IM_COL32_WHITE, "mov rax, [rbx+8]  ffffffff81000000");
        list.AddText({20, 120}, IM_COL32(255, 200, 0, 160), "half of it");
        list.PushClipRect({30, 140}, {90, 200});
        list.AddRectFilled({0, 150}, {300, 190}, IM_COL32(0, 0, 255, 255));
        list.PopClipRect();
        list.AddRectFilledMultiColor({200, 140}, {300, 220}, 0xff0000ff, 0xff00ff00, 0xffff0000, 0xffffffff);
    };
    gui::Raster ours(kWidth, kHeight);
    const gui::Picture drawn = sheet.on(ours, draw);
    SDL_Surface* surface = SDL_CreateRGBSurfaceWithFormat(0, kWidth, kHeight, 32, SDL_PIXELFORMAT_ARGB8888);
    SDL_Renderer* renderer = SDL_CreateSoftwareRenderer(surface);
    REQUIRE(renderer);
    {
        gui::SdlCanvas theirs(renderer);
        const gui::Picture expected = sheet.on(theirs, draw);
        REQUIRE(expected.pixels.size() == drawn.pixels.size());
        std::size_t far = 0, changed = 0;
        for (std::size_t i = 0; i < drawn.pixels.size(); ++i) {
            far += difference(drawn.pixels[i], expected.pixels[i]) > 6;
            changed += (drawn.pixels[i] & 0xffffff) != (kBack & 0xffffff);
        }
        CHECK(changed > 20'000);
        CHECK(far < drawn.pixels.size() / 400);  // edges of the gradient's triangles
    }
    SDL_DestroyRenderer(renderer);
    SDL_FreeSurface(surface);
}

TEST_CASE("raster: triangles that share edges cover each pixel once, those whose centre is inside", "[gui]") {
    Sheet sheet;
    std::mt19937 random(1);
    std::uniform_real_distribution<float> along(0.1F, 1.0F);
    for (int round = 0; round < 40; ++round) {
        // A convex polygon as a fan, half transparent: a pixel covered twice would be darker.
        std::vector<ImVec2> corners;
        const float radius = 20 + 90 * along(random);
        for (int i = 0; i < 11; ++i) {
            const float angle = (static_cast<float>(i) + along(random) * 0.8F) * 2 * 3.14159265F / 11;
            corners.push_back({160.3F + radius * std::cos(angle), 119.7F + radius * std::sin(angle)});
        }
        gui::Raster canvas(kWidth, kHeight);
        const gui::Picture drawn = sheet.on(canvas, [&](ImDrawList& list) {
            list.Flags = 0;
            list.AddConvexPolyFilled(corners.data(), static_cast<int>(corners.size()), IM_COL32(255, 255, 255, 128));
        });
        const auto inside = [&](float x, float y, float slack) {
            for (std::size_t i = 0; i < corners.size(); ++i) {
                const ImVec2 a = corners[i], b = corners[(i + 1) % corners.size()];
                const float cross = (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
                if (cross < slack * std::hypot(b.x - a.x, b.y - a.y)) return false;
            }
            return true;
        };
        std::size_t wrong = 0;
        u32 once = 0;
        for (int y = 0; y < kHeight; ++y) {
            for (int x = 0; x < kWidth; ++x) {
                const u32 pixel = drawn.pixels[static_cast<std::size_t>(y * kWidth + x)];
                const float px = static_cast<float>(x) + 0.5F, py = static_cast<float>(y) + 0.5F;
                const bool covered = pixel != kBack;
                if (covered && once == 0) once = pixel;
                wrong += covered && pixel != once;                                   // twice
                wrong += covered ? !inside(px, py, -0.01F) : inside(px, py, 0.01F);  // not as its centre says
            }
        }
        CHECK(once != 0);
        CHECK(wrong == 0);
    }
}

TEST_CASE("raster: nothing outside the picture or the clip is touched, whatever the coordinates", "[gui]") {
    Sheet sheet;
    gui::Raster canvas(kWidth, kHeight);
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const gui::Picture drawn = sheet.on(canvas, [&](ImDrawList& list) {
        list.PushClipRect({100, 100}, {110, 110});
        for (const float at : {-1e30F, -5.0F, 1e9F, inf, -inf, nan}) {
            list.AddRectFilled({at, -1e9F}, {1e30F, 1e9F}, IM_COL32(255, 0, 0, 255));
            list.AddTriangleFilled({at, at}, {1e20F, -1e20F}, {50, 1e25F}, IM_COL32(0, 255, 0, 200));
            list.AddImage(ImGui::GetIO().Fonts->TexID, {at, 0}, {200, 200}, {-3, at}, {7, nan}, IM_COL32_WHITE);
        }
        list.PopClipRect();
    });
    std::size_t outside = 0, touched = 0;
    for (int y = 0; y < kHeight; ++y) {
        for (int x = 0; x < kWidth; ++x) {
            const bool in_clip = x >= 100 && x < 110 && y >= 100 && y < 110;
            const bool changed = drawn.pixels[static_cast<std::size_t>(y * kWidth + x)] != kBack;
            outside += changed && !in_clip;
            touched += changed && in_clip;
        }
    }
    CHECK(outside == 0);
    CHECK(touched == 100);
}
