// Scripts of the desktop debugger: the commands of its menus, and waiting and looking.
#pragma once

#include "ui/model/desk/commands.h"

namespace vg::desk {

/// One line a command. Beside those of commands():
///   wait stopped [SECONDS]          until the machine stands        wait settled [SECONDS]  until every panel in front
///   is up to date wait ready [SECONDS]            until a machine is open         wait seconds N          so long
///   expect TEXT in PANEL            the panel, brought to the front, shows the text within ten seconds
///   expect-not TEXT in PANEL        it is up to date and does not
///   # comment
class Script {
  public:
    using Clock = Session::Clock;
    enum class State : u8 { Running, Passed, Failed };

    /// Error (Usage) with the line: something that is no command.
    static Result<Script> parse(std::string_view text, std::string name);
    /// Goes on as far as possible. Once a frame, behind Workbench::update. A `screenshot` ends the step, so that the
    /// frame is drawn first.
    State step(Workbench& bench, Clock::time_point now);
    /// Why it failed: "file:line: ...".
    [[nodiscard]] const std::string& failure() const { return failure_; }

  private:
    struct Line {
        unsigned number = 0;
        std::string text;
    };
    enum class Outcome : u8 { Done, Wait, Failed };
    Outcome run(Workbench& bench, const std::string& line, Clock::time_point now);
    Outcome wait(Workbench& bench, const std::string& what, Clock::time_point now);
    Outcome expect(Workbench& bench, const std::string& what, bool wanted, Clock::time_point now);
    Outcome fail_with(std::string why);

    std::string name_, failure_;
    std::vector<Line> lines_;
    std::size_t next_ = 0;
    std::optional<Clock::time_point> since_;  ///< the line that waits began
};

}  // namespace vg::desk
