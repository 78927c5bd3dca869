// `verdigris replay`: runs a recording again and says whether it was the same run.
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cstdio>

#include "machine/recording.h"
#include "ui/cli/commands.h"
#include "ui/cli/console.h"
#include "ui/cli/control.h"
#include "ui/cli/gdb_server.h"
#include "ui/cli/host_signals.h"
#include "ui/cli/output_file.h"
#include "ui/cli/statistics.h"
#include "ui/model/json_text.h"
#include "ui/model/timeline.h"

namespace vg::cli {

namespace {

using machine::Position;

/// Virtual time, or instructions, between two looks at Ctrl-C.
constexpr u64 kHostCheckInterval = 20'000'000;

Result<Position> parse_goto(const std::string& text) {
    constexpr std::string_view kInstructions = "instructions:";
    if (text.compare(0, kInstructions.size(), kInstructions) == 0) {
        const std::string digits = text.substr(kInstructions.size());
        if (digits.empty() || digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string::npos) {
            return fail(Error::Code::Usage,
                        fmt::format("--goto {}: write for example --goto instructions:1000000", text));
        }
        return Position{0, std::stoull(digits), true};
    }
    auto time = machine::parse_duration(text);
    if (!time) return Unexpected{time.error().in("--goto")};
    return Position{time->ns, 0, false};
}

/// One pass over a recording.
class Pass {
  public:
    Pass(machine::Machine& machine, const machine::Replay& feed) : machine_(machine), feed_(feed) {}

    /// Runs to a position. False: the verdict is there.
    bool go(const Position& position) {
        while (true) {
            if (interrupts() > 0) return decide({kInterrupted, "interrupted"});
            Position part = position;
            if (position.in_round)
                part.instructions = std::min(part.instructions, machine_.instructions() + kHostCheckInterval);
            else
                part.time = std::min(part.time, machine_.now() + kHostCheckInterval);
            const bool reached = run_to(machine_, part);
            if (!feed_.difference().empty()) return decide({kReplayDiffered, feed_.difference()});
            if (!reached) {
                return decide(
                    {kReplayDiffered,
                     fmt::format("it ended at {} ns, instruction {}, before {} ns, instruction {}: {}", machine_.now(),
                                 machine_.instructions(), position.time, position.instructions,
                                 machine_.outcome().text.empty() ? "every processor waits for good"
                                                                 : machine_.outcome().text)});
            }
            if (part == position) return true;
        }
    }
    bool compare(const machine::StateMark& mark, const std::vector<std::string>& names, const Position& before) {
        const std::string difference = machine::compare(machine_, mark, names);
        if (difference.empty()) return true;
        return decide({kReplayDiffered, fmt::format("{}; the first difference lies behind instruction {} ({} ns)",
                                                    difference, before.instructions, before.time)});
    }
    bool decide(Verdict verdict) {
        verdict_ = std::move(verdict);
        return false;
    }
    [[nodiscard]] const Verdict& verdict() const { return verdict_; }

  private:
    machine::Machine& machine_;
    const machine::Replay& feed_;
    Verdict verdict_;
};

/// Runs the whole recording; the verdict says whether it was the same.
Verdict play(machine::Machine& machine, const machine::Replay& feed, bool verify) {
    const machine::Recording& recording = feed.recording();
    Pass pass(machine, feed);
    std::size_t marks = 0;
    if (verify) {
        Position before;
        for (const machine::StateMark& mark : recording.marks()) {
            if (!pass.go(mark.position) || !pass.compare(mark, recording.part_names(), before)) return pass.verdict();
            before = mark.position;
            ++marks;
        }
    }
    if (!pass.go(recording.last())) return pass.verdict();
    const std::string marked = verify ? fmt::format("{} marks equal, ", marks) : "";
    if (!recording.end())
        return {kPass,
                fmt::format("{}{} instructions; the recording has no end to compare", marked, machine.instructions())};
    const machine::RecordedEnd& end = *recording.end();
    const u64 hash = machine.state_hash();
    if (machine.instructions() != end.position.instructions || hash != end.hash) {
        return {
            kReplayDiffered,
            fmt::format("{}the end differs: instruction {}, state {:016x}; recorded: instruction {}, state {:016x}{}",
                        marked, machine.instructions(), hash, end.position.instructions, end.hash,
                        verify ? "" : "; --verify says where it began")};
    }
    return {kPass, fmt::format("the same run: {}{} instructions, end state {:016x}; it had ended with code {}: {}",
                               marked, end.position.instructions, hash, end.code, printable(end.text))};
}

void print_position(machine::Machine& machine) {
    std::printf("time %llu ns, instruction %llu\n", static_cast<unsigned long long>(machine.now()),
                static_cast<unsigned long long>(machine.instructions()));
    for (const cpu::Vp* const vp : machine.scheduler().processors()) {
        const cpu::VpState& state = vp->state();
        std::printf("%s: rip %016llx rsp %016llx rflags %08llx cr3 %016llx cpl %u\n", vp->name().c_str(),
                    static_cast<unsigned long long>(state.rip), static_cast<unsigned long long>(state.gpr[4]),
                    static_cast<unsigned long long>(state.rflags), static_cast<unsigned long long>(state.cr3),
                    vp->cpl());
    }
}

/// Nobody looks at the console: whoever asks gets it from the protocol.
int serve_replay(const ReplayOptions& options, const std::shared_ptr<const machine::Recording>& recording, const std::optional<Position>& target) {
    const auto engine = options.engine == "step" ? machine::MachineOptions::EngineKind::Step : machine::MachineOptions::EngineKind::Jit;
    auto timeline = model::Timeline::start(recording, engine);  // before anything that its processes should not have
    if (!timeline) return report(timeline.error());
    std::unique_ptr<ControlSocket> control;
    if (!options.control.empty()) {
        auto made = ControlSocket::create(options.control);
        if (!made) return report(made.error());
        control = std::move(*made);
    }
    std::unique_ptr<GdbServer> gdb;
    if (!options.gdb.empty()) {
        auto made = GdbServer::create(options.gdb);
        if (!made) return report(made.error());
        gdb = std::move(*made);
        std::fprintf(stderr, "verdigris: waits for gdb; in gdb: target remote %s\n", gdb->target().c_str());
    }
    for (const std::string& note : recording->notes()) std::fprintf(stderr, "verdigris: note: %s\n", printable(note).c_str());
    model::LocalLink link(**timeline, true);
    if (target) {
        model::Json request = {{"op", "goto"}};
        if (target->in_round) request["instructions"] = target->instructions;
        else request["time"] = target->time;
        if (auto gone = link.call(request); !gone) return report(gone.error());
    }
    while (interrupts() == 0 && !(gdb && gdb->killed())) {
        std::vector<pollfd> list = {{(*timeline)->descriptor(), POLLIN, 0}};
        if (control) control->descriptors(list);
        if (gdb) gdb->descriptors(list);
        const bool pending = (*timeline)->waiting() || (control && control->pending());
        (void)::poll(list.data(), list.size(), pending ? 0 : 1000);
        (*timeline)->proceed(0);
        if (control) control->serve(**timeline);
        if (gdb) gdb->serve(link);
    }
    control.reset();  // before the timeline
    gdb.reset();
    return kPass;
}

}  // namespace

int replay(const ReplayOptions& options) {
    catch_interrupts();
    auto recording = machine::Recording::open(options.recording);
    if (!recording) return report(recording.error());
    std::optional<Position> target;
    if (!options.to.empty()) {
        auto position = parse_goto(options.to);
        if (!position) return report(position.error());
        target = *position;
    }
    if (!options.control.empty() || !options.gdb.empty()) return serve_replay(options, *recording, target);
    auto log_areas = parse_log_options(options.log);
    if (!log_areas) return report(log_areas.error());
    std::unique_ptr<OutputFile> stats;
    if (!options.stats.empty()) {
        auto file = OutputFile::open("--stats", options.stats);
        if (!file) return report(file.error());
        stats = std::move(*file);
    }
    std::unique_ptr<Console> console;
    if (options.serial != "stdio") {
        auto made = Console::create(options.serial);
        if (!made) return report(made.error());
        console = std::move(*made);
        console->begin();
    }
    machine::MachineOptions machine_options;
    machine_options.engine =
        options.engine == "step" ? machine::MachineOptions::EngineKind::Step : machine::MachineOptions::EngineKind::Jit;
    machine_options.log_areas = *log_areas;
    machine_options.log_time = true;
    machine_options.log_sink = print_log_line;
    const machine::Config& config = (*recording)->config();
    const std::string console_of = config.children.empty() ? "" : config.children.front().name;
    machine_options.console = [&](const std::string& partition, u8 byte) {
        if (partition != console_of) return;
        if (console != nullptr)
            console->put(byte);
        else
            std::putchar(byte);
    };
    auto machine = machine::Machine::create(config, machine_options);
    if (!machine) return report(machine.error());
    for (const std::string& note : (*recording)->notes())
        std::fprintf(stderr, "verdigris: note: %s\n", printable(note).c_str());
    machine::Replay feed(*recording);
    feed.attach(**machine);

    const auto start = std::chrono::steady_clock::now();
    Verdict verdict;
    if (target) {
        Pass pass(**machine, feed);
        verdict = pass.go(*target) ? Verdict{kPass, "there"} : pass.verdict();
    } else {
        verdict = play(**machine, feed, options.verify);
    }
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (console != nullptr) console->flush();
    console.reset();
    std::fflush(stdout);
    if (target && verdict.code == kPass) print_position(**machine);
    const model::Json statistics = collect_statistics(**machine, verdict, wall, {});
    if (!options.quiet && !target) std::fputs(summary_text(statistics).c_str(), stderr);
    std::fprintf(stderr, "verdigris: %s: %s\n",
                 verdict.code == kPass ? "pass" : fmt::format("exit {}", verdict.code).c_str(), verdict.text.c_str());
    if (stats) {
        if (auto ok = stats->replace(model::json_text(statistics)); !ok) return report(ok.error());
    }
    return verdict.code;
}

}  // namespace vg::cli
