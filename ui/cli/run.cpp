// `verdigris run`: builds a machine, runs it, and turns how it ended into an exit code.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <thread>

#include "machine/console_script.h"
#include "machine/machine.h"
#include "ui/cli/commands.h"
#include "ui/cli/control.h"
#include "ui/cli/settings.h"
#include "ui/cli/statistics.h"
#include "ui/cli/terminal.h"

namespace vg::cli {

namespace {

using SteadyClock = std::chrono::steady_clock;

/// Virtual time between looks at the host (input, Ctrl-C, control socket): a few host milliseconds of guest work.
constexpr VTime kHostCheckInterval = 2'000'000;
/// The same for a guest that slept through the last interval: fewer wake-ups of the host.
constexpr VTime kIdleCheckInterval = 20'000'000;

/// Set by the signal handler: the only thing a handler may do. 1: stop cleanly; more: at once.
volatile std::sig_atomic_t interrupts = 0;  // tidy: signal handlers need a global

void on_interrupt(int) {
    interrupts = interrupts + 1;
    if (interrupts > 1) ::_exit(kInterrupted);
}

struct Verdict {
    int code = kPass;
    std::string text;
};

Result<machine::Config> build_config(const RunOptions& options) {
    auto overrides = parse_settings(options.settings);
    if (!overrides) return Unexpected{overrides.error()};
    std::string prefix = "child.0.";
    Result<machine::Config> config = fail(Error::Code::Usage, "");
    if (options.machine.empty()) {
        if (options.kernel.empty()) {
            return fail(Error::Code::Usage, "run: name a machine description or a kernel; for example: verdigris run "
                                            "examples/linux.toml");
        }
        config = machine::parse_config("[hypervisor]\n[[child]]\nname = \"linux\"\ncmdline = \"console=ttyS0\"\n",
                                       "command line", ".", *overrides);
    } else {
        config = machine::load_config(options.machine, *overrides);
    }
    if (!config) return config;
    std::string* kernel = nullptr;
    std::string *initrd = nullptr, *cmdline = nullptr;
    std::vector<machine::DiskSection>* disks = &config->disks;
    if (!config->children.empty()) {
        machine::ChildSection& child = config->children.front();
        kernel = &child.kernel;
        initrd = &child.initrd;
        cmdline = &child.cmdline;
        disks = &child.disks;
    } else {
        if (!config->boot) config->boot.emplace();
        kernel = &config->boot->kernel;
        initrd = &config->boot->initrd;
        cmdline = &config->boot->cmdline;
    }
    if (!options.kernel.empty()) *kernel = options.kernel;
    if (!options.initrd.empty()) *initrd = options.initrd;
    if (options.cmdline_given) *cmdline = options.cmdline;
    for (const std::string& image : options.disks) {
        machine::DiskSection disk;
        disk.image = image;
        disks->push_back(std::move(disk));
    }
    if (!options.scheduler.empty()) config->machine.scheduler = options.scheduler;
    return config;
}

/// Merges the command line's verdict options over the [test] table.
Result<machine::TestSection> build_test(const RunOptions& options, const machine::Config& config) {
    machine::TestSection test = config.test.value_or(machine::TestSection{});
    if (!options.expect.empty()) test.expect = options.expect;
    if (!options.fail_on.empty()) test.fail_on = options.fail_on;
    for (const auto& [text, target] : {std::pair{&options.guest_time, &test.guest_time},
                                       std::pair{&options.wall_time, &test.wall_time}}) {
        if (text->empty()) continue;
        auto parsed = machine::parse_duration(*text);
        if (!parsed) return Unexpected{parsed.error()};
        *target = *parsed;
    }
    return test;
}

Result<std::vector<std::pair<Area, Level>>> parse_log(const std::vector<std::string>& settings) {
    std::vector<std::pair<Area, Level>> parsed;
    for (const std::string& text : settings) {
        const std::size_t equals = text.find('=');
        const std::string area = text.substr(0, equals);
        const std::string level = equals == std::string::npos ? "debug" : text.substr(equals + 1);
        bool found = false;
        for (unsigned a = 0; a < static_cast<unsigned>(Area::Count); ++a) {
            for (unsigned l = 0; l <= static_cast<unsigned>(Level::Off); ++l) {
                if ((area == to_string(static_cast<Area>(a)) || area == "all") && level == to_string(static_cast<Level>(l))) {
                    parsed.emplace_back(static_cast<Area>(a), static_cast<Level>(l));
                    found = true;
                }
            }
        }
        if (!found) {
            return fail(Error::Code::Usage,
                        fmt::format("--log {}: write AREA=LEVEL with an area of base cpu mmu jit devices storage iommu hv "
                                    "vmbus vsp machine ui all and a level of trace debug info warn error off", text));
        }
    }
    return parsed;
}

/// Where console bytes go.
class ConsoleOutput {
  public:
    static Result<std::unique_ptr<ConsoleOutput>> create(const std::string& where) {
        auto output = std::make_unique<ConsoleOutput>();
        if (where == "stdio") {
            output->file_ = stdout;
        } else if (where.rfind("file:", 0) == 0) {
            output->file_ = std::fopen(where.c_str() + 5, "wb");
            if (output->file_ == nullptr) {
                return fail(Error::Code::Usage, fmt::format("--serial {}: the file cannot be written", where));
            }
        } else if (where != "none") {
            return fail(Error::Code::Usage, fmt::format("--serial {}: write stdio, file:PATH or none", where));
        }
        return output;
    }
    ConsoleOutput() = default;
    ~ConsoleOutput() {
        if (file_ != nullptr && file_ != stdout) std::fclose(file_);
    }
    ConsoleOutput(const ConsoleOutput&) = delete;
    ConsoleOutput& operator=(const ConsoleOutput&) = delete;
    void put(u8 byte) {
        if (file_ != nullptr) std::fputc(byte, file_);
        dirty_ = true;
    }
    void flush() {
        if (file_ != nullptr && dirty_) std::fflush(file_);
        dirty_ = false;
    }

  private:
    std::FILE* file_ = nullptr;
    bool dirty_ = false;
};

/// One run from machine to verdict.
class Session {
  public:
    Session(const RunOptions& options, machine::TestSection test, machine::ConsoleScript script,
            std::unique_ptr<ConsoleOutput> output)
        : options_(options), test_(std::move(test)), script_(std::move(script)), output_(std::move(output)) {}

    void on_console(u8 byte) {
        output_->put(byte);
        if (marks_.empty()) mark("first console byte");
        script_.feed(byte, [this](std::string_view text) { to_send_ += text; });
        if ((script_.has_expectations() && script_.all_seen()) || !script_.failed().empty()) machine_->stop();
    }

    Verdict run(machine::Machine& machine, Terminal& terminal, ControlSocket* control) {
        machine_ = &machine;
        start_ = SteadyClock::now();
        const std::string& pace = machine.config().machine.pace;
        paced_ = pace == "on" || (pace == "auto" && terminal.interactive() && !script_.has_expectations());
        while (true) {
            const machine::Pause pause = machine.run_until(next_limit());
            idle_ = pause == machine::Pause::Idle;
            const bool hung = pause == machine::Pause::Hang && !terminal.interactive();
            output_->flush();
            if (control != nullptr) control->serve(machine);
            if (auto verdict = judge(hung)) return *verdict;
            exchange_input(terminal);
            if (terminal.leave()) return {kInterrupted, "left by Ctrl-A X"};
        }
    }

    [[nodiscard]] double wall_seconds() const { return std::chrono::duration<double>(SteadyClock::now() - start_).count(); }
    [[nodiscard]] const std::vector<BootMark>& marks() const { return marks_; }

  private:
    void mark(std::string name) {
        marks_.push_back({std::move(name), static_cast<double>(machine_->now()) / 1e9, wall_seconds()});
    }

    VTime next_limit() {
        VTime limit = machine_->now() + (idle_ ? kIdleCheckInterval : kHostCheckInterval);
        if (test_.guest_time.ns != 0) limit = std::min(limit, test_.guest_time.ns);
        if (options_.instructions > machine_->instructions()) {
            limit = std::min<VTime>(limit, machine_->now() + options_.instructions - machine_->instructions());
        }
        return limit;
    }

    /// Hands typed and scripted input to the guest; waits where pacing or a dead-quiet guest asks for it.
    void exchange_input(Terminal& terminal) {
        int wait_ms = 0;
        if (paced_) {
            const double ahead = static_cast<double>(machine_->now()) / 1e9 - wall_seconds();
            if (ahead > 0.001) wait_ms = static_cast<int>(std::min(ahead, 1.0) * 1000);
        }
        std::string typed;
        if (terminal.interactive() || options_.serial == "stdio") typed = terminal.poll_input(wait_ms);
        else if (wait_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
        to_send_ += typed;
        if (to_send_.empty()) return;
        const std::size_t taken = machine_->console_input("", to_send_);
        to_send_.erase(0, taken);
    }

    std::optional<Verdict> judge(bool hung) {
        if (!script_.failed().empty()) return Verdict{kExpectationFailed, fmt::format("the console showed \"{}\"", script_.failed())};
        if (script_.has_expectations() && script_.all_seen()) return Verdict{kPass, "every expectation was seen"};
        if (interrupts > 0) return Verdict{kInterrupted, "interrupted"};
        if (auto verdict = judge_outcome()) return verdict;
        if (hung) return Verdict{kGuestHang, "every processor waits and nothing will ever wake one" + waiting()};
        if (test_.guest_time.ns != 0 && machine_->now() >= test_.guest_time.ns) {
            return Verdict{kBudgetSpent, fmt::format("the guest time budget of {} is spent{}", to_string(test_.guest_time), waiting())};
        }
        if (options_.instructions != 0 && machine_->instructions() >= options_.instructions) {
            return Verdict{kBudgetSpent, fmt::format("the budget of {} instructions is spent{}", options_.instructions, waiting())};
        }
        if (test_.wall_time.ns != 0 && wall_seconds() * 1e9 >= static_cast<double>(test_.wall_time.ns)) {
            return Verdict{kWallLimit, fmt::format("the wall time limit of {} is reached{}", to_string(test_.wall_time), waiting())};
        }
        return std::nullopt;
    }

    std::optional<Verdict> judge_outcome() {
        using Kind = machine::Outcome::Kind;
        const machine::Outcome& outcome = machine_->outcome();
        switch (outcome.kind) {
            case Kind::None: return std::nullopt;
            case Kind::PoweredOff:
                if (script_.has_expectations()) return Verdict{kExpectationFailed, outcome.text + waiting()};
                return Verdict{kPass, outcome.text};
            case Kind::Reset:
                return Verdict{kExpectationFailed, outcome.text + "; a kernel that was loaded directly cannot be restarted" + waiting()};
            case Kind::Crashed: return Verdict{kGuestPanic, outcome.text};
            case Kind::Shutdown: return Verdict{kUnrecoverable, outcome.text};
            case Kind::DebugExit:
                return Verdict{(outcome.raw << 1 | 1) == test_.pass_value ? kPass : kExpectationFailed, outcome.text};
        }
        return std::nullopt;
    }

    [[nodiscard]] std::string waiting() const {
        const std::string source = script_.waiting_for();
        return source.empty() ? "" : fmt::format("; still waiting for \"{}\"", source);
    }

    const RunOptions& options_;
    machine::TestSection test_;
    machine::ConsoleScript script_;
    std::unique_ptr<ConsoleOutput> output_;
    machine::Machine* machine_ = nullptr;
    SteadyClock::time_point start_;
    std::vector<BootMark> marks_;
    std::string to_send_;
    bool paced_ = false, idle_ = false;
};

std::string xml_escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '&') out += "&amp;";
        else if (c == '<') out += "&lt;";
        else if (c == '>') out += "&gt;";
        else if (c == '"') out += "&quot;";
        else if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += c;
    }
    return out;
}

void write_junit(const std::string& path, const std::string& name, const Verdict& verdict, double seconds) {
    std::ofstream out(path);
    out << "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        << fmt::format("<testsuite name=\"verdigris\" tests=\"1\" failures=\"{}\" time=\"{:.3f}\">\n", verdict.code == 0 ? 0 : 1,
                       seconds)
        << fmt::format("  <testcase name=\"{}\" time=\"{:.3f}\">", xml_escaped(name), seconds);
    if (verdict.code != 0) {
        out << fmt::format("<failure message=\"{}\" type=\"exit-{}\"/>", xml_escaped(verdict.text), verdict.code);
    }
    out << "</testcase>\n</testsuite>\n";
}

}  // namespace

int run(const RunOptions& options) {
    if (!options.unavailable.empty()) {
        return report({Error::Code::Usage, fmt::format("{} is not available yet; see docs/status.md", options.unavailable.front())});
    }
    auto config = build_config(options);
    if (!config) return report(config.error());
    auto test = build_test(options, *config);
    if (!test) return report(test.error());
    std::vector<machine::SendRule> sends;
    for (const std::string& text : options.send) {
        auto rule = machine::parse_send_rule(text);
        if (!rule) return report(rule.error());
        sends.push_back(std::move(*rule));
    }
    auto script = machine::ConsoleScript::create(test->expect, test->fail_on, sends);
    if (!script) return report(script.error());
    auto output = ConsoleOutput::create(options.serial);
    if (!output) return report(output.error());
    auto areas = parse_log(options.log);
    if (!areas) return report(areas.error());
    std::unique_ptr<ControlSocket> control;
    if (!options.control.empty()) {
        auto created = ControlSocket::create(options.control);
        if (!created) return report(created.error());
        control = std::move(*created);
    }

    Session session(options, *test, std::move(*script), std::move(*output));
    machine::MachineOptions machine_options;
    machine_options.engine = options.engine == "step" ? machine::MachineOptions::EngineKind::Step
                                                      : machine::MachineOptions::EngineKind::Jit;
    machine_options.log_areas = *areas;
    machine_options.perf_map = options.perf_map;
    machine_options.log_sink = [](Area area, Level level, std::string_view line) {
        std::fprintf(stderr, "[%s %s] %.*s\n", std::string(to_string(area)).c_str(), std::string(to_string(level)).c_str(),
                     static_cast<int>(line.size()), line.data());
    };
    const std::string console_of = config->children.empty() ? "" : config->children.front().name;
    machine_options.console = [&session, console_of](const std::string& partition, u8 byte) {
        if (partition == console_of) session.on_console(byte);
    };
    auto machine = machine::Machine::create(*config, std::move(machine_options));
    if (!machine) return report(machine.error());

    std::signal(SIGINT, on_interrupt);
    std::signal(SIGTERM, on_interrupt);
    Verdict verdict;
    {
        Terminal terminal;
        if (terminal.interactive() && !options.quiet) std::fputs("verdigris: Ctrl-A X leaves\n", stderr);
        verdict = session.run(**machine, terminal, control.get());
    }
    const double wall = session.wall_seconds();
    if (auto flushed = (*machine)->flush_disks(); !flushed) return report(flushed.error());
    const nlohmann::ordered_json statistics = collect_statistics(**machine, wall, session.marks());
    if (!options.stats.empty()) std::ofstream(options.stats) << statistics.dump(2) << "\n";
    if (!options.junit.empty()) write_junit(options.junit, options.machine.empty() ? options.kernel : options.machine, verdict, wall);
    std::fflush(stdout);
    if (!options.quiet) std::fputs(summary_text(statistics).c_str(), stderr);
    std::fprintf(stderr, "verdigris: %s: %s\n", verdict.code == kPass ? "pass" : fmt::format("exit {}", verdict.code).c_str(),
                 verdict.text.c_str());
    return verdict.code;
}

}  // namespace vg::cli
