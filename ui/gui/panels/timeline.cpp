#include <fmt/format.h>

#include <cmath>

#include "ui/gui/panels/panels.h"

namespace vg::gui {

namespace {

/// A step of 1, 2 or 5 times a power of ten that gives ticks at least so many pixels apart.
double tick_step(double width_ns, float pixels, float least) {
    const double wanted = width_ns * static_cast<double>(least) / static_cast<double>(std::max(pixels, 1.0F));
    const double power = std::pow(10, std::floor(std::log10(std::max(wanted, 1.0))));
    for (const double factor : {1.0, 2.0, 5.0})
        if (power * factor >= wanted) return power * factor;
    return power * 10;
}

std::string tick_text(double time_ns, double step) {
    const int digits = step >= 1e9 ? 0 : static_cast<int>(std::ceil(9 - std::log10(step)));
    return fmt::format("{:.{}f} s", time_ns / 1e9, std::clamp(digits, 0, 9));
}

struct Area {
    float left, width;
    double first, last;
    [[nodiscard]] float x(double time) const {
        return left + static_cast<float>((time - first) / (last - first)) * width;
    }
    [[nodiscard]] double time(float x) const {
        return first + (last - first) * static_cast<double>((x - left) / width);
    }
};

void draw_axis(const Look& look, const Area& area, ImVec2 place) {
    ImDrawList& list = *ImGui::GetWindowDrawList();
    list.AddRectFilled(place, {area.left + area.width, place.y + look.row}, look.theme.header);
    const double step = tick_step(area.last - area.first, area.width, 14 * look.character);
    const ImVec4 clip(area.left, place.y, area.left + area.width, place.y + look.row);
    int ticks = 0;
    for (double at = std::ceil(area.first / step) * step; at <= area.last && ticks < 200; at += step, ++ticks) {
        const float x = std::floor(area.x(at));
        list.AddRectFilled({x, place.y + look.row * 0.6F}, {x + 1, place.y + look.row}, look.theme.quiet);
        const std::string text = tick_text(at, step);
        list.AddText(look.mono, look.mono->FontSize, {x + 3 * look.scale, place.y}, look.theme.quiet, text.c_str(),
                     nullptr, 0, &clip);
    }
}

void draw_lane(const Rows& rows, u64 row, const desk::TimelineLane& lane, const Area& area) {
    const Look& look = rows.look();
    rows.text(row, 0.3F * look.character, look.theme.text, lane.title, area.left - rows.left() - look.character);
    const ImU32 colour = look.theme.lane(static_cast<std::size_t>(lane.id.kind));
    const float top = rows.y(row) + 1, whole = look.row - 2;
    const float bin = area.width / static_cast<float>(lane.counts.size());
    // Neighbours of one height are one rectangle: a busy lane would otherwise be a thousand.
    std::size_t begin = 0;
    const auto height = [&](std::size_t i) {
        return lane.counts[i] == 0 ? 0 : std::min(4, 1 + static_cast<int>(std::log2(lane.counts[i])));
    };
    while (begin < lane.counts.size()) {
        std::size_t end = begin + 1;
        const int level = height(begin);
        while (end < lane.counts.size() && height(end) == level) ++end;
        if (level != 0) {
            const float x = area.left + bin * static_cast<float>(begin);
            const float tall = whole * (0.4F + 0.15F * static_cast<float>(level));
            rows.list().AddRectFilled(
                {std::floor(x), top + whole - tall},
                {std::max(std::floor(x) + 1, std::floor(area.left + bin * static_cast<float>(end))), top + whole},
                colour);
        }
        begin = end;
    }
}

void mouse(desk::Workbench& bench, const Area& area, bool hovered) {
    desk::TimelineView& view = bench.timeline;
    const ImGuiIO& io = ImGui::GetIO();
    if (hovered && io.MouseWheel != 0) {
        if (io.KeyShift)
            view.pan(static_cast<double>(-io.MouseWheel) * 0.1);
        else if (io.KeyCtrl || io.MousePos.x >= area.left)
            view.zoom(std::pow(0.8, static_cast<double>(io.MouseWheel)),
                      static_cast<double>((io.MousePos.x - area.left) / area.width));
    }
    if (hovered && ImGui::IsMouseDragging(1)) view.pan(static_cast<double>(-io.MouseDelta.x / area.width));
    if (hovered && ImGui::IsMouseDown(0) && io.MousePos.x >= area.left) {
        if (!view.drag_to(bench.session, area.time(io.MousePos.x)) && ImGui::IsMouseClicked(0))
            bench.session.say("a live machine has no way back; open a recording to go to a moment", desk::Tone::Quiet);
    }
}

}  // namespace

void draw(TimelinePanel& panel, desk::Workbench& bench, const Look& look) {
    desk::TimelineView& view = bench.timeline;
    const float names = 24 * look.character;
    const ImVec2 place = ImGui::GetCursorScreenPos();
    const float whole = ImGui::GetContentRegionAvail().x - 14 * look.scale;
    const Area area{place.x + names, std::max(20.0F, whole - names), view.first_ns(), view.last_ns()};
    view.set_bins(static_cast<std::size_t>(area.width / look.scale));
    draw_axis(look, area, place);
    ImGui::Dummy({whole, look.row});
    const Rows rows(look, "lanes", view.lanes().size(), panel.scroll);
    for (u64 i = rows.first(); i < rows.last(); ++i) {
        if (i % 2 == 1) rows.fill(i, look.theme.stripe);
        draw_lane(rows, i, view.lanes()[i], area);
    }
    const float bottom = ImGui::GetWindowPos().y + ImGui::GetWindowSize().y;
    const float now = area.x(static_cast<double>(view.now_ns()));
    if (now >= area.left && now <= area.left + area.width)
        rows.list().AddRectFilled({now, place.y + look.row}, {now + std::max(1.0F, look.scale), bottom},
                                  look.theme.cursor);
    if (view.lanes().empty())
        rows.list().AddText({place.x + 4, place.y + look.row + 6}, look.theme.quiet,
                            view.waiting() ? "\u2026" : "no events yet: they are told of while the machine runs");
    const bool hovered = ImGui::IsWindowHovered();
    mouse(bench, area, hovered);
    const auto row = rows.hovered();
    if (!row || ImGui::GetIO().MousePos.x < area.left || ImGui::IsMouseDown(0)) return;
    const desk::EventRow* event = view.nearest(*row, area.time(ImGui::GetIO().MousePos.x));
    if (event)
        ImGui::SetTooltip("%s s  %s\n%s", desk::time_text(event->time_ns).c_str(), view.lanes()[*row].title.c_str(),
                          desk::event_text(*event).c_str());
}

}  // namespace vg::gui
