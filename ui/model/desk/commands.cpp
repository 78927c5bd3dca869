#include "ui/model/desk/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>

namespace vg::desk {

namespace {

using Done = Result<void>;

Unexpected<Error> mistake(std::string text) { return fail(Error::Code::Usage, std::move(text)); }

// ---- when they can be done

std::string always(const Workbench&) { return {}; }
std::string attached(const Workbench& b) {
    return b.session.ready() && b.session.trouble().empty() ? "" : "no machine is open";
}
std::string stopped(const Workbench& b) {
    if (const std::string none = attached(b); !none.empty()) return none;
    return b.session.running() ? "the machine runs; stop it first" : "";
}
std::string can_run(const Workbench& b) {
    if (const std::string no = stopped(b); !no.empty()) return no;
    return b.session.ended() && b.session.live() ? "the run has ended: " + b.session.outcome() : "";
}
std::string runs(const Workbench& b) {
    if (const std::string none = attached(b); !none.empty()) return none;
    return b.session.running() ? "" : "the machine stands";
}
std::string can_reverse(const Workbench& b) {
    if (const std::string no = stopped(b); !no.empty()) return no;
    return b.session.reverse()
               ? ""
               : "a live machine has no way back; record the run (run --record FILE) and open the recording";
}
std::string live(const Workbench& b) {
    if (const std::string no = attached(b); !no.empty()) return no;
    return b.session.live() ? "" : "what happens in a recording has happened: nothing can be changed";
}
std::string way_back(const Workbench& b) { return b.navigation.can_go_back() ? "" : "nowhere to go back to"; }
std::string way_ahead(const Workbench& b) { return b.navigation.can_go_forward() ? "" : "nowhere to go forward to"; }

// ---- helpers

std::pair<std::string, std::string> head_and_rest(std::string_view text) {
    const std::size_t begin = std::min(text.find_first_not_of(" \t"), text.size());
    const std::size_t end = std::min(text.find_first_of(" \t", begin), text.size());
    const std::size_t rest = std::min(text.find_first_not_of(" \t", end), text.size());
    const std::size_t last = text.find_last_not_of(" \t\r");
    return {std::string(text.substr(begin, end - begin)),
            rest < text.size() ? std::string(text.substr(rest, last + 1 - rest)) : ""};
}

u64 pointed_at(const Workbench& b) {
    const VpRow* vp = b.session.focused();
    return b.disassembly.selected().value_or(vp ? vp->rip : 0);
}

/// "1.5s", "20ms", "#1000" (instructions), or nanoseconds.
Result<Json> moment_request(const std::string& text) {
    if (!text.empty() && text[0] == '#') {
        const auto count = parse_number(text.substr(1), false);
        if (!count) return mistake(fmt::format("'{}': write #INSTRUCTIONS", text));
        return Json{{"op", "goto"}, {"instructions", *count}};
    }
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const std::string unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    const double scale = unit == "s"                    ? 1e9
                         : unit == "ms"                 ? 1e6
                         : unit == "us"                 ? 1e3
                         : unit == "ns" || unit.empty() ? 1
                                                        : 0;
    if (error != std::errc() || scale == 0 || !(value >= 0) || value * scale > 1.8e19)
        return mistake(fmt::format("'{}': write 1.5s, 20ms, NANOSECONDS or #INSTRUCTIONS", text));
    return Json{{"op", "goto"}, {"time", static_cast<u64>(value * scale)}};
}

Done with_panel(const std::string& id, const std::function<void(Panel)>& then) {
    const auto panel = panel_by_id(id);
    if (!panel) return mistake(fmt::format("there is no panel '{}'", shown(id)));
    then(*panel);
    return {};
}

Done break_number(Workbench& b, const std::string& text, const std::function<void(u32)>& then) {
    const auto number = parse_number(text, false);
    if (!number || *number > 0xffffffff) return mistake("give a breakpoint's number");
    (void)b;
    then(static_cast<u32>(*number));
    return {};
}

// ---- what they do

Done step(Workbench& b, const std::string& argument, const char* op, bool over, const char* what) {
    u64 count = 1;
    if (!argument.empty()) {
        const auto given = parse_number(argument, false);
        if (!given || *given == 0) return mistake("give a number of steps");
        count = *given;
    }
    b.disassembly.follow();
    b.session.move(for_focus(b.session, {{"op", op}, {"count", count}, {"over", over}}), what);
    return {};
}
Done step_in(Workbench& b, const std::string& a) { return step(b, a, "step", false, "stepping"); }
Done step_over(Workbench& b, const std::string& a) { return step(b, a, "step", true, "stepping over"); }
Done back_step(Workbench& b, const std::string& a) { return step(b, a, "reverse_step", false, "stepping back"); }
Done back_over(Workbench& b, const std::string& a) { return step(b, a, "reverse_step", true, "stepping back over"); }
Done step_out(Workbench& b, const std::string&) {
    const auto caller = b.stack.frame_address(1);
    if (!caller) {
        b.layout.show(Panel::Stack);
        return mistake("the caller is not known; the stack panel shows the call stack once it was read");
    }
    b.disassembly.follow();
    b.run_to(*caller);
    return {};
}
Done proceed(Workbench& b, const std::string&) {
    b.disassembly.follow();
    b.session.move({{"op", "continue"}}, "running");
    return {};
}
Done proceed_back(Workbench& b, const std::string&) {
    b.disassembly.follow();
    b.session.move({{"op", "reverse_continue"}}, "running back");
    return {};
}
Done run_to(Workbench& b, const std::string& argument) {
    if (argument.empty()) {
        b.run_to(pointed_at(b));
        return {};
    }
    b.resolve(argument, [&b](u64 address) { b.run_to(address); });
    return {};
}
Done go_to_moment(Workbench& b, const std::string& argument) {
    auto request = moment_request(argument);
    if (!request) return mistake(request.error().text);
    b.disassembly.follow();
    b.session.move(
        *request, "going to " + argument,
        has_number(*request, "instructions") ? std::optional<u64>(number(*request, "instructions")) : std::nullopt);
    return {};
}
Done last_write(Workbench& b, const std::string& argument) {
    const auto [place, size_text] = head_and_rest(argument);
    const auto size = size_text.empty() ? std::optional<u64>(8) : parse_number(size_text, false);
    if (!size || *size == 0) return mistake("write ADDRESS [SIZE]");
    const Space space = b.memory.space();
    const auto ask = [&b, size, space](u64 address) {
        b.disassembly.follow();
        b.session.move(
            for_focus(b.session,
                      {{"op", "last_write"}, {"space", space_name(space)}, {"address", hex(address)}, {"size", *size}}),
            "looking for the last write");
    };
    if (place.empty())
        ask(b.memory.marked());
    else
        b.resolve(place, ask);
    return {};
}
Done stop(Workbench& b, const std::string&) {
    b.session.interrupt();
    return {};
}

Done toggle_break(Workbench& b, const std::string& argument) {
    if (argument.empty())
        b.breakpoints.toggle(b.session, pointed_at(b));
    else
        b.resolve(argument, [&b](u64 address) { b.breakpoints.toggle(b.session, address); });
    return {};
}
Done add_break(Workbench& b, const std::string& argument) { return b.breakpoints.add(b.session, argument); }
Done remove_break(Workbench& b, const std::string& a) {
    return break_number(b, a, [&b](u32 number) { b.breakpoints.remove(b.session, number); });
}
Done enable_break(Workbench& b, const std::string& a) {
    return break_number(b, a, [&b](u32 number) { b.breakpoints.enable(b.session, number, true); });
}
Done disable_break(Workbench& b, const std::string& a) {
    return break_number(b, a, [&b](u32 number) { b.breakpoints.enable(b.session, number, false); });
}

Done go_code(Workbench& b, const std::string& argument) {
    b.resolve(argument, [&b](u64 address) { b.go_to_code(address); });
    return {};
}
Done go_memory(Workbench& b, const std::string& argument) {
    const auto [first, rest] = head_and_rest(argument);
    const auto space = parse_space(first);
    b.resolve(space ? rest : first,
              [&b, wanted = space.value_or(b.memory.space())](u64 address) { b.go_to_memory(wanted, address); });
    return {};
}
Done go_walk(Workbench& b, const std::string& argument) {
    b.resolve(argument, [&b](u64 address) { b.go_to_walk(address); });
    return {};
}
Done go_rip(Workbench& b, const std::string&) {
    b.layout.show(Panel::Disassembly);
    b.disassembly.follow();
    return {};
}
Done go_block(Workbench& b, const std::string& argument) {
    b.layout.show(Panel::Translator);
    b.resolve(argument, [&b](u64 address) { b.translator.go_to(address); });
    return {};
}
Done go_back(Workbench& b, const std::string&) {
    b.go_back();
    return {};
}
Done go_forward(Workbench& b, const std::string&) {
    b.go_forward();
    return {};
}
Done look_at(Workbench& b, const std::string& argument) {
    const auto [first, second] = head_and_rest(argument);
    const auto partition = parse_number(first, false),
               vp = second.empty() ? std::optional<u64>(0) : parse_number(second, false);
    if (!partition || !vp) return mistake("write PARTITION [VP]");
    for (const PartitionRow& row : b.session.partitions())
        for (const VpRow& each : row.vps)
            if (row.id == *partition && each.index == *vp) {
                b.look_at({*partition, each.index});
                return {};
            }
    return mistake(fmt::format("there is no VP {} in a partition {}", *vp, *partition));
}

Done set_register(Workbench& b, const std::string& argument) {
    const auto [name, text] = head_and_rest(argument);
    const auto value = parse_number(text, true);
    if (name.empty() || !value) return mistake("write REGISTER VALUE (hexadecimal)");
    b.session.change(for_focus(b.session, {{"op", "set_registers"}, {"values", {{name, hex(*value)}}}}));
    return {};
}
Done poke(Workbench& b, const std::string& argument) {
    const auto [place, data] = head_and_rest(argument);
    const auto bytes = parse_hex(data, 4096);
    if (place.empty() || bytes.empty() || std::find(bytes.begin(), bytes.end(), -1) != bytes.end())
        return mistake("write ADDRESS HEX-BYTES");
    std::string digits;
    for (const int byte : bytes) digits += fmt::format("{:02x}", byte);
    b.resolve(place, [&b, digits, space = b.memory.space()](u64 address) {
        b.session.change(for_focus(
            b.session, {{"op", "write"}, {"space", space_name(space)}, {"address", hex(address)}, {"data", digits}}));
    });
    return {};
}
Done type_text(Workbench& b, const std::string& argument) {
    std::string text;
    for (std::size_t i = 0; i < argument.size(); ++i) {
        const bool escape = argument[i] == '\\' && i + 1 < argument.size();
        const char next = escape ? argument[++i] : argument[i];
        text += !escape ? next : next == 'n' ? '\n' : next == 't' ? '\t' : next;
    }
    b.console.type(b.session, text);
    return {};
}
Done explain(Workbench& b, const std::string& argument) {
    b.layout.show(Panel::Messages);
    b.session.ask(for_focus(b.session, {{"op", "explain"}, {"what", argument}}), [&b](Result<Json> answer) {
        if (!answer) return b.session.say(shown(answer.error().text, 400), Tone::Bad);
        const Json& text = answer->is_object() ? member(*answer, "text") : *answer;
        std::string_view rest =
            text.is_string() ? std::string_view(text.get_ref<const std::string&>()) : std::string_view();
        for (unsigned lines = 0; !rest.empty() && lines < 200; ++lines) {
            const std::size_t end = std::min(rest.find('\n'), rest.size());
            b.session.say(shown(rest.substr(0, end), 400));
            rest.remove_prefix(std::min(end + 1, rest.size()));
        }
    });
    return {};
}

Done show_panel(Workbench& b, const std::string& a) {
    return with_panel(a, [&b](Panel panel) { b.layout.show(panel); });
}
Done close_panel(Workbench& b, const std::string& a) {
    return with_panel(a, [&b](Panel panel) { b.layout.close(panel); });
}
Done use_layout(Workbench& b, const std::string& argument) {
    auto layout = Layout::preset(argument);
    if (!layout) return mistake("layouts are: debug, protocol, everything");
    b.layout = std::move(*layout);
    return {};
}
Done save_layout(Workbench& b, const std::string& argument) {
    std::ofstream out(argument);
    out << arrangement_toml(b.settings, b.layout);
    out.close();
    return out ? Done() : Done(mistake(fmt::format("{} cannot be written", shown(argument))));
}
Done load_layout(Workbench& b, const std::string& argument) {
    std::ifstream in(argument, std::ios::binary);
    std::string text(256 << 10, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    if (text.empty()) return mistake(fmt::format("{} cannot be read", shown(argument)));
    auto read = parse_arrangement(text);
    if (!read) return mistake(shown(argument) + ": " + read.error().text);
    b.layout = std::move(read->layout);
    b.settings = std::move(read->settings);
    return {};
}
Done set_theme(Workbench& b, const std::string& argument) {
    if (argument.empty())
        b.settings.theme = b.settings.theme == "dark" ? "light" : "dark";
    else if (argument == "dark" || argument == "light")
        b.settings.theme = argument;
    else
        return mistake("themes are: dark, light");
    return {};
}
Done set_scale(Workbench& b, const std::string& argument) {
    double scale = 0;
    const auto [end, error] = std::from_chars(argument.data(), argument.data() + argument.size(), scale);
    if (error != std::errc() || end != argument.data() + argument.size() ||
        static_cast<double>(known_scale(scale)) != scale)
        return mistake("scales are: 1, 1.25, 1.5, 2");
    b.settings.scale = known_scale(scale);
    return {};
}

Done filter(Workbench& b, const std::string& argument) {
    const auto [id, text] = head_and_rest(argument);
    const auto panel = panel_by_id(id);
    if (panel == Panel::Hypercalls)
        b.hypercalls.table().set_filter(text);
    else if (panel == Panel::Events)
        b.all_events.table().set_filter(text);
    else if (panel == Panel::Devices)
        b.devices.set_filter(text);
    else if (panel == Panel::Iommu)
        b.iommu.events().set_filter(text);
    else if (panel == Panel::Synic)
        b.synic.events().set_filter(text);
    else
        return mistake("write PANEL TEXT; panels with a filter are hypercalls, events, devices, iommu, synic");
    return {};
}
Done follow_request(Workbench& b, const std::string& argument) {
    b.layout.show(Panel::Vmbus);
    return b.vmbus.follow_text(argument) ? Done()
                                         : Done(mistake(fmt::format("no request with '{}' was seen", shown(argument))));
}
Done vmbus_channel(Workbench& b, const std::string& argument) {
    const auto channel = parse_number(argument, false);
    if (!channel && !argument.empty()) return mistake("give a channel's number, or nothing for all");
    b.vmbus.set_channel(channel);
    return {};
}
Done timeline_all(Workbench& b, const std::string&) {
    b.timeline.show_all();
    return {};
}
Done timeline_window(Workbench& b, const std::string& argument) {
    const std::size_t dots = argument.find("..");
    if (dots == std::string::npos) return mistake("write FROM..TO, for example 1.2s..1.3s");
    const auto from = moment_request(argument.substr(0, dots)), to = moment_request(argument.substr(dots + 2));
    if (!from || !to || !has_number(*from, "time") || !has_number(*to, "time"))
        return mistake("write FROM..TO, for example 1.2s..1.3s");
    b.timeline.show(static_cast<double>(number(*from, "time")), static_cast<double>(number(*to, "time")));
    return {};
}

Done open_target(Workbench& b, const std::string& argument) {
    if (argument.empty()) {
        b.wishes.open_dialog = true;
        return {};
    }
    return b.open(argument);
}
Done close_machine(Workbench& b, const std::string&) {
    b.session.detach();
    b.events.clear();
    return {};
}
Done screenshot(Workbench& b, const std::string& argument) {
    b.wishes.screenshot = argument;
    return {};
}
Done show_palette(Workbench& b, const std::string&) {
    b.wishes.palette = true;
    return {};
}
Done quit(Workbench& b, const std::string&) {
    b.wishes.quit = true;
    return {};
}

}  // namespace

const std::vector<Command>& commands() {
    static const std::vector<Command> kCommands = {
        {"open", "Open\u2026", "File", "Ctrl+O", "[MACHINE.toml, RECORDING, SNAPSHOT or unix:SOCKET]", always,
         open_target},
        {"close-machine", "Close machine", "File", "", "", attached, close_machine},
        {"screenshot", "Save picture of the window\u2026", "File", "", "FILE.png", always, screenshot},
        {"quit", "Quit", "File", "Ctrl+Q", "", always, quit},
        {"continue", "Continue", "Run", "F5", "", can_run, proceed},
        {"stop", "Stop", "Run", "F6", "", runs, stop},
        {"step", "Step", "Run", "F11", "[COUNT]", can_run, step_in},
        {"step-over", "Step over", "Run", "F10", "[COUNT]", can_run, step_over},
        {"step-out", "Step out", "Run", "Ctrl+F11", "", can_run, step_out},
        {"run-to", "Run to line", "Run", "Ctrl+F10", "[ADDRESS]", can_run, run_to},
        {"reverse-continue", "Continue backwards", "Run", "Shift+F5", "", can_reverse, proceed_back},
        {"reverse-step", "Step backwards", "Run", "Shift+F11", "[COUNT]", can_reverse, back_step},
        {"reverse-step-over", "Step over backwards", "Run", "Shift+F10", "[COUNT]", can_reverse, back_over},
        {"goto", "Go to moment\u2026", "Run", "Ctrl+T", "TIME or #INSTRUCTIONS", can_reverse, go_to_moment},
        {"last-write", "Go to last write of memory", "Run", "Ctrl+W", "[ADDRESS [SIZE]]", can_reverse, last_write},
        {"break", "Toggle breakpoint at line", "Break", "F9", "[ADDRESS]", attached, toggle_break},
        {"break-add", "Add breakpoint\u2026", "Break", "Ctrl+B",
         "ADDRESS, watch ADDRESS [SIZE] [rw], or EVENT [FIELD=VALUE]", attached, add_break},
        {"break-remove", "Remove breakpoint\u2026", "Break", "", "NUMBER", attached, remove_break},
        {"break-enable", "Enable breakpoint\u2026", "Break", "", "NUMBER", attached, enable_break},
        {"break-disable", "Disable breakpoint\u2026", "Break", "", "NUMBER", attached, disable_break},
        {"code", "Code at\u2026", "Go", "Ctrl+G", "ADDRESS, SYMBOL or REGISTER", attached, go_code},
        {"memory", "Memory at\u2026", "Go", "Ctrl+M", "[linear, physical or machine] ADDRESS", attached, go_memory},
        {"walk", "Page walk of\u2026", "Go", "Ctrl+K", "ADDRESS", attached, go_walk},
        {"block", "Translated block at\u2026", "Go", "", "ADDRESS", attached, go_block},
        {"rip", "Code at RIP", "Go", "Ctrl+R", "", attached, go_rip},
        {"back", "Back", "Go", "Alt+Left", "", way_back, go_back},
        {"forward", "Forward", "Go", "Alt+Right", "", way_ahead, go_forward},
        {"vp", "Look at VP\u2026", "Go", "", "PARTITION [VP]", attached, look_at},
        {"explain", "Explain\u2026", "Go", "Ctrl+E", "[WHAT]", attached, explain},
        {"set", "Set register\u2026", "Machine", "", "REGISTER VALUE", live, set_register},
        {"poke", "Write memory\u2026", "Machine", "", "ADDRESS HEX-BYTES", live, poke},
        {"type", "Type into the console\u2026", "Machine", "", "TEXT", live, type_text},
        {"filter", "Filter panel\u2026", "View", "", "PANEL TEXT", always, filter},
        {"follow", "Follow VMBus request\u2026", "View", "", "TEXT", attached, follow_request},
        {"channel", "Only VMBus channel\u2026", "View", "", "[NUMBER]", attached, vmbus_channel},
        {"timeline", "Timeline from\u2026to\u2026", "View", "", "FROM..TO", attached, timeline_window},
        {"timeline-all", "Whole timeline", "View", "Ctrl+0", "", attached, timeline_all},
        {"palette", "Command palette", "View", "Ctrl+P", "", always, show_palette},
        {"panel", "Show panel\u2026", "", "", "PANEL", always, show_panel},
        {"close", "Close panel\u2026", "", "", "PANEL", always, close_panel},
        {"layout", "Use layout\u2026", "View", "", "debug, protocol or everything", always, use_layout},
        {"layout-save", "Save layout to file\u2026", "View", "", "FILE", always, save_layout},
        {"layout-load", "Load layout from file\u2026", "View", "", "FILE", always, load_layout},
        {"theme", "Light or dark", "View", "", "[dark or light]", always, set_theme},
        {"scale", "Scale\u2026", "View", "", "1, 1.25, 1.5 or 2", always, set_scale},
    };
    return kCommands;
}

const Command* find_command(std::string_view id) {
    for (const Command& command : commands())
        if (command.id == id) return &command;
    return nullptr;
}

Result<void> run_command(Workbench& bench, std::string_view line) {
    const auto [id, argument] = head_and_rest(line);
    const Command* command = find_command(id);
    if (!command) return mistake(fmt::format("there is no command '{}'", shown(id)));
    if (const std::string no = command->refusal(bench); !no.empty())
        return mistake(fmt::format("{}: {}", command->id, no));
    const bool wants = !command->argument.empty() && command->argument[0] != '[';
    if (wants && argument.empty())
        return mistake(fmt::format("{}: write {} {}", command->id, command->id, command->argument));
    if (command->argument.empty() && !argument.empty())
        return mistake(fmt::format("{}: takes no argument", command->id));
    const auto done = command->run(bench, argument);
    return done ? Result<void>() : Result<void>(mistake(fmt::format("{}: {}", command->id, done.error().text)));
}

int match_score(std::string_view text, std::string_view typed) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    int score = 0, run = 0;
    std::size_t at = 0;
    for (const char wanted : typed) {
        if (wanted == ' ') {
            run = 0;
            continue;
        }
        const std::size_t before = at;
        while (at < text.size() && lower(text[at]) != lower(wanted)) ++at;
        if (at == text.size()) return -1;
        const bool start = at == 0 || text[at - 1] == ' ' || text[at - 1] == '-';
        run = at == before ? run + 1 : 1;
        score += (start ? 8 : 0) + run * 2 - static_cast<int>(std::min<std::size_t>(at - before, 5));
        ++at;
    }
    return std::max(0, score * 4 - static_cast<int>(std::min<std::size_t>(text.size(), 100)) / 4);
}

std::vector<PaletteRow> palette(std::string_view typed) {
    std::vector<PaletteRow> rows;
    for (const Command& command : commands()) {
        const int score = std::max(match_score(command.title, typed), match_score(command.id, typed));
        if (score >= 0) rows.push_back({&command, Panel::Count, std::string(command.title), score});
    }
    for (std::size_t i = 0; i < kPanels; ++i) {
        const auto panel = static_cast<Panel>(i);
        const std::string title = fmt::format("Panel: {}", panel_row(panel).title);
        const int score = std::max(match_score(title, typed), match_score(panel_row(panel).title, typed));
        if (score >= 0) rows.push_back({nullptr, panel, title, score});
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [](const PaletteRow& a, const PaletteRow& b) { return a.score > b.score; });
    return rows;
}

}  // namespace vg::desk
