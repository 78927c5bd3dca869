#include "ui/model/desk/script.h"

#include <fmt/format.h>

#include <charconv>

namespace vg::desk {

namespace {

constexpr double kWait_s = 60, kExpect_s = 10, kBetween_s = 5;
constexpr std::size_t kMaxLines = 100'000;

double seconds_since(Script::Clock::time_point since, Script::Clock::time_point now) {
    return std::chrono::duration<double>(now - since).count();
}

std::pair<std::string, std::string> split_word(std::string_view text) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::size_t rest = std::min(text.find_first_not_of(' ', end), text.size());
    return {std::string(text.substr(0, end)), std::string(text.substr(rest))};
}

std::string trimmed(std::string_view line) {
    const std::size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) return {};
    return std::string(line.substr(begin, line.find_last_not_of(" \t\r") + 1 - begin));
}

}  // namespace

Result<Script> Script::parse(std::string_view text, std::string name) {
    Script script;
    script.name_ = std::move(name);
    unsigned number = 0;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string line = trimmed(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        ++number;
        if (line.empty() || line[0] == '#') continue;
        const std::string word = split_word(line).first;
        if (word != "wait" && word != "expect" && word != "expect-not" && !find_command(word))
            return fail(Error::Code::Usage,
                        fmt::format("{}:{}: there is no command '{}'", script.name_, number, shown(word)));
        if (script.lines_.size() >= kMaxLines)
            return fail(Error::Code::Usage, fmt::format("{}: more than {} lines", script.name_, kMaxLines));
        script.lines_.push_back({number, line});
    }
    return script;
}

Script::Outcome Script::fail_with(std::string why) {
    failure_ = fmt::format("{}:{}: {}", name_, next_ < lines_.size() ? lines_[next_].number : 0, why);
    return Outcome::Failed;
}

Script::State Script::step(Workbench& bench, Clock::time_point now) {
    while (next_ < lines_.size()) {
        if (!since_) since_ = now;
        const std::string& line = lines_[next_].text;
        const Outcome outcome = run(bench, line, now);
        if (outcome == Outcome::Failed) return State::Failed;
        if (outcome == Outcome::Wait) return State::Running;
        ++next_;
        since_.reset();
        return next_ == lines_.size() && bench.wishes.screenshot.empty() ? State::Passed : State::Running;
    }
    return bench.wishes.screenshot.empty() ? State::Passed : State::Running;
}

Script::Outcome Script::run(Workbench& bench, const std::string& line, Clock::time_point now) {
    const auto [word, rest] = split_word(line);
    if (word == "wait") return wait(bench, rest, now);
    if (word == "expect") return expect(bench, rest, true, now);
    if (word == "expect-not") return expect(bench, rest, false, now);
    // What earlier lines asked for is there first: a person would wait for it too.
    if (bench.session.attached() && !bench.settled() && seconds_since(*since_, now) < kBetween_s) return Outcome::Wait;
    const auto done = run_command(bench, line);
    return done ? Outcome::Done : fail_with(done.error().text);
}

Script::Outcome Script::wait(Workbench& bench, const std::string& what, Clock::time_point now) {
    const auto [state, text] = split_word(what);
    double limit = kWait_s;
    if (!text.empty()) {
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
        if (error != std::errc() || end != text.data() + text.size() || !(limit >= 0))
            return fail_with(fmt::format("'{}' is not a number of seconds", shown(text)));
    }
    const double waited = seconds_since(*since_, now);
    if (state == "seconds") return waited >= limit ? Outcome::Done : Outcome::Wait;
    bool reached = false;
    if (state == "stopped")
        reached = bench.session.ready() && !bench.session.running();
    else if (state == "settled")
        reached = bench.settled();
    else if (state == "ready")
        reached = bench.session.ready();
    else
        return fail_with("write: wait stopped, wait settled, wait ready or wait seconds N");
    if (reached) return Outcome::Done;
    if (!bench.session.trouble().empty()) return fail_with(bench.session.trouble());
    return waited < limit ? Outcome::Wait : fail_with(fmt::format("not {} after {} seconds", state, limit));
}

Script::Outcome Script::expect(Workbench& bench, const std::string& what, bool wanted, Clock::time_point now) {
    const std::size_t in = what.rfind(" in ");
    const auto panel = in == std::string::npos ? std::nullopt : panel_by_id(trimmed(what.substr(in + 4)));
    if (!panel) return fail_with("write: expect TEXT in PANEL");
    const std::string text = trimmed(what.substr(0, in));
    bench.layout.show(*panel);
    bool found = false;
    for (const std::string& line : bench.view(*panel).text()) found = found || line.find(text) != std::string::npos;
    if (wanted && found) return Outcome::Done;
    if (!wanted && !found && bench.settled() && seconds_since(*since_, now) > 0.05) return Outcome::Done;
    if (seconds_since(*since_, now) < kExpect_s) return Outcome::Wait;
    const std::string problem = bench.view(*panel).problem();
    return fail_with(fmt::format("'{}' is {} in {}{}", shown(text), wanted ? "not" : "still", panel_row(*panel).id,
                                 problem.empty() ? "" : " (" + problem + ")"));
}

}  // namespace vg::desk
