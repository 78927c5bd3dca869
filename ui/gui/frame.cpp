#include "ui/gui/frame.h"

#include <fmt/format.h>
#include <imgui.h>
#include <imgui_stdlib.h>

#include <algorithm>
#include <cmath>

#include "ui/gui/shortcuts.h"

namespace vg::gui {

namespace {

constexpr ImGuiWindowFlags kFixed = ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoMove |
                                    ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoBringToFrontOnFocus |
                                    ImGuiWindowFlags_NoNavFocus;
constexpr const char* kMenus[] = {"File", "Run", "Break", "Go", "Machine", "View"};

void begin_fixed(const char* name, desk::Rect rect) {
    ImGui::SetNextWindowPos({rect.x, rect.y});
    ImGui::SetNextWindowSize({std::max(1.0F, rect.width), std::max(1.0F, rect.height)});
    ImGui::Begin(name, nullptr, kFixed | ImGuiWindowFlags_NoScrollWithMouse);
}

}  // namespace

void Frame::invoke(const desk::Command& command, const std::string& argument) {
    const bool wants = !command.argument.empty() && command.argument[0] != '[';
    if (wants && argument.empty()) {
        if (const std::string no = command.refusal(bench_); !no.empty())
            return bench_.session.say(fmt::format("{}: {}", command.title, no), desk::Tone::Warning);
        prompt_for_ = std::string(command.id);
        argument_.clear();
        return;
    }
    const auto done = desk::run_command(
        bench_, argument.empty() ? std::string(command.id) : fmt::format("{} {}", command.id, argument));
    if (!done) bench_.session.say(done.error().text, desk::Tone::Warning);
}

bool Frame::key(const Shortcut& shortcut) {
    for (const desk::Command& command : desk::commands()) {
        if (command.key.empty() || parse_shortcut(command.key) != shortcut) continue;
        invoke(command, "");
        return true;
    }
    return false;
}

void Frame::menu_item(const desk::Command& command) {
    const std::string no = command.refusal(bench_);
    if (ImGui::MenuItem(std::string(command.title).c_str(), std::string(command.key).c_str(), false, no.empty()))
        invoke(command, "");
    if (!no.empty() && ImGui::IsItemHovered(ImGuiHoveredFlags_AllowWhenDisabled)) ImGui::SetTooltip("%s", no.c_str());
}

void Frame::menus(const Look&) {
    if (!ImGui::BeginMainMenuBar()) return;
    for (const char* menu : kMenus) {
        if (!ImGui::BeginMenu(menu)) continue;
        for (const desk::Command& command : desk::commands())
            if (command.menu == menu) menu_item(command);
        if (std::string_view(menu) == "View") {
            ImGui::Separator();
            for (const std::string_view name : desk::Layout::presets()) {
                if (ImGui::MenuItem(fmt::format("Layout: {}", name).c_str()))
                    bench_.layout = *desk::Layout::preset(name);
            }
            ImGui::Separator();
            for (const float scale : desk::kScales) {
                if (ImGui::MenuItem(fmt::format("Scale {:g}", scale).c_str(), nullptr, bench_.settings.scale == scale))
                    bench_.settings.scale = scale;
            }
        }
        ImGui::EndMenu();
    }
    if (ImGui::BeginMenu("Panels")) {
        for (std::size_t i = 0; i < desk::kPanels; ++i) {
            const auto panel = static_cast<desk::Panel>(i);
            const desk::PanelRow& row = desk::panel_row(panel);
            if (ImGui::MenuItem(std::string(row.title).c_str(), nullptr, bench_.layout.is_shown(panel)))
                bench_.layout.show(panel);
            if (ImGui::IsItemHovered()) ImGui::SetTooltip("%s", std::string(row.summary).c_str());
        }
        ImGui::EndMenu();
    }
    ImGui::EndMainMenuBar();
}

void Frame::tool(const Look& look, const char* id, const char* label) {
    const desk::Command& command = *desk::find_command(id);
    const std::string no = command.refusal(bench_);
    ImGui::BeginDisabled(!no.empty());
    if (ImGui::Button(label)) invoke(command, "");
    ImGui::EndDisabled();
    if (ImGui::IsItemHovered(ImGuiHoveredFlags_AllowWhenDisabled)) {
        const std::string text = fmt::format("{}{}{}{}", command.title, command.key.empty() ? "" : "  ", command.key,
                                             no.empty() ? "" : "\n" + no);
        ImGui::SetTooltip("%s", text.c_str());
    }
    ImGui::SameLine(0, 3 * look.scale);
}

void Frame::toolbar(const Look& look, float width) {
    const float menu = ImGui::GetFrameHeight();
    begin_fixed("##tools", {0, menu, width, ImGui::GetFrameHeight() + 8 * look.scale});
    const auto gap = [&] { ImGui::SameLine(0, 14 * look.scale); };
    tool(look, "continue", "\u25b6 Continue");
    tool(look, "stop", "\u25a0 Stop");
    gap();
    tool(look, "step", "\u2193 Step");
    tool(look, "step-over", "\u2192 Over");
    tool(look, "step-out", "\u2191 Out");
    gap();
    tool(look, "reverse-continue", "\u25c0 Continue");
    tool(look, "reverse-step", "\u25c0 Step");
    tool(look, "reverse-step-over", "\u25c0 Over");
    gap();
    tool(look, "back", "\u2039");
    tool(look, "forward", "\u203a");
    gap();
    const desk::VpRow* vp = bench_.session.focused();
    if (vp) {
        const desk::VpId focus = bench_.session.focus();
        std::string name;
        for (const desk::PartitionRow& row : bench_.session.partitions())
            if (row.id == focus.partition) name = row.name;
        const std::string text =
            fmt::format("partition {} {} \u2022 VP {} \u2022 {:#x}", focus.partition, name, focus.vp, vp->rip);
        ImGui::AlignTextToFramePadding();
        if (ImGui::CalcTextSize(text.c_str()).x <= ImGui::GetContentRegionAvail().x) heading(look, text);
    }
    ImGui::End();
}

namespace {

/// Titles in full where there is room; else the active one in full and the others with equal shares of the rest.
std::vector<float> tab_widths(const Look& look, const desk::LayoutNode& node, float whole) {
    std::vector<float> widths;
    float sum = 0;
    for (const desk::Panel panel : node.tabs) {
        const std::string title(desk::panel_row(panel).title);
        // Half a pixel more than the text, so that rounding cuts nothing.
        const float text = look.sans->CalcTextSizeA(look.sans->FontSize, 1e9F, 0, title.c_str()).x + 0.5F;
        widths.push_back(text + 16 * look.scale);
        sum += widths.back() + 1;
    }
    if (sum <= whole || widths.size() < 2) return widths;
    const float least = std::floor(whole / static_cast<float>(widths.size())) - 1;
    float open = static_cast<float>(widths.size() - 1);
    const float active = std::min(widths[node.active], std::max(least, whole - open * 30 * look.scale));
    // A short title leaves room to the long ones: they come in the order of their lengths.
    float left = whole - active - 1;
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < widths.size(); ++i)
        if (i != node.active) order.push_back(i);
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return widths[a] < widths[b]; });
    for (const std::size_t i : order) {
        widths[i] = std::min(widths[i], std::max(1.0F, std::floor(left / open) - 1));
        left -= widths[i] + 1;
        open -= 1;
    }
    widths[node.active] = active;
    return widths;
}

}  // namespace

bool Frame::tabs(const Look& look, desk::LayoutNode& node) {
    const ImVec2 place = ImGui::GetCursorScreenPos();
    const float whole = ImGui::GetContentRegionAvail().x;
    ImDrawList& list = *ImGui::GetWindowDrawList();
    const float height = look.row + 4 * look.scale;
    list.AddRectFilled(place, {place.x + whole, place.y + height}, look.theme.window);
    const std::vector<float> widths = tab_widths(look, node, whole);
    float x = place.x;
    for (std::size_t i = 0; i < node.tabs.size(); ++i) {
        const desk::Panel panel = node.tabs[i];
        const std::string title(desk::panel_row(panel).title);
        const float width = widths[i];
        ImGui::PushID(static_cast<int>(panel));
        ImGui::SetCursorScreenPos({x, place.y});
        if (ImGui::InvisibleButton("tab", {width, height})) node.active = i;
        if (ImGui::IsItemClicked(2)) close_ = panel;
        const bool hovered = ImGui::IsItemHovered();
        if (hovered)
            ImGui::SetTooltip("%s\ndrag: move or split; middle click: close",
                              std::string(desk::panel_row(panel).summary).c_str());
        if (ImGui::BeginDragDropSource()) {
            ImGui::SetDragDropPayload("panel", &panel, sizeof panel);
            ImGui::TextUnformatted(title.c_str());
            ImGui::EndDragDropSource();
        }
        if (ImGui::BeginDragDropTarget()) {
            if (const ImGuiPayload* payload = ImGui::AcceptDragDropPayload("panel"))
                move_ = {*static_cast<const desk::Panel*>(payload->Data), panel, {}, i};
            ImGui::EndDragDropTarget();
        }
        ImGui::PopID();
        const bool active = i == node.active;
        if (active) list.AddRectFilled({x, place.y}, {x + width, place.y + height}, look.theme.panel);
        if (active) list.AddRectFilled({x, place.y}, {x + width, place.y + 2 * look.scale}, look.theme.accent);
        if (hovered && !active) list.AddRectFilled({x, place.y}, {x + width, place.y + height}, look.theme.hover);
        const float text = look.sans->CalcTextSizeA(look.sans->FontSize, 1e9F, 0, title.c_str()).x;
        const float margin = std::clamp((width - text) / 2, 2 * look.scale, 8 * look.scale);
        fitted_text(list, *look.sans, {x + margin, std::floor(place.y + (height - look.sans->FontSize) / 2)},
                    active ? look.theme.text : look.theme.quiet, title, width - 2 * margin);
        x += width + 1;
    }
    ImGui::SetCursorScreenPos({place.x, place.y + height + 3 * look.scale});
    return true;
}

void Frame::drop_zone(const Look& look, const desk::LayoutNode& node) {
    const ImGuiPayload* dragged = ImGui::GetDragDropPayload();
    if (!dragged || !dragged->IsDataType("panel")) return;
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    const float top = node.rect.y + look.row + 8 * look.scale;
    const float x = (mouse.x - node.rect.x) / node.rect.width,
                y = (mouse.y - top) / (node.rect.y + node.rect.height - top);
    if (x < 0 || x > 1 || y < 0 || y > 1) return;
    const float sides[] = {x, 1 - x, y, 1 - y};
    const auto nearest = static_cast<std::size_t>(std::min_element(sides, sides + 4) - sides);
    const bool middle = sides[nearest] > 0.3F;
    desk::Rect zone = node.rect;
    if (!middle) {
        if (nearest < 2)
            zone.width /= 2;
        else
            zone.height /= 2;
        if (nearest == 1) zone.x += zone.width;
        if (nearest == 3) zone.y += zone.height;
    }
    ImGui::GetForegroundDrawList()->AddRectFilled({zone.x, zone.y}, {zone.x + zone.width, zone.y + zone.height},
                                                  look.theme.selection);
    if (!ImGui::IsMouseReleased(0)) return;
    const auto panel = *static_cast<const desk::Panel*>(dragged->Data);
    if (middle)
        move_ = {panel, node.tabs.front(), {}, node.tabs.size()};
    else
        move_ = {panel, node.tabs[node.active], static_cast<desk::Side>(nearest), 0};
}

void Frame::leaf(const Look& look, desk::LayoutNode& node, unsigned number) {
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, {0, 0});
    begin_fixed(fmt::format("##leaf{}", number).c_str(), node.rect);
    ImGui::PopStyleVar();
    tabs(look, node);
    const desk::Panel panel = node.tabs[node.active];
    const float pad = 3 * look.scale;
    ImGui::SetCursorPosX(pad);
    ImGui::PushID(static_cast<int>(panel));
    ImGui::BeginChild("panel", {node.rect.width - 2 * pad, -pad}, false,
                      ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
    if (!bench_.session.attached() && panel != desk::Panel::Messages)
        note(look, "no machine is open");
    else
        panels_.draw(panel, bench_, look);
    ImGui::EndChild();
    ImGui::PopID();
    ImGui::End();
    drop_zone(look, node);
}

void Frame::splitter(const Look& look, desk::LayoutNode& node, unsigned number) {
    const bool across = node.kind == desk::LayoutNode::Kind::Columns;
    const desk::Rect& a = node.first->rect;
    const float gap = across ? node.second->rect.x - a.x - a.width : node.second->rect.y - a.y - a.height;
    const desk::Rect bar =
        across ? desk::Rect{a.x + a.width, a.y, gap, a.height} : desk::Rect{a.x, a.y + a.height, a.width, gap};
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, {0, 0});
    ImGui::PushStyleVar(ImGuiStyleVar_WindowMinSize, {1, 1});
    ImGui::PushStyleColor(ImGuiCol_WindowBg, look.theme.window);
    begin_fixed(fmt::format("##split{}", number).c_str(), bar);
    ImGui::InvisibleButton("bar", {std::max(1.0F, bar.width), std::max(1.0F, bar.height)});
    if (ImGui::IsItemHovered() || ImGui::IsItemActive()) {
        ImGui::SetMouseCursor(across ? ImGuiMouseCursor_ResizeEW : ImGuiMouseCursor_ResizeNS);
        ImGui::GetWindowDrawList()->AddRectFilled({bar.x, bar.y}, {bar.x + bar.width, bar.y + bar.height},
                                                  look.theme.accent);
    }
    if (ImGui::IsItemActive()) {
        const ImVec2 mouse = ImGui::GetIO().MousePos;
        const float ratio =
            across ? (mouse.x - node.rect.x) / node.rect.width : (mouse.y - node.rect.y) / node.rect.height;
        node.ratio = std::clamp(ratio, desk::Layout::kLeastRatio, 1 - desk::Layout::kLeastRatio);
    }
    ImGui::End();
    ImGui::PopStyleColor();
    ImGui::PopStyleVar(2);
}

void Frame::node(const Look& look, desk::LayoutNode& node, unsigned& number) {
    const unsigned own = number++;
    if (node.kind == desk::LayoutNode::Kind::Tabs) {
        if (!node.tabs.empty()) leaf(look, node, own);
        return;
    }
    splitter(look, node, own);
    this->node(look, *node.first, number);
    this->node(look, *node.second, number);
}

void Frame::panes(const Look& look, desk::Rect room) {
    bench_.layout.place(room, std::max(2.0F, 4 * look.scale));
    unsigned number = 0;
    node(look, bench_.layout.root(), number);
    if (move_.panel != desk::Panel::Count) {
        if (move_.side)
            bench_.layout.split(move_.panel, move_.beside, *move_.side);
        else
            bench_.layout.move_to_tabs(move_.panel, move_.beside, move_.position);
        move_ = {};
    }
    if (close_ != desk::Panel::Count) bench_.layout.close(close_);
    close_ = desk::Panel::Count;
}

void Frame::status(const Look& look, desk::Rect room) {
    ImGui::PushStyleColor(ImGuiCol_WindowBg, look.theme.header);
    begin_fixed("##status", room);
    ImGui::PopStyleColor();
    desk::Session& session = bench_.session;
    const auto say = [&](const std::string& text, desk::Tone tone) {
        ImGui::PushStyleColor(ImGuiCol_Text, look.theme.of(tone));
        ImGui::TextUnformatted(fitted(*look.sans, text, ImGui::GetContentRegionAvail().x).c_str());
        ImGui::PopStyleColor();
        ImGui::SameLine(0, 16 * look.scale);
    };
    if (!session.attached())
        say("no machine", desk::Tone::Quiet);
    else if (!session.trouble().empty())
        say("connection lost", desk::Tone::Bad);
    else if (!session.ready())
        say("connecting\u2026", desk::Tone::Quiet);
    else if (session.running())
        say("\u25b6 running", desk::Tone::Good);
    else if (session.ended())
        say("\u25a0 " + session.outcome(), desk::Tone::Warning);
    else
        say("\u25a0 stopped", desk::Tone::Accent);
    if (session.ready()) {
        say(fmt::format("{} s", desk::time_text(session.now().time_ns)), desk::Tone::Plain);
        say(fmt::format("{} instructions", session.now().instructions), desk::Tone::Quiet);
        say(session.live() ? "live" : session.kind(), desk::Tone::Quiet);
    }
    const auto progress = session.progress();
    if (progress && std::chrono::steady_clock::now() - progress->since > std::chrono::milliseconds(300)) {
        ImGui::SetNextItemWidth(24 * look.character);
        const float part = progress->part >= 0 ? progress->part : 0;
        ImGui::ProgressBar(part, {24 * look.character, look.row},
                           progress->part < 0 ? progress->what.c_str() : nullptr);
        ImGui::SameLine();
        if (ImGui::SmallButton("Cancel")) session.interrupt();
        ImGui::SameLine(0, 16 * look.scale);
    }
    if (!look.font_note.empty())
        say(look.font_note, desk::Tone::Warning);
    else if (!session.messages().empty())
        say(session.messages().back().text, session.messages().back().tone);
    ImGui::End();
}

void Frame::welcome(const Look& look, desk::Rect room) {
    begin_fixed("##welcome", room);
    ImGui::SetCursorPos({room.width * 0.25F, room.height * 0.25F});
    ImGui::BeginGroup();
    note(look, "Verdigris", desk::Tone::Accent);
    note(look,
         "Open a machine's description (.toml), a recording or a snapshot, or attach to a machine that runs with "
         "--control unix:SOCKET.",
         desk::Tone::Plain);
    ImGui::Dummy({1, look.row / 2});
    if (ImGui::Button("Open\u2026  (Ctrl+O)")) bench_.wishes.open_dialog = true;
    ImGui::Dummy({1, look.row / 2});
    note(look, "Every command: Ctrl+P");
    if (!bench_.session.messages().empty()) {
        ImGui::Dummy({1, look.row / 2});
        note(look, bench_.session.messages().back().text, bench_.session.messages().back().tone);
    }
    ImGui::EndGroup();
    ImGui::End();
}

void Frame::palette(const Look& look) {
    if (bench_.wishes.palette) {
        bench_.wishes.palette = false;
        typed_.clear();
        chosen_ = 0;
        ImGui::OpenPopup("palette");
    }
    const ImGuiViewport& window = *ImGui::GetMainViewport();
    ImGui::SetNextWindowPos({window.Size.x / 2, 60 * look.scale}, ImGuiCond_Always, {0.5F, 0});
    ImGui::SetNextWindowSize({std::min(window.Size.x * 0.8F, 80 * look.character), 0});
    if (!ImGui::BeginPopup("palette")) return;
    if (ImGui::IsWindowAppearing()) ImGui::SetKeyboardFocusHere();
    ImGui::SetNextItemWidth(-1);
    const bool entered =
        ImGui::InputTextWithHint("##typed", "a command or a panel", &typed_, ImGuiInputTextFlags_EnterReturnsTrue);
    if (ImGui::IsItemEdited()) chosen_ = 0;
    const std::vector<desk::PaletteRow> rows = desk::palette(typed_);
    const int count = static_cast<int>(std::min<std::size_t>(rows.size(), 14));
    if (ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_DownArrow))) ++chosen_;
    if (ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_UpArrow))) --chosen_;
    chosen_ = std::clamp(chosen_, 0, std::max(0, count - 1));
    bool done = entered;
    if (ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Escape))) ImGui::CloseCurrentPopup();
    for (int i = 0; i < count; ++i) {
        const desk::PaletteRow& row = rows[static_cast<std::size_t>(i)];
        const std::string no = row.command ? row.command->refusal(bench_) : std::string();
        const std::string label = fmt::format("{}##{}", row.title, i);
        if (ImGui::Selectable(label.c_str(), i == chosen_, no.empty() ? 0 : ImGuiSelectableFlags_Disabled)) {
            chosen_ = i;
            done = true;
        }
        const std::string right = row.command ? (no.empty() ? std::string(row.command->key) : no)
                                              : std::string(desk::panel_row(row.panel).summary);
        const float width = std::min(ImGui::CalcTextSize(right.c_str()).x, ImGui::GetContentRegionAvail().x * 0.7F);
        ImGui::SameLine(ImGui::GetWindowWidth() - width - 10 * look.scale);
        heading(look, right);
    }
    if (done) {
        ImGui::CloseCurrentPopup();
        if (count != 0) {
            const desk::PaletteRow& row = rows[static_cast<std::size_t>(chosen_)];
            if (row.command)
                invoke(*row.command, "");
            else
                bench_.layout.show(row.panel);
        } else if (!typed_.empty()) {
            if (const auto ran = desk::run_command(bench_, typed_); !ran)
                bench_.session.say(ran.error().text, desk::Tone::Warning);
        }
    }
    ImGui::EndPopup();
}

void Frame::prompt(const Look& look) {
    if (!prompt_for_.empty() && !prompting_) {
        ImGui::OpenPopup("argument");
        prompting_ = true;
    }
    const ImGuiViewport& window = *ImGui::GetMainViewport();
    ImGui::SetNextWindowPos({window.Size.x / 2, 60 * look.scale}, ImGuiCond_Always, {0.5F, 0});
    ImGui::SetNextWindowSize({std::min(window.Size.x * 0.8F, 70 * look.character), 0});
    if (!ImGui::BeginPopup("argument")) {
        if (prompting_) prompt_for_.clear();  // closed, by Enter or by a click elsewhere
        prompting_ = false;
        return;
    }
    const desk::Command* command = desk::find_command(prompt_for_);
    if (!command)
        ImGui::CloseCurrentPopup();
    else {
        heading(look, command->title);
        if (ImGui::IsWindowAppearing()) ImGui::SetKeyboardFocusHere();
        ImGui::SetNextItemWidth(-1);
        if (ImGui::InputTextWithHint("##argument", std::string(command->argument).c_str(), &argument_,
                                     ImGuiInputTextFlags_EnterReturnsTrue) &&
            !argument_.empty()) {
            prompt_for_.clear();
            ImGui::CloseCurrentPopup();
            invoke(*command, argument_);
        }
        if (ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Escape))) {
            prompt_for_.clear();
            ImGui::CloseCurrentPopup();
        }
    }
    ImGui::EndPopup();
}

void Frame::draw(const Look& look) {
    const ImVec2 size = ImGui::GetIO().DisplaySize;
    menus(look);
    toolbar(look, size.x);
    const float top = ImGui::GetFrameHeight() * 2 + 8 * look.scale, bottom = look.row + 8 * look.scale;
    const desk::Rect room{0, top, size.x, size.y - top - bottom};
    if (bench_.session.attached())
        panes(look, room);
    else
        welcome(look, room);
    status(look, {0, size.y - bottom, size.x, bottom});
    if (bench_.wishes.open_dialog) files_.open();
    bench_.wishes.open_dialog = false;
    if (const auto file = files_.draw(look)) {
        if (const auto opened = bench_.open(*file); !opened)
            bench_.session.say(desk::shown(opened.error().text, 400), desk::Tone::Bad);
    }
    palette(look);
    prompt(look);
}

}  // namespace vg::gui
