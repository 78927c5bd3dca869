#include "ui/gui/widgets/rows.h"

#include <imgui.h>
#include <imgui_stdlib.h>

#include <algorithm>
#include <cmath>

namespace vg::gui {

namespace {

constexpr const char* kDots = "\u2026";

float width_of(const ImFont& font, const char* text) { return font.CalcTextSizeA(font.FontSize, 1e9F, 0, text).x; }

/// How much of a text goes before the ellipsis in `room` pixels, and its width; all of it if none is needed.
struct Cut {
    const char* end;
    float width;
};
Cut cut(const ImFont& font, std::string_view text, float room) {
    const char* first = text.data();
    const char* last = first + text.size();
    const char* rest = nullptr;
    const float width = font.CalcTextSizeA(font.FontSize, room, 0, first, last, &rest).x;
    if (rest == last) return {last, width};
    const float less = room - width_of(font, kDots);
    if (less < 0) return {first, 0};
    const float part = font.CalcTextSizeA(font.FontSize, less, 0, first, last, &rest).x;
    return {rest, part};
}

}  // namespace

float fitted_text(ImDrawList& list, const ImFont& font, ImVec2 place, ImU32 colour, std::string_view text, float room) {
    if (text.empty() || room <= 0) return 0;
    const Cut fits = cut(font, text, room);
    if (fits.end > text.data()) list.AddText(&font, font.FontSize, place, colour, text.data(), fits.end);
    if (fits.end == text.data() + text.size()) return fits.width;
    if (room >= width_of(font, kDots))
        list.AddText(&font, font.FontSize, {place.x + fits.width, place.y}, colour, kDots);
    return room;
}

std::string fitted(const ImFont& font, std::string_view text, float room) {
    const char* end = text.empty() ? text.data() : cut(font, text, room).end;
    if (end == text.data() + text.size()) return std::string(text);
    return std::string(text.data(), end) + kDots;
}

Rows::Rows(const Look& look, const char* id, u64 count, Scroll& scroll, float height, float indent) : look_(&look) {
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, {0, 0});
    ImGui::BeginChild(id, {0, height}, false, ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
    ImGui::PopStyleVar();
    list_ = ImGui::GetWindowDrawList();
    origin_ = ImGui::GetCursorScreenPos();
    origin_.x += indent;
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const float bar = 10 * look.scale;
    width_ = std::max(1.0F, room.x - indent - bar - 2 * look.scale);
    visible_ = static_cast<std::size_t>(std::max(1.0F, std::floor(room.y / look.row)));
    if (count == kEndless) scroll.top = 0;
    const double most = count == kEndless ? 1 : count > visible_ ? static_cast<double>(count - visible_) : 0;
    const bool hovered = ImGui::IsWindowHovered();
    if (hovered && ImGui::GetIO().MouseWheel != 0) {
        wheel_ = static_cast<int>(std::lround(-ImGui::GetIO().MouseWheel * 3));
        scroll.top += wheel_;
        scroll.at_end = false;
    }
    if (hovered && !ImGui::GetIO().WantTextInput) {
        const auto key = [](ImGuiKey which) { return ImGui::IsKeyPressed(ImGui::GetKeyIndex(which)); };
        const double page = static_cast<double>(std::max<std::size_t>(visible_, 2) - 1);
        const double before = scroll.top;
        if (key(ImGuiKey_PageDown)) scroll.top += page;
        if (key(ImGuiKey_PageUp)) scroll.top -= page;
        if (key(ImGuiKey_Home)) scroll.top = 0;
        if (key(ImGuiKey_End)) scroll.top = most;
        if (scroll.top != before) {
            wheel_ = static_cast<int>(std::clamp(scroll.top - before, -1e6, 1e6));
            scroll.at_end = false;
        }
    }
    if (count == kEndless) scroll.top = 0;
    if (scroll.follow_end && scroll.at_end) scroll.top = most;
    scroll.top = std::clamp(scroll.top, 0.0, most);
    if (scroll.top >= most) scroll.at_end = true;
    if (count > visible_ && count != kEndless) scrollbar(scroll, count, room.y);
    top_ = std::floor(scroll.top);
    first_ = static_cast<u64>(top_);
    const bool any = room.y >= look.row;  // a row that would be cut is not drawn
    last_ = any ? std::min<u64>(count, first_ + visible_) : first_;
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    if (hovered && mouse.x >= origin_.x - indent && mouse.x < right() + 2 && mouse.y >= origin_.y) {
        const u64 row = first_ + static_cast<u64>((mouse.y - origin_.y) / look.row);
        if (row < last_) hovered_ = row;
    }
}

Rows::~Rows() { ImGui::EndChild(); }

void Rows::scrollbar(Scroll& scroll, u64 count, float height) {
    const float bar = 10 * look_->scale;
    const ImVec2 place(origin_.x + width_ + 2 * look_->scale, origin_.y);
    ImGui::SetCursorScreenPos(place);
    ImGui::InvisibleButton("##bar", {bar, std::max(1.0F, height)});
    const double part = static_cast<double>(visible_) / static_cast<double>(count);
    const float thumb = std::max(static_cast<float>(height * part), 16 * look_->scale);
    const double most = static_cast<double>(count - visible_);
    if (ImGui::IsItemActive() && height > thumb) {
        const float y = ImGui::GetIO().MousePos.y - place.y - thumb / 2;
        scroll.top = std::clamp(static_cast<double>(y / (height - thumb)), 0.0, 1.0) * most;
        scroll.at_end = scroll.top >= most;
    }
    const float at = static_cast<float>(scroll.top / most) * (height - thumb);
    const bool lit = ImGui::IsItemHovered() || ImGui::IsItemActive();
    list_->AddRectFilled({place.x + 2 * look_->scale, place.y + at},
                         {place.x + bar - 2 * look_->scale, place.y + at + thumb},
                         lit ? look_->theme.quiet : look_->theme.line);
}

float Rows::y(u64 row) const { return origin_.y + static_cast<float>(static_cast<double>(row) - top_) * look_->row; }

std::optional<u64> Rows::clicked(int button) const { return ImGui::IsMouseClicked(button) ? hovered_ : std::nullopt; }
std::optional<u64> Rows::double_clicked() const { return ImGui::IsMouseDoubleClicked(0) ? hovered_ : std::nullopt; }

void Rows::fill(u64 row, ImU32 colour) const {
    list_->AddRectFilled({origin_.x, y(row)}, {right(), y(row) + look_->row}, colour);
}

float Rows::text(u64 row, float x, ImU32 colour, std::string_view text, float limit, bool sans) const {
    if (text.empty()) return x;
    const ImFont* font = sans ? look_->sans : look_->mono;
    const float end = origin_.x + (limit > 0 ? std::min(limit, width_) : width_);
    const ImVec2 place(origin_.x + x, std::floor(y(row) + (look_->row - font->FontSize) / 2));
    if (place.x >= end) return x;
    const float wide = fitted_text(*list_, *font, place, colour, text, end - place.x);
    return x + std::min(wide, end - place.x);
}

TableAnswer draw_table(const Look& look, const char* id, const desk::Table& table, TableState& state,
                       std::optional<u64> selected, float height) {
    TableAnswer answer;
    const auto& columns = table.columns();
    const float pad = 4 * look.scale;
    if (height <= 0) height = ImGui::GetContentRegionAvail().y + height;
    if (ImGui::GetContentRegionAvail().y < look.row) return answer;
    ImGui::PushID(id);
    const ImVec2 head = ImGui::GetCursorScreenPos();
    const float whole = ImGui::GetContentRegionAvail().x;
    float fixed = pad;
    unsigned open_columns = 0;
    for (const desk::Column& column : columns) {
        fixed += column.width > 0 ? column.width * look.character + pad : pad;
        open_columns += column.width > 0 ? 0 : 1;
    }
    // Columns that have no width of their own share what is left; where nothing is left they keep a little, and the
    // last ones are cut.
    const float rest =
        open_columns == 0
            ? 0
            : std::max((whole - 12 * look.scale - fixed) / static_cast<float>(open_columns), 28 * look.character);
    std::vector<float> edges{pad};
    for (const desk::Column& column : columns)
        edges.push_back(edges.back() + pad + (column.width > 0 ? column.width * look.character : rest));
    ImDrawList& list = *ImGui::GetWindowDrawList();
    list.AddRectFilled(head, {head.x + whole, head.y + look.row}, look.theme.header);
    for (std::size_t i = 0; i < columns.size(); ++i) {
        fitted_text(list, *look.sans,
                    {head.x + edges[i], std::floor(head.y + (look.row - look.sans->FontSize) / 2)}, look.theme.quiet,
                    columns[i].title, std::min(edges[i + 1] - pad, whole) - edges[i]);
    }
    ImGui::Dummy({whole, look.row - ImGui::GetStyle().ItemSpacing.y});
    const float room = std::min(height - look.row, ImGui::GetContentRegionAvail().y);
    if (room >= look.row) {
        const Rows rows(look, "rows", table.rows(), state.scroll, room);
        for (u64 row = rows.first(); row < rows.last(); ++row) {
            if (selected == row)
                rows.fill(row, look.theme.selection);
            else if (rows.hovered() == row)
                rows.fill(row, look.theme.hover);
            else if (row % 2 == 1)
                rows.fill(row, look.theme.stripe);
            for (std::size_t i = 0; i < columns.size() && edges[i] < rows.width(); ++i) {
                const desk::Cell cell = table.cell(row, i);
                rows.text(row, edges[i], look.theme.of(cell.tone), cell.text, edges[i + 1] - pad);
            }
        }
        answer.clicked = rows.clicked();
        answer.double_clicked = rows.double_clicked();
    }
    ImGui::PopID();
    return answer;
}

void note(const Look& look, std::string_view text, desk::Tone tone) {
    ImGui::PushStyleColor(ImGuiCol_Text, look.theme.of(tone));
    ImGui::PushTextWrapPos(0);
    ImGui::TextUnformatted(text.data(), text.data() + text.size());
    ImGui::PopTextWrapPos();
    ImGui::PopStyleColor();
}

bool excuse(const Look& look, const desk::View& view, bool empty) {
    const std::string problem = view.problem();
    if (!problem.empty()) {
        note(look, problem, desk::Tone::Warning);
        return true;
    }
    if (empty) note(look, view.waiting() ? "\u2026" : "nothing here");
    return empty;
}

void heading(const Look& look, std::string_view text, float room) {
    ImGui::PushStyleColor(ImGuiCol_Text, look.theme.quiet);
    const float all = ImGui::GetContentRegionAvail().x;
    ImGui::TextUnformatted(fitted(*look.sans, text, room > 0 ? std::min(room, all) : all).c_str());
    ImGui::PopStyleColor();
}

bool text_field(const Look& look, const char* id, std::string& text, std::string_view hint, int flags) {
    const float room = ImGui::GetContentRegionAvail().x;
    ImGui::SetNextItemWidth(room);
    const float inside = room - 2 * ImGui::GetStyle().FramePadding.x;
    return ImGui::InputTextWithHint(id, fitted(*look.sans, hint, inside).c_str(), &text, flags);
}

}  // namespace vg::gui
