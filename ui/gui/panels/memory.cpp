#include <fmt/format.h>
#include <imgui.h>
#include <imgui_stdlib.h>

#include "ui/gui/panels/panels.h"

namespace vg::gui {

namespace {

void draw_row(const Rows& rows, u64 row, u64 address, const desk::MemoryView& view) {
    const Look& look = rows.look();
    const float c = look.character;
    rows.text(row, 0.5F * c, look.theme.quiet, fmt::format("{:016x}", address));
    char characters[desk::MemoryView::kRowBytes];
    for (unsigned i = 0; i < desk::MemoryView::kRowBytes; ++i) {
        const desk::MemoryView::Byte byte = view.byte(address + i);
        const float x = (18.5F + static_cast<float>(i) * 3 + (i >= 8 ? 1 : 0)) * c;
        const bool marked = address + i == view.marked();
        if (marked)
            rows.list().AddRectFilled({rows.left() + x - c / 2, rows.y(row)},
                                      {rows.left() + x + 2.5F * c, rows.y(row) + look.row}, look.theme.selection);
        const bool present = byte.known == desk::MemoryView::Known::Present;
        const ImU32 colour = byte.changed                  ? look.theme.changed
                             : !present || byte.value == 0 ? look.theme.quiet
                                                           : look.theme.text;
        constexpr char kDigits[] = "0123456789abcdef";
        const char text[] = {present                                         ? kDigits[byte.value >> 4]
                             : byte.known == desk::MemoryView::Known::Absent ? '?'
                                                                             : '.',
                             present                                         ? kDigits[byte.value & 15]
                             : byte.known == desk::MemoryView::Known::Absent ? '?'
                                                                             : '.'};
        rows.text(row, x, colour, {text, 2});
        characters[i] = present && byte.value >= 0x20 && byte.value < 0x7f ? static_cast<char>(byte.value) : '.';
    }
    rows.text(row, 68.5F * c, look.theme.accent, {characters, sizeof characters});
}

/// The byte under the mouse.
std::optional<u64> byte_at(const Rows& rows, u64 row_address) {
    const float x = (ImGui::GetIO().MousePos.x - rows.left()) / rows.look().character;
    for (unsigned i = 0; i < desk::MemoryView::kRowBytes; ++i) {
        const float at = 18 + static_cast<float>(i) * 3 + (i >= 8 ? 1 : 0);
        if (x >= at && x < at + 3) return row_address + i;
    }
    return {};
}

}  // namespace

void draw(MemoryPanel& panel, desk::Workbench& bench, const Look& look) {
    desk::MemoryView& view = bench.memory;
    ImGui::SetNextItemWidth(13 * look.character);
    if (ImGui::BeginCombo("##space", std::string(desk::space_name(view.space())).c_str())) {
        for (const desk::Space space : {desk::Space::Linear, desk::Space::Physical, desk::Space::Machine})
            if (ImGui::Selectable(std::string(desk::space_name(space)).c_str(), space == view.space()))
                view.set_space(space);
        ImGui::EndCombo();
    }
    ImGui::SameLine();
    if (text_field(look, "##address", panel.address, "address, symbol or register",
                   ImGuiInputTextFlags_EnterReturnsTrue)) {
        bench.resolve(panel.address, [&bench](u64 address) { bench.go_to_memory(bench.memory.space(), address); });
    }
    if (const std::string problem = view.problem(); !problem.empty()) note(look, problem, desk::Tone::Warning);
    const Rows rows(look, "bytes", kEndless, panel.scroll);
    if (rows.wheel() != 0) view.scroll(rows.wheel());
    view.set_visible(rows.visible());
    for (u64 i = rows.first(); i < rows.last(); ++i)
        draw_row(rows, i, view.top() + i * desk::MemoryView::kRowBytes, view);
    if (const auto row = rows.clicked()) {
        if (const auto byte = byte_at(rows, view.top() + (*row - rows.first()) * desk::MemoryView::kRowBytes))
            view.mark(*byte);
    }
}

}  // namespace vg::gui
