#include "ui/gui/widgets/rows.h"

#include <imgui.h>
#include <imgui_stdlib.h>

#include <algorithm>
#include <cmath>

namespace vg::gui {

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
    last_ = std::min<u64>(count, first_ + visible_ + (count == kEndless ? 1 : 0));
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
    const float room = end - place.x;
    const char* first = text.data();
    const char* last = first + text.size();
    const char* rest = nullptr;
    const ImVec2 size = font->CalcTextSizeA(font->FontSize, room, 0, first, last, &rest);
    if (rest < last) {  // cut where characters end, with an ellipsis
        const float dots = font->CalcTextSizeA(font->FontSize, 1e9F, 0, "\u2026").x;
        const ImVec2 less = font->CalcTextSizeA(font->FontSize, std::max(0.0F, room - dots), 0, first, last, &rest);
        list_->AddText(font, font->FontSize, place, colour, first, rest);
        if (room >= dots) list_->AddText(font, font->FontSize, {place.x + less.x, place.y}, colour, "\u2026");
        return limit > 0 ? limit : width_;
    }
    list_->AddText(font, font->FontSize, place, colour, first, last);
    return x + size.x;
}

TableAnswer draw_table(const Look& look, const char* id, const desk::Table& table, TableState& state,
                       std::optional<u64> selected, float height) {
    TableAnswer answer;
    const auto& columns = table.columns();
    const float pad = 4 * look.scale;
    if (height <= 0) height = ImGui::GetContentRegionAvail().y + height;
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
        const ImVec4 clip(head.x + edges[i], head.y, std::min(head.x + edges[i + 1] - pad, head.x + whole),
                          head.y + look.row);
        if (clip.z > clip.x) {
            list.AddText(look.sans, look.sans->FontSize,
                         {clip.x, std::floor(head.y + (look.row - look.sans->FontSize) / 2)}, look.theme.quiet,
                         columns[i].title.c_str(), nullptr, 0, &clip);
        }
    }
    ImGui::Dummy({whole, look.row - ImGui::GetStyle().ItemSpacing.y});
    {
        const Rows rows(look, "rows", table.rows(), state.scroll, std::max(look.row, height - look.row));
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

void heading(const Look& look, std::string_view text) {
    ImGui::PushStyleColor(ImGuiCol_Text, look.theme.quiet);
    ImGui::TextUnformatted(text.data(), text.data() + text.size());
    ImGui::PopStyleColor();
}

bool filter_field(const Look& look, const char* id, std::string& text, const char* hint, float width) {
    ImGui::SetNextItemWidth(width > 0 ? width * look.character : -1.0F);
    return ImGui::InputTextWithHint(id, hint, &text);
}

}  // namespace vg::gui
