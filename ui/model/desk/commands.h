// Every command of the desktop debugger: menus, keys, the palette and scripts all come from one table.
#pragma once

#include "ui/model/desk/workbench.h"

namespace vg::desk {

struct Command {
    std::string_view id;        ///< what scripts write
    std::string_view title;     ///< what menus say
    std::string_view menu;      ///< "File", ...; "": only in the palette
    std::string_view key;       ///< "Ctrl+P"; "": none
    std::string_view argument;  ///< what it wants, "": nothing; "[...]" may be left out
    /// Why it cannot be done now; empty: it can.
    std::string (*refusal)(const Workbench&);
    /// Error (Usage): the argument makes no sense.
    Result<void> (*run)(Workbench&, const std::string& argument);
};

[[nodiscard]] const std::vector<Command>& commands();
/// Null: there is none.
[[nodiscard]] const Command* find_command(std::string_view id);
/// Runs a line: a command's id and its argument. Error (Usage): unknown, refused, or what the command said.
[[nodiscard]] Result<void> run_command(Workbench& bench, std::string_view line);

/// A line of the palette.
struct PaletteRow {
    const Command* command = nullptr;
    Panel panel = Panel::Count;  ///< not Count: shows this panel
    std::string title;
    int score = 0;
};
/// How well a text matches what is typed: letters in order, better together and at the starts of words. Negative: not
/// at all.
[[nodiscard]] int match_score(std::string_view text, std::string_view typed);
/// Commands and panels that match, best first.
[[nodiscard]] std::vector<PaletteRow> palette(std::string_view typed);

}  // namespace vg::desk
