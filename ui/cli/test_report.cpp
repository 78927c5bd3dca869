#include "ui/cli/test_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "ui/cli/commands.h"

namespace vg::cli {

namespace {

/// Behind it: the signal that ended a process, as shells have it.
constexpr int kSignalled = 128;

/// The last lines of a console, for a person. @param indent  before each
std::string last_lines(const std::string& console, const std::string& indent) {
    constexpr std::size_t kLines = 10, kColumns = 200;
    const std::string text = printable(console);
    std::size_t from = text.size();
    while (from != 0 && text[from - 1] == '\n') --from;
    const std::size_t end = from;
    for (std::size_t lines = 0; from != 0 && lines < kLines; ++lines) {
        const std::size_t newline = text.rfind('\n', from - 1);
        from = newline == std::string::npos ? 0 : newline;
    }
    std::string out;
    for (std::size_t at = from; at < end;) {
        if (text[at] == '\n') ++at;
        const std::size_t next = std::min(text.find('\n', at), end);
        out += indent + text.substr(at, std::min(next - at, kColumns)) + "\n";
        at = next;
    }
    return out;
}

/// The last line that a run printed which gave no statistics: its error.
std::string last_message(const std::string& log) {
    std::size_t end = log.size();
    while (end != 0 && log[end - 1] == '\n') --end;
    const std::size_t line = end == 0 ? std::string::npos : log.rfind('\n', end - 1);
    const std::size_t from = line == std::string::npos ? 0 : line + 1;
    constexpr std::string_view kPrefix = "verdigris: ";
    std::string text = log.substr(from, end - from);
    if (text.rfind(kPrefix, 0) == 0) text.erase(0, kPrefix.size());
    return text;
}

std::string hashes_of(const std::vector<TestRun>& runs) {
    std::string out;
    for (std::size_t i = 0; i < runs.size(); ++i) {
        out += fmt::format("{}{}: {}", i == 0 ? "" : ", ", i + 1,
                           runs[i].state_hash.empty() ? "none" : runs[i].state_hash);
    }
    return out;
}

const char* word_of(TestResult::Kind kind) {
    switch (kind) {
        case TestResult::Kind::Pass:
            return "pass";
        case TestResult::Kind::Fail:
            return "FAILED";
        case TestResult::Kind::Skip:
            return "skipped";
        case TestResult::Kind::Interrupted:
            return "interrupted";
    }
    return "";
}

/// A string in double quotes: JSON's are YAML's.
std::string quoted(const std::string& text) { return nlohmann::json(printable(text)).dump(); }

/// '#' begins a directive there.
std::string tap_name(const std::string& name) {
    std::string out;
    for (const char c : printable(name)) {
        if (c == '#' || c == '\\') out += '\\';
        out += c == '\n' ? '?' : c;
    }
    return out;
}

}  // namespace

bool TestRun::comparable() const { return code != kWallLimit && code != kInterrupted && !state_hash.empty(); }

double TestResult::wall_seconds() const {
    double sum = 0;
    for (const TestRun& run : runs) sum += run.wall_seconds;
    return sum;
}
double TestResult::guest_seconds() const { return decisive() != nullptr ? decisive()->guest_seconds : 0; }

const TestRun* TestResult::decisive() const {
    if (runs.empty()) return nullptr;
    const auto expected = [&](const TestRun& run) { return run.code == static_cast<int>(test->test.exit_code); };
    const auto other = std::find_if_not(runs.begin(), runs.end(), expected);
    return other == runs.end() ? &runs.front() : &*other;
}

TestRun read_run(const Ending& ending, const std::string& stats, std::string console, std::string log) {
    TestRun run;
    run.code = ending.signal != 0 ? kSignalled + ending.signal : ending.code;
    run.wall_seconds = ending.seconds;
    run.console = std::move(console);
    run.log = std::move(log);
    const auto json = nlohmann::json::parse(stats, nullptr, false);
    if (json.is_object()) {
        const auto number = [&](const char* key) {
            return json.contains(key) && json[key].is_number() ? json[key].get<double>() : 0;
        };
        run.guest_seconds = number("guest_seconds");
        run.instructions = static_cast<unsigned long long>(number("instructions"));
        if (json.contains("state_hash") && json["state_hash"].is_string()) run.state_hash = json["state_hash"];
        if (json.contains("outcome") && json["outcome"].is_object() &&
            json["outcome"].value("verdict", nlohmann::json()).is_string()) {
            run.text = json["outcome"]["verdict"];
        }
    }
    if (ending.signal != 0)
        run.text = fmt::format("the run was ended by signal {} ({})", ending.signal, ::strsignal(ending.signal));
    if (run.text.empty()) run.text = last_message(run.log);
    return run;
}

TestResult judge(const TestCase& test, std::vector<TestRun> runs) {
    TestResult out;
    out.test = &test;
    out.runs = std::move(runs);
    const TestRun& run = *out.decisive();
    if (run.code == kInterrupted && test.test.exit_code != kInterrupted) {
        out.kind = TestResult::Kind::Interrupted;
        out.why = run.text;
    } else if (run.code != static_cast<int>(test.test.exit_code)) {
        out.kind = TestResult::Kind::Fail;
        out.own_fault = run.code == kUsage || run.code == kHostCannot || run.code == kDamaged || run.code == kOurBug ||
                        run.code > kSignalled;
        out.why =
            fmt::format("exit {}{}: {}", run.code,
                        test.test.exit_code == 0 ? "" : fmt::format(" instead of {}", test.test.exit_code), run.text);
    } else if (std::all_of(out.runs.begin(), out.runs.end(), [](const TestRun& each) { return each.comparable(); }) &&
               !test.differs && std::any_of(out.runs.begin(), out.runs.end(), [&](const TestRun& each) {
                   return each.state_hash != run.state_hash;
               })) {
        out.kind = TestResult::Kind::Fail;
        out.why = fmt::format("equal runs ended in different states ({})", hashes_of(out.runs));
    }
    return out;
}

std::string text_line(const TestResult& result) {
    std::string out = fmt::format("{:8} {}", word_of(result.kind), printable(result.test->name));
    if (!result.runs.empty()) {
        out += fmt::format("  (guest {:.3f} s, wall {:.2f} s{})", result.guest_seconds(), result.wall_seconds(),
                           result.runs.size() > 1 ? fmt::format(", {} runs", result.runs.size()) : "");
    }
    if (!result.why.empty()) out += ": " + printable(result.why);
    out += "\n";
    if (result.kind == TestResult::Kind::Fail && result.decisive() != nullptr)
        out += last_lines(result.decisive()->console, "    | ");
    return out;
}

std::string summary_line(const std::vector<TestResult>& results) {
    const auto count = [&](TestResult::Kind kind) {
        return std::count_if(results.begin(), results.end(),
                             [&](const TestResult& result) { return result.kind == kind; });
    };
    return fmt::format("{} passed, {} failed, {} skipped", count(TestResult::Kind::Pass), count(TestResult::Kind::Fail),
                       count(TestResult::Kind::Skip));
}

std::string tap_lines(const TestResult& result, std::size_t number) {
    const bool ok = result.kind == TestResult::Kind::Pass || result.kind == TestResult::Kind::Skip;
    std::string out = fmt::format("{} {} - {}", ok ? "ok" : "not ok", number, tap_name(result.test->name));
    if (result.kind == TestResult::Kind::Skip) return out + " # SKIP " + tap_name(result.why) + "\n";
    out += "\n  ---\n";
    if (!result.why.empty()) out += fmt::format("  message: {}\n", quoted(result.why));
    if (const TestRun* run = result.decisive()) {
        out += fmt::format("  exit_code: {}\n  guest_seconds: {:.6f}\n  wall_seconds: {:.3f}\n", run->code,
                           run->guest_seconds, result.wall_seconds());
        if (!run->state_hash.empty()) out += fmt::format("  state_hash: {}\n", quoted(run->state_hash));
        if (!ok && !run->console.empty()) out += "  console: |2\n" + last_lines(run->console, "    ");
    }
    return out + "  ...\n";
}

JunitCase junit_case(const TestResult& result) {
    JunitCase out;
    const std::string& name = result.test->name;
    const std::size_t slash = name.rfind('/');
    out.suite = slash == std::string::npos ? "verdigris" : name.substr(0, slash);
    out.name = slash == std::string::npos ? name : name.substr(slash + 1);
    out.seconds = result.wall_seconds();
    out.message = result.why;
    switch (result.kind) {
        case TestResult::Kind::Pass:
            break;
        case TestResult::Kind::Skip:
            out.result = JunitCase::Result::Skipped;
            break;
        case TestResult::Kind::Fail:
            out.result = result.own_fault ? JunitCase::Result::Error : JunitCase::Result::Failure;
            break;
        case TestResult::Kind::Interrupted:
            out.result = JunitCase::Result::Error;
            break;
    }
    out.properties = {{"file", result.test->file}};
    if (const TestRun* run = result.decisive()) {
        out.type = fmt::format("exit-{}", run->code);
        out.properties.emplace_back("exit_code", fmt::format("{}", run->code));
        out.properties.emplace_back("verdict", run->text);
        out.properties.emplace_back("guest_seconds", fmt::format("{:.9f}", run->guest_seconds));
        out.properties.emplace_back("instructions", fmt::format("{}", run->instructions));
        out.properties.emplace_back("state_hash", run->state_hash);
        out.properties.emplace_back("runs", fmt::format("{}", result.runs.size()));
        out.out = run->console;
        if (result.kind != TestResult::Kind::Pass) out.err = run->log;
    } else if (result.kind == TestResult::Kind::Fail) {
        out.type = "description";
    }
    return out;
}

}  // namespace vg::cli
