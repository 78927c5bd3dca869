#include <fmt/format.h>

#include "ui/gui/panels/panels.h"

namespace vg::gui {

namespace {

/// A line of the list: a title, a register, or a named part of the one that is open.
struct Line {
    const desk::RegisterGroup* title = nullptr;
    const desk::RegisterRow* row = nullptr;
    std::optional<desk::BitField> bit;
};

std::vector<Line> lines_of(const RegistersPanel& panel, const desk::RegistersView& view) {
    std::vector<Line> lines;
    for (const desk::RegisterGroup& group : view.groups()) {
        if (group.rows.empty()) continue;
        lines.push_back({&group, nullptr, {}});
        for (const desk::RegisterRow& row : group.rows) {
            lines.push_back({nullptr, &row, {}});
            if (row.name != panel.open) continue;
            for (const desk::BitField& field : desk::bit_fields(row.name, row.value))
                lines.push_back({nullptr, nullptr, field});
        }
    }
    return lines;
}

void draw_bit(const Rows& rows, u64 row, const desk::BitField& bit) {
    const Look& look = rows.look();
    const std::string place = bit.high == bit.low ? std::to_string(bit.low) : fmt::format("{}:{}", bit.high, bit.low);
    rows.text(row, 3 * look.character, look.theme.quiet, place);
    const float end = rows.text(row, 9 * look.character, bit.value != 0 ? look.theme.accent : look.theme.quiet,
                                fmt::format("{} = {:x}", bit.name, bit.value));
    rows.text(row, std::max(end + look.character, 20 * look.character), look.theme.quiet, bit.meaning, 0, true);
}

void draw_register(const Rows& rows, u64 row, const desk::RegisterRow& line) {
    const Look& look = rows.look();
    if (line.changed) rows.text(row, 0, look.theme.changed, "\u2022");
    rows.text(row, 1.5F * look.character, look.theme.quiet, line.name);
    const float value = std::max(8.5F * look.character, (static_cast<float>(line.name.size()) + 2.5F) * look.character);
    const float end = rows.text(row, value, line.changed ? look.theme.changed : look.theme.text, line.text);
    rows.text(row, end + look.character, look.theme.accent, desk::bit_summary(line.name, line.value));
}

}  // namespace

void draw(RegistersPanel& panel, desk::Workbench& bench, const Look& look) {
    if (excuse(look, bench.registers, bench.registers.groups().empty())) return;
    const std::vector<Line> lines = lines_of(panel, bench.registers);
    const Rows rows(look, "registers", lines.size(), panel.scroll);
    for (u64 i = rows.first(); i < rows.last(); ++i) {
        const Line& line = lines[i];
        if (line.title) {
            rows.fill(i, look.theme.header);
            rows.text(i, 0.5F * look.character, look.theme.quiet, line.title->title, 0, true);
            continue;
        }
        if (rows.hovered() == i) rows.fill(i, look.theme.hover);
        if (line.bit)
            draw_bit(rows, i, *line.bit);
        else
            draw_register(rows, i, *line.row);
    }
    if (const auto hovered = rows.hovered(); hovered && lines[*hovered].row) {
        const desk::RegisterRow& row = *lines[*hovered].row;
        const bool parts = !desk::bit_fields(row.name, row.value).empty();
        if (row.text.size() > 18 || parts) {
            ImGui::SetTooltip("%s = %s%s", row.name.c_str(), row.text.c_str(),
                              parts ? "\nclick: its bits by name" : "");
        }
        if (rows.clicked() && parts) panel.open = panel.open == row.name ? std::string() : row.name;
        if (rows.double_clicked() && !parts) bench.go_to_memory(desk::Space::Linear, row.value);
    }
}

}  // namespace vg::gui
