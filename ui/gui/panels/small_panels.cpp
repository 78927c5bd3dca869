// Panels that are tables, texts and a field.
#include <fmt/format.h>
#include <imgui.h>
#include <imgui_stdlib.h>

#include "ui/gui/panels/panels.h"

namespace vg::gui {

namespace {

float part_of_room(float part) { return std::max(40.0F, ImGui::GetContentRegionAvail().y * part); }

}  // namespace

void draw(StackPanel& panel, desk::Workbench& bench, const Look& look) {
    if (const std::string problem = bench.stack.problem(); !problem.empty()) note(look, problem, desk::Tone::Warning);
    const TableAnswer frame = draw_table(look, "frames", bench.stack.frames(), panel.frames, {}, part_of_room(0.55F));
    if (frame.double_clicked) {
        if (const auto address = bench.stack.frame_address(*frame.double_clicked)) bench.go_to_code(*address);
    }
    const TableAnswer word = draw_table(look, "words", bench.stack.stack_words(), panel.words);
    if (word.double_clicked) {
        if (const auto address = bench.stack.word_address(*word.double_clicked))
            bench.go_to_memory(desk::Space::Linear, *address);
    }
}

void draw(BreakpointsPanel& panel, desk::Workbench& bench, const Look& look) {
    if (text_field(look, "##new", panel.text, "symbol, watch 0x\u2026 8 rw, hypercall control=0x5c, port port=0x3f8",
                   ImGuiInputTextFlags_EnterReturnsTrue)) {
        const auto added = bench.breakpoints.add(bench.session, panel.text);
        panel.mistake = added ? "" : added.error().text;
        if (added) panel.text.clear();
    }
    if (!panel.mistake.empty()) note(look, panel.mistake, desk::Tone::Bad);
    if (excuse(look, bench.breakpoints, bench.breakpoints.breaks().empty())) return;
    const auto& breaks = bench.breakpoints.breaks();
    const Rows rows(look, "rules", breaks.size(), panel.table.scroll);
    const float c = look.character;
    for (u64 i = rows.first(); i < rows.last(); ++i) {
        const desk::BreakRow& row = breaks[i];
        if (rows.hovered() == i) rows.fill(i, look.theme.hover);
        const ImVec2 centre(rows.left() + c, rows.y(i) + look.row / 2);
        if (row.enabled)
            rows.list().AddCircleFilled(centre, look.row * 0.28F, look.theme.bad, 10);
        else
            rows.list().AddCircle(centre, look.row * 0.28F, look.theme.bad, 10);
        rows.text(i, 2.5F * c, look.theme.quiet, std::to_string(row.number));
        rows.text(i, 6 * c, row.enabled ? look.theme.text : look.theme.quiet, row.text, rows.width() - 12 * c);
        rows.text(i, rows.width() - 11 * c, look.theme.quiet, fmt::format("{:>9} \u00d7", row.hits));
    }
    const auto hovered = rows.hovered();
    if (!hovered || *hovered >= breaks.size()) return;
    const desk::BreakRow& row = breaks[*hovered];
    ImGui::SetTooltip("%s\nclick the mark: on or off; Delete: remove; double click: show", row.text.c_str());
    if (rows.clicked() && ImGui::GetIO().MousePos.x < rows.left() + 2 * c)
        bench.breakpoints.enable(bench.session, row.number, !row.enabled);
    if (rows.double_clicked() && row.kind == "address") bench.go_to_code(desk::number(row.rule, "address"));
    if (ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Delete)) && !ImGui::GetIO().WantTextInput)
        bench.breakpoints.remove(bench.session, row.number);
}

void draw(ConsolePanel& panel, desk::Workbench& bench, const Look& look) {
    if (const std::string problem = bench.console.problem(); !problem.empty()) note(look, problem, desk::Tone::Warning);
    const bool can_type = bench.session.live() && bench.session.ready();
    const float field = can_type ? ImGui::GetFrameHeight() + ImGui::GetStyle().ItemSpacing.y : 0;
    {
        const Rows rows(look, "console", bench.console.console().lines(), panel.scroll, -field);
        for (u64 i = rows.first(); i < rows.last(); ++i)
            rows.text(i, 0.5F * look.character, look.theme.text, bench.console.console().line(i));
    }
    if (!can_type) return;
    if (text_field(look, "##type", panel.typed, "type here, Enter sends",
                   ImGuiInputTextFlags_EnterReturnsTrue)) {
        bench.console.type(bench.session, panel.typed + "\n");
        panel.typed.clear();
        ImGui::SetKeyboardFocusHere(-1);
    }
}

void draw(PartitionsPanel& panel, desk::Workbench& bench, const Look& look) {
    const TableAnswer answer = draw_table(look, "partitions", bench.partitions.grid(), panel.table);
    if (!answer.clicked) return;
    if (const auto vp = bench.partitions.vp_of(*answer.clicked)) bench.look_at(*vp);
}

void draw(WalkPanel& panel, desk::Workbench& bench, const Look& look) {
    desk::WalkView& view = bench.walk;
    if (text_field(look, "##address", panel.address, "linear address, symbol or register",
                   ImGuiInputTextFlags_EnterReturnsTrue))
        bench.resolve(panel.address, [&bench](u64 address) { bench.go_to_walk(address); });
    if (excuse(look, view, view.guest().rows() == 0 && view.verdict().empty())) return;
    if (view.address()) note(look, desk::hex(*view.address()), desk::Tone::Accent);
    note(look, view.verdict(), view.faulted() ? desk::Tone::Bad : desk::Tone::Good);
    heading(look, "the guest's tables (physical addresses)");
    const TableAnswer answer = draw_table(look, "guest", view.guest(), panel.guest, {}, part_of_room(0.5F));
    if (answer.double_clicked) {
        if (const auto place = view.entry_address(*answer.double_clicked))
            bench.go_to_memory(desk::Space::Physical, *place);
    }
    heading(look, view.second().rows() != 0 ? "second-level tables (machine addresses)" : "no second level");
    if (view.second().rows() != 0) draw_table(look, "second", view.second(), panel.second);
}

void draw(EventsPanel& panel, desk::EventsView& view, const Look& look) {
    if (text_field(look, "##filter", panel.table.filter, "filter")) view.table().set_filter(panel.table.filter);
    if (view.lost() != 0) note(look, fmt::format("{} older events were dropped", view.lost()));
    panel.table.scroll.follow_end = true;
    const TableAnswer answer = draw_table(look, "events", view.table(), panel.table, view.selected);
    if (answer.clicked) view.selected = answer.clicked;
}

void draw(SynicPanel& panel, desk::Workbench& bench, const Look& look) {
    desk::SynicView& view = bench.synic;
    if (view.sints().rows() == 0) {
        if (const std::string problem = view.problem(); !problem.empty())
            note(look, problem, desk::Tone::Warning);
        else
            note(look, view.waiting() ? "\u2026" : "this VP has no SynIC");
    } else {
        draw_table(look, "pages", view.pages(), panel.pages, {},
                   look.row * static_cast<float>(view.pages().rows() + 1));
        draw_table(look, "sints", view.sints(), panel.sints, {}, part_of_room(0.55F));
    }
    const TableAnswer answer = draw_table(look, "events", view.events(), panel.events, view.selected);
    if (answer.clicked) view.selected = answer.clicked;
}

void draw(VmbusPanel& panel, desk::Workbench& bench, const Look& look) {
    desk::VmbusView& view = bench.vmbus;
    const u64 channels = view.channels().rows();
    const TableAnswer channel = draw_table(look, "channels", view.channels(), panel.channels, {},
                                           std::min(look.row * static_cast<float>(std::clamp<u64>(channels, 1, 5) + 1),
                                                    part_of_room(0.35F)));
    if (channel.clicked) {
        const auto relid = desk::parse_number(view.channels().cell(*channel.clicked, 1).text, false);
        view.set_channel(relid);
    }
    const bool following = !view.followed_title().empty();
    const float room = ImGui::GetContentRegionAvail().y;
    panel.packets.scroll.follow_end = !view.selected;
    const TableAnswer packet =
        draw_table(look, "packets", view, panel.packets, view.selected, following ? room * 0.5F : room * 0.72F);
    if (packet.clicked) {
        view.selected = packet.clicked;
        view.follow(*packet.clicked);
    }
    if (following) {
        note(look, view.followed_title(), desk::Tone::Accent);
        draw_table(look, "followed", view.followed(), panel.followed);
    } else {
        draw_table(look, "messages", view.messages(), panel.messages);
    }
}

void draw(IommuPanel& panel, desk::Workbench& bench, const Look& look) {
    desk::IommuView& view = bench.iommu;
    if (view.grid().rows() == 0) {
        if (const std::string problem = view.problem(); !problem.empty())
            note(look, problem, desk::Tone::Quiet);
        else
            note(look, view.waiting() ? "\u2026" : "this machine has no IOMMU");
    } else {
        draw_table(look, "parts", view.grid(), panel.parts, {}, part_of_room(0.5F));
    }
    panel.events.scroll.follow_end = true;
    const TableAnswer answer = draw_table(look, "events", view.events(), panel.events, view.selected);
    if (answer.clicked) view.selected = answer.clicked;
}

void draw(DevicesPanel& panel, desk::Workbench& bench, const Look& look) {
    desk::TreeView& view = bench.devices;
    if (text_field(look, "##filter", panel.filter, "filter by path or value")) view.set_filter(panel.filter);
    if (panel.filter.empty() && view.filter() != panel.filter) panel.filter = view.filter();
    if (excuse(look, view, view.rows().empty())) return;
    std::string toggled;
    {
        const Rows rows(look, "tree", view.rows().size(), panel.scroll);
        const float c = look.character;
        const float values = std::min(30 * c, rows.width() * 0.5F);
        for (u64 i = rows.first(); i < rows.last(); ++i) {
            const desk::TreeRow& row = view.rows()[i];
            if (rows.hovered() == i) rows.fill(i, look.theme.hover);
            const float x = (0.5F + static_cast<float>(std::min(row.depth, 24U)) * 1.6F) * c;
            if (row.inner) rows.text(i, x, look.theme.quiet, row.open ? "\u25be" : "\u25b8");
            const float end = rows.text(i, x + 1.6F * c, row.inner ? look.theme.text : look.theme.quiet, row.name);
            rows.text(i, std::max(values, end + 2 * c), row.changed ? look.theme.changed : look.theme.accent,
                      row.value);
        }
        if (const auto clicked = rows.clicked(); clicked && view.rows()[*clicked].inner)
            toggled = view.rows()[*clicked].path;
        if (const auto hovered = rows.hovered()) ImGui::SetTooltip("%s", view.rows()[*hovered].path.c_str());
    }
    if (!toggled.empty()) view.toggle(toggled);
}

void draw(TranslatorPanel& panel, desk::Workbench& bench, const Look& look) {
    desk::TranslatorView& view = bench.translator;
    if (view.blocks().rows() == 0) {
        if (!excuse(look, view, false))
            note(look, view.waiting() ? "\u2026" : "no blocks are counted; run the machine with --count-blocks FILE");
    } else {
        const TableAnswer answer = draw_table(look, "blocks", view.blocks(), panel.blocks, {}, part_of_room(0.42F));
        if (answer.clicked) {
            if (const auto address = view.block_address(*answer.clicked)) view.go_to(*address);
        }
    }
    if (!view.block_problem().empty()) return note(look, view.block_problem(), desk::Tone::Quiet);
    if (!view.address()) return;
    const float half = std::min(ImGui::GetContentRegionAvail().x * 0.45F, 52 * look.character);
    heading(look, "guest code", half - look.character);
    ImGui::SameLine(half);
    heading(look, "host code");
    const Rows rows(look, "code", view.guest_code().size(), panel.code);
    for (u64 i = rows.first(); i < rows.last(); ++i) {
        if (!view.guest_code()[i].empty()) rows.fill(i, look.theme.stripe);
        rows.text(i, 0.5F * look.character, look.theme.text, view.guest_code()[i], half - look.character);
        rows.text(i, half, look.theme.accent, view.host_code()[i]);
    }
}

void draw(MessagesPanel& panel, desk::Workbench& bench, const Look& look) {
    const auto& messages = bench.session.messages();
    const Rows rows(look, "messages", messages.size(), panel.scroll);
    for (u64 i = rows.first(); i < rows.last(); ++i)
        rows.text(i, 0.5F * look.character, look.theme.of(messages[i].tone), messages[i].text, 0, true);
    if (const auto hovered = rows.hovered()) ImGui::SetTooltip("%s", messages[*hovered].text.c_str());
}

void Panels::draw(desk::Panel panel, desk::Workbench& bench, const Look& look) {
    using desk::Panel;
    switch (panel) {
        case Panel::Registers:
            return gui::draw(registers_, bench, look);
        case Panel::Disassembly:
            return gui::draw(disassembly_, bench, look);
        case Panel::Memory:
            return gui::draw(memory_, bench, look);
        case Panel::Stack:
            return gui::draw(stack_, bench, look);
        case Panel::Breakpoints:
            return gui::draw(breakpoints_, bench, look);
        case Panel::Console:
            return gui::draw(console_, bench, look);
        case Panel::Screen:
            return gui::draw(screen_, bench, look);
        case Panel::Timeline:
            return gui::draw(timeline_, bench, look);
        case Panel::Partitions:
            return gui::draw(partitions_, bench, look);
        case Panel::Walk:
            return gui::draw(walk_, bench, look);
        case Panel::Hypercalls:
            return gui::draw(hypercalls_, bench.hypercalls, look);
        case Panel::Synic:
            return gui::draw(synic_, bench, look);
        case Panel::Vmbus:
            return gui::draw(vmbus_, bench, look);
        case Panel::Iommu:
            return gui::draw(iommu_, bench, look);
        case Panel::Devices:
            return gui::draw(devices_, bench, look);
        case Panel::Translator:
            return gui::draw(translator_, bench, look);
        case Panel::Events:
            return gui::draw(events_, bench.all_events, look);
        case Panel::Messages:
            return gui::draw(messages_, bench, look);
        case Panel::Count:
            return;
    }
}

}  // namespace vg::gui
