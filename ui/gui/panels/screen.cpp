#include "ui/gui/panels/panels.h"
#include "ui/gui/png.h"

namespace vg::gui {

ScreenPanel::~ScreenPanel() { canvas.drop_texture(texture); }

namespace {

void take_picture(ScreenPanel& panel, const desk::ScreenView& view) {
    if (panel.version == view.version()) return;
    panel.version = view.version();
    if (view.png().empty()) {
        panel.problem = "no picture";
        return;
    }
    const auto picture = parse_png(view.png());
    panel.problem = picture ? "" : picture.error().text;
    if (!picture) return;
    panel.canvas.drop_texture(panel.texture);
    panel.width = picture->width;
    panel.height = picture->height;
    panel.texture = panel.canvas.make_texture(*picture, true);
}

}  // namespace

void draw(ScreenPanel& panel, desk::Workbench& bench, const Look& look) {
    take_picture(panel, bench.screen);
    if (excuse(look, bench.screen, false)) return;
    if (!panel.texture)
        return note(look, bench.screen.waiting() ? "\u2026" : panel.problem.empty() ? "no picture" : panel.problem);
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const float fit = std::min(room.x / static_cast<float>(panel.width), room.y / static_cast<float>(panel.height));
    if (fit <= 0) return;
    const float scale = fit >= 1 ? std::max(1.0F, static_cast<float>(static_cast<int>(fit))) : fit;
    ImGui::Image(panel.texture, {static_cast<float>(panel.width) * scale, static_cast<float>(panel.height) * scale});
}

}  // namespace vg::gui
