#include <fmt/format.h>

#include "ui/gui/panels/panels.h"

namespace vg::gui {

namespace {

float lane_x(const Look& look, const Rows& rows, unsigned lane) {
    return rows.left() + look.character * (1.6F + 0.9F * static_cast<float>(desk::kMaxJumpLanes - 1 - lane));
}

void draw_arrows(const Rows& rows, const desk::DisassemblyView& view, u64 selected_line) {
    const Look& look = rows.look();
    ImDrawList& list = rows.list();
    const float code = rows.left() + look.character * (1.6F + 0.9F * desk::kMaxJumpLanes);
    const float thick = std::max(1.0F, look.scale);
    for (const desk::JumpArrow& arrow : view.arrows()) {
        const u64 low = std::min(arrow.from, arrow.to), high = std::max(arrow.from, arrow.to);
        if (high < rows.first() || low >= rows.last()) continue;
        const bool lit = arrow.from == selected_line || arrow.to == selected_line;
        const ImU32 colour = lit ? look.theme.cursor : look.theme.line;
        const auto middle = [&](u64 row) { return std::floor(rows.y(row) + look.row / 2); };
        const float x = std::floor(lane_x(look, rows, arrow.lane));
        const float top = std::max(middle(low), rows.y(rows.first())),
                    bottom = std::min(middle(high), rows.y(rows.last()));
        list.AddRectFilled({x, top}, {x + thick, bottom}, colour);
        for (const u64 row : {static_cast<u64>(arrow.from), static_cast<u64>(arrow.to)}) {
            if (row < rows.first() || row >= rows.last()) continue;
            list.AddRectFilled({x, middle(row)}, {code, middle(row) + thick}, colour);
        }
        if (arrow.to >= rows.first() && arrow.to < rows.last()) {
            const float size = 3.5F * look.scale, y = middle(arrow.to) + thick / 2;
            list.AddTriangleFilled({code - size, y - size}, {code + size, y}, {code - size, y + size}, colour);
        }
    }
}

void draw_line(const Rows& rows, u64 row, const desk::CodeLine& line, const desk::Workbench& bench) {
    const Look& look = rows.look();
    const float address = look.character * (3.2F + 0.9F * desk::kMaxJumpLanes);
    const float code = address + 18 * look.character;
    const bool here = bench.disassembly.rip() == line.address;
    if (const desk::BreakRow* rule = bench.breakpoints.at(line.address)) {
        const float size = look.row * 0.28F;
        const ImVec2 centre(rows.left() + look.character * 0.8F, rows.y(row) + look.row / 2);
        if (rule->enabled)
            rows.list().AddCircleFilled(centre, size, look.theme.bad, 10);
        else
            rows.list().AddCircle(centre, size, look.theme.bad, 10);
    }
    rows.text(row, address - look.character * 1.2F, look.theme.cursor, here ? "\u25b6" : "");
    rows.text(row, address + 0.3F * look.character, here ? look.theme.cursor : look.theme.quiet,
              fmt::format("{:016x}", line.address), code - look.character);
    const std::size_t space = line.text.find(' ');
    const float operands = code + 9 * look.character;
    const bool jump = line.target.has_value();
    rows.text(row, code, jump ? look.theme.warning : look.theme.text, line.text.substr(0, space));
    const float end = space == std::string::npos
                          ? code
                          : rows.text(row, std::max(operands, code + static_cast<float>(space + 1) * look.character),
                                      look.theme.text, line.text.substr(space + 1));
    if (!line.symbol.empty())
        rows.text(row, std::max(end + 2 * look.character, code + 38 * look.character), look.theme.accent, line.symbol);
    else if (rows.width() > code + 70 * look.character)
        rows.text(row, code + 44 * look.character, look.theme.line, line.bytes);
}

void menu(desk::Workbench& bench, u64 address) {
    const auto item = [&](const char* id, const std::string& argument) {
        const desk::Command* command = desk::find_command(id);
        const std::string no = command->refusal(bench);
        if (ImGui::MenuItem(std::string(command->title).c_str(), std::string(command->key).c_str(), false,
                            no.empty())) {
            if (const auto done = desk::run_command(bench, std::string(id) + " " + argument); !done)
                bench.session.say(done.error().text, desk::Tone::Bad);
        }
        if (!no.empty() && ImGui::IsItemHovered(ImGuiHoveredFlags_AllowWhenDisabled))
            ImGui::SetTooltip("%s", no.c_str());
    };
    item("run-to", desk::hex(address));
    item("break", desk::hex(address));
    item("memory", "linear " + desk::hex(address));
    item("walk", desk::hex(address));
    item("block", desk::hex(address));
}

}  // namespace

void draw(DisassemblyPanel& panel, desk::Workbench& bench, const Look& look) {
    desk::DisassemblyView& view = bench.disassembly;
    if (excuse(look, view, view.lines().empty())) return;
    panel.scroll.top = static_cast<double>(view.top());
    const Rows rows(look, "code", view.lines().size(), panel.scroll);
    view.set_visible(rows.visible());
    const s64 moved = static_cast<s64>(panel.scroll.top) - static_cast<s64>(view.top());
    if (moved != 0 || rows.wheel() != 0) view.scroll(moved != 0 ? moved : rows.wheel(), rows.visible());
    u64 selected_line = ~u64{0};
    const u64 selected = view.selected().value_or(view.rip().value_or(0));
    for (u64 i = rows.first(); i < rows.last(); ++i) {
        if (view.lines()[i].address != selected) continue;
        selected_line = i;
        rows.fill(i, look.theme.selection);
    }
    draw_arrows(rows, view, selected_line);
    for (u64 i = rows.first(); i < rows.last(); ++i) draw_line(rows, i, view.lines()[i], bench);
    if (const auto hovered = rows.hovered()) {
        const desk::CodeLine& line = view.lines()[*hovered];
        const bool margin = ImGui::GetIO().MousePos.x < rows.left() + 1.6F * look.character;
        if (rows.clicked() && margin)
            bench.breakpoints.toggle(bench.session, line.address);
        else if (rows.clicked() || rows.clicked(1))
            view.select(line.address);
        if (rows.double_clicked() && !margin && line.target) bench.go_to_code(*line.target);
        if (rows.clicked(1)) ImGui::OpenPopup("line");
    }
    if (ImGui::BeginPopup("line")) {
        menu(bench, view.selected().value_or(0));
        ImGui::EndPopup();
    }
}

}  // namespace vg::gui
