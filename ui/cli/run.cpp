// `verdigris run`: builds a machine, runs it, and turns how it ended into an exit code.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "jit/perf_output.h"
#include "jit/survey.h"
#include "machine/console_script.h"
#include "machine/machine.h"
#include "machine/snapshot.h"
#include "ui/cli/commands.h"
#include "ui/cli/console.h"
#include "ui/cli/control.h"
#include "ui/cli/host_signals.h"
#include "ui/cli/junit.h"
#include "ui/cli/output_file.h"
#include "ui/cli/pcapng_output.h"
#include "ui/cli/post_mortem.h"
#include "ui/cli/session.h"
#include "ui/cli/settings.h"
#include "ui/cli/statistics.h"
#include "ui/cli/trace.h"
#include "ui/model/inspect_symbols.h"
#include "ui/model/console_history.h"
#include "ui/model/control_service.h"
#include "ui/model/inspect_jit.h"

namespace vg::cli {

namespace {

/// Blocks whose code --count-blocks writes.
constexpr unsigned kWrittenBlocks = 50;

/// An option in the place of the configuration's key: messages name the option.
void take(std::string& value, machine::Place& at, const char* key, const std::string& option,
          const std::string& given) {
    value = given;
    at.keys[key] = {option, 0, 0};
}

Result<machine::Config> base_config(const RunOptions& options, const machine::Snapshot* snapshot) {
    auto overrides = parse_settings(options.settings);
    if (!overrides) return Unexpected{overrides.error()};
    if (snapshot != nullptr) return snapshot->config(*overrides);
    if (!options.machine.empty()) return machine::load_config(options.machine, *overrides);
    if (options.kernel.empty()) {
        return fail(Error::Code::Usage,
                    "run: name a machine description or a kernel; for example: verdigris run "
                    "examples/linux.toml");
    }
    return machine::parse_config("[hypervisor]\n[[child]]\nname = \"linux\"\ncmdline = \"console=ttyS0\"\n",
                                 "command line", ".", *overrides);
}

/// Puts --kernel, --initrd, --cmdline in place of the keys of the first child or of [boot].
template <class Section>
void take_boot_options(const RunOptions& options, Section& section) {
    if (!options.kernel.empty()) take(section.kernel, section.at, "kernel", "--kernel", options.kernel);
    if (!options.initrd.empty()) take(section.initrd, section.at, "initrd", "--initrd", options.initrd);
    if (options.cmdline_given) take(section.cmdline, section.at, "cmdline", "--cmdline", options.cmdline);
}

Result<machine::Config> build_config(const RunOptions& options, const machine::Snapshot* snapshot) {
    auto config = base_config(options, snapshot);
    if (!config) return config;
    std::vector<machine::DiskSection>* disks = &config->disks;
    if (!config->children.empty()) {
        disks = &config->children.front().disks;
        take_boot_options(options, config->children.front());
    } else if (config->boot || !options.kernel.empty()) {
        if (!config->boot) config->boot.emplace();
        take_boot_options(options, *config->boot);
    }
    for (const std::string& image : options.disks) {
        machine::DiskSection disk;
        disk.at.table = {"--disk " + image, 0, 0};
        disk.image = image;
        disks->push_back(std::move(disk));
    }
    if (!options.scheduler.empty()) {
        take(config->machine.scheduler, config->machine.at, "scheduler", "--scheduler", options.scheduler);
    }
    return config;
}

/// Merges the command line's verdict options over the [test] table.
Result<machine::TestSection> build_test(const RunOptions& options, const machine::Config& config) {
    machine::TestSection test = config.test.value_or(machine::TestSection{});
    if (!options.expect.empty()) test.expect = options.expect;
    if (!options.fail_on.empty()) test.fail_on = options.fail_on;
    if (!options.send.empty()) test.send = options.send;
    const auto duration = [](const char* option, const std::string& text, machine::Duration& target) -> Result<void> {
        if (text.empty()) return {};
        auto parsed = machine::parse_duration(text);
        if (!parsed) return Unexpected{parsed.error().in(option)};
        target = *parsed;
        return {};
    };
    if (auto ok = duration("--guest-time", options.guest_time, test.guest_time); !ok) return Unexpected{ok.error()};
    if (auto ok = duration("--wall-time", options.wall_time, test.wall_time); !ok) return Unexpected{ok.error()};
    return test;
}

/// Those who watch the translator. They outlive the machine.
struct Watchers {
    std::unique_ptr<jit::PerfMap> perf_map;
    std::unique_ptr<jit::JitDump> jitdump;
    std::unique_ptr<jit::Survey> survey;

    static Result<Watchers> create(const RunOptions& options) {
        Watchers watchers;
        if (options.perf_map) {
            auto map = jit::PerfMap::create();
            if (!map) return Unexpected{map.error()};
            watchers.perf_map = std::move(*map);
        }
        if (!options.jitdump.empty()) {
            auto dump = jit::JitDump::create(options.jitdump);
            if (!dump) return Unexpected{dump.error()};
            watchers.jitdump = std::move(*dump);
        }
        if (!options.count_blocks.empty()) watchers.survey = std::make_unique<jit::Survey>();
        return watchers;
    }
    [[nodiscard]] std::vector<jit::TranslationWatcher*> all() const {
        std::vector<jit::TranslationWatcher*> list = {perf_map.get(), jitdump.get(), survey.get()};
        std::erase(list, nullptr);
        return list;
    }
};

JunitCase junit_case(const std::string& name, const Verdict& verdict, double seconds) {
    JunitCase out;
    out.name = name;
    out.seconds = seconds;
    if (verdict.code == kPass) return out;
    out.result = JunitCase::Result::Failure;
    out.type = fmt::format("exit-{}", verdict.code);
    out.message = verdict.text;
    return out;
}

/// Everything that can be told wrong before a machine is built, and what it needs beside the machine.
struct Prepared {
    machine::Config config;
    std::vector<std::pair<Area, Level>> log_areas;
    std::unique_ptr<Session> session;
    std::unique_ptr<ControlSocket> control;
    std::unique_ptr<GdbServer> gdb;
    std::shared_ptr<model::ConsoleHistory> history;  ///< null: nobody asks for it
    std::unique_ptr<OutputFile> stats, junit, blocks, pcapng;
    std::unique_ptr<machine::Recorder> recorder;
    std::unique_ptr<LiveTrace> trace;
    std::unique_ptr<machine::Snapshot> snapshot;  ///< to go on from
    std::unique_ptr<SnapshotPlan> snapshots;      ///< to write
    Watchers watchers;
};

Result<std::unique_ptr<Session>> prepare_session(const RunOptions& options, const machine::Config& config) {
    auto test = build_test(options, config);
    if (!test) return Unexpected{test.error()};
    std::vector<machine::SendRule> sends;
    for (const std::string& text : test->send) {
        auto rule = machine::parse_send_rule(text);
        if (!rule) return Unexpected{rule.error().in(options.send.empty() ? test->at.text("send") : "--send")};
        sends.push_back(std::move(*rule));
    }
    auto script = machine::ConsoleScript::create(test->expect, test->fail_on, sends, test->start);
    if (!script) return Unexpected{script.error()};
    auto console = Console::create(options.serial);
    if (!console) return Unexpected{console.error()};
    return std::make_unique<Session>(SessionLimits{std::move(*test), options.instructions}, std::move(*script),
                                     std::move(*console));
}

/// Null without --restore.
Result<std::unique_ptr<machine::Snapshot>> open_snapshot(const RunOptions& options) {
    if (options.restore.empty()) return std::unique_ptr<machine::Snapshot>();
    const bool other_machine = !options.machine.empty() || !options.kernel.empty() || !options.initrd.empty() || options.cmdline_given ||
                               !options.disks.empty();
    if (other_machine) {
        return fail(Error::Code::Usage, "--restore: the snapshot says what the machine is; leave out the description, --kernel, --initrd, "
                                        "--cmdline and --disk");
    }
    if (!options.record.empty()) return fail(Error::Code::Usage, "--restore: a run that was restored cannot be recorded yet; see docs/status.md");
    return machine::Snapshot::open(options.restore);
}

Result<Prepared> prepare(const RunOptions& options) {
    if (options.paused && options.control.empty())
        return fail(Error::Code::Usage, "--paused: nobody could let the machine go on; add --control unix:PATH");
    Prepared out;
    auto snapshot = open_snapshot(options);
    if (!snapshot) return Unexpected{snapshot.error()};
    out.snapshot = std::move(*snapshot);
    auto config = build_config(options, out.snapshot.get());
    if (!config) return Unexpected{config.error()};
    out.config = std::move(*config);
    auto areas = parse_log_options(options.log);
    if (!areas) return Unexpected{areas.error()};
    out.log_areas = std::move(*areas);
    auto session = prepare_session(options, out.config);
    if (!session) return Unexpected{session.error()};
    out.session = std::move(*session);
    if (!options.control.empty()) {
        auto control = ControlSocket::create(options.control);
        if (!control) return Unexpected{control.error()};
        out.control = std::move(*control);
    }
    if (!options.gdb.empty()) {
        auto gdb = GdbServer::create(options.gdb);
        if (!gdb) return Unexpected{gdb.error()};
        out.gdb = std::move(*gdb);
    }
    if (out.control || out.gdb) out.history = std::make_shared<model::ConsoleHistory>();
    struct Named {
        const char* option;
        const std::string& path;
        std::unique_ptr<OutputFile>& file;
    };
    for (const Named& named : {Named{"--stats", options.stats, out.stats}, Named{"--junit", options.junit, out.junit},
                               Named{"--count-blocks", options.count_blocks, out.blocks},
                               Named{"--pcapng", options.pcapng, out.pcapng}}) {
        if (named.path.empty()) continue;
        auto file = OutputFile::open(named.option, named.path);
        if (!file) return Unexpected{file.error()};
        named.file = std::move(*file);
    }
    if (!options.snapshot_at.empty()) {
        if (auto ok = machine::check_savable(out.config); !ok) return Unexpected{ok.error().in("--snapshot-at")};
        auto plan = SnapshotPlan::create(options.snapshot_at);
        if (!plan) return Unexpected{plan.error()};
        out.snapshots = std::move(*plan);
        out.session->snapshots_by(out.snapshots.get());
    }
    if (!options.trace.empty()) {
        auto trace_what = trace_options(options.trace_detail, options.trace_events, machine::TraceDetail::Memory);
        if (!trace_what) return Unexpected{trace_what.error()};
        if (auto ok = machine::check_config(out.config); !ok) return Unexpected{ok.error()};
        auto trace = LiveTrace::create(options.trace, *trace_what);
        if (!trace) return Unexpected{trace.error()};
        out.trace = std::move(*trace);
    } else if (!options.trace_detail.empty()) {
        return fail(Error::Code::Usage, "--trace-detail: nothing is traced; add --trace FILE");
    }
    auto watchers = Watchers::create(options);
    if (!watchers) return Unexpected{watchers.error()};
    out.watchers = std::move(*watchers);
    if (!options.record.empty()) {
        if (auto ok = machine::check_config(out.config); !ok) return Unexpected{ok.error()};
        auto recorder = machine::Recorder::create(options.record, out.config);
        if (!recorder) return Unexpected{recorder.error().in("--record")};
        out.recorder = std::move(*recorder);
        out.session->record_to(out.recorder.get());
    }
    return out;
}

machine::MachineOptions machine_options(const RunOptions& options, const Prepared& prepared) {
    machine::MachineOptions out;
    out.engine =
        options.engine == "step" ? machine::MachineOptions::EngineKind::Step : machine::MachineOptions::EngineKind::Jit;
    out.log_areas = prepared.log_areas;
    out.watchers = prepared.watchers.all();
    out.log_time = true;
    out.log_sink = print_log_line;
    const auto history = prepared.history;
    const std::string console_of = prepared.config.children.empty() ? "" : prepared.config.children.front().name;
    out.console = [session = prepared.session.get(), history, console_of](const std::string& partition, u8 byte) {
        if (history) history->put(partition, byte);
        if (partition == console_of) session->on_console(byte);
    };
    return out;
}

/// The run itself, with a service if somebody may ask for something.
Verdict run_session(const RunOptions& options, Prepared& prepared, machine::Machine& machine) {
    SessionServices services;
    if (!prepared.control && !prepared.gdb) return prepared.session->run(machine, services, !options.quiet);
    machine::Debugger debugger(machine);
    model::ControlOptions control;
    control.config = machine.config().file;
    control.survey = prepared.watchers.survey.get();
    control.console = prepared.history.get();
    control.recorded = prepared.recorder != nullptr;
    control.running = prepared.gdb == nullptr && !options.paused;
    model::GuestSymbols symbols;
    control.symbols = &symbols;
    control.inspect_symbols = [&](const std::string& path) { return model::inspect_symbols(machine, symbols, path); };
    model::ControlService service(machine, debugger, std::move(control));
    model::LocalLink gdb_link(service, false);
    services.service = &service;
    services.control = prepared.control.get();
    services.gdb = prepared.gdb.get();
    services.gdb_link = &gdb_link;
    if (prepared.gdb) std::fprintf(stderr, "verdigris: waits for gdb; in gdb: target remote %s\n", prepared.gdb->target().c_str());
    Verdict verdict = prepared.session->run(machine, services, !options.quiet);
    prepared.control.reset();  // before the service
    prepared.gdb.reset();
    return verdict;
}

}  // namespace

int run(const RunOptions& options) {
    catch_interrupts();  // before there are sockets and files to clean up
    auto prepared = prepare(options);
    if (!prepared) return report(prepared.error());
    auto machine = prepared->snapshot != nullptr ? prepared->snapshot->restore(prepared->config, machine_options(options, *prepared))
                                                 : machine::Machine::create(prepared->config, machine_options(options, *prepared));
    if (!machine) return report(machine.error());

    Session& session = *prepared->session;
    if (prepared->recorder) prepared->recorder->attach(**machine);
    if (prepared->trace) prepared->trace->attach(**machine);
    PcapngOutput pcapng(**machine, prepared->pcapng.get());
    Verdict verdict = run_session(options, *prepared, **machine);
    verdict.text = printable(verdict.text + post_mortem(**machine, verdict.code));
    const double wall = session.wall_seconds();

    // What a run leaves behind is written as far as it can be, whatever else fails.
    std::optional<Error> failed;
    const auto keep = [&failed](const Result<void>& result) {
        if (!result && !failed) failed = result.error();
    };
    keep((*machine)->flush_disks());
    keep(pcapng.finish());
    if (prepared->trace) keep(prepared->trace->finish(**machine));
    if (prepared->snapshots) keep(prepared->snapshots->status());
    if (prepared->recorder) keep(prepared->recorder->finish(verdict.code, verdict.text));
    const model::Json statistics = collect_statistics(**machine, verdict, wall, session.marks());
    if (prepared->stats) keep(prepared->stats->replace(model::json_text(statistics)));
    if (prepared->blocks) {
        const auto text = [&](const std::string& path) { return model::inspect_jit(**machine, prepared->watchers.survey.get(), path, false); };
        keep(prepared->blocks->replace(text("jit") + text(fmt::format("jit/top/{}", kWrittenBlocks))));
    }
    const std::string& name = !options.restore.empty() ? options.restore : options.machine.empty() ? options.kernel : options.machine;
    if (prepared->junit) keep(prepared->junit->replace(junit_text("verdigris", {junit_case(name, verdict, wall)})));
    if (!options.quiet) std::fputs(summary_text(statistics).c_str(), stderr);
    std::fprintf(stderr, "verdigris: %s: %s\n",
                 verdict.code == kPass ? "pass" : fmt::format("exit {}", verdict.code).c_str(), verdict.text.c_str());
    if (!failed) return verdict.code;
    const int code = report(*failed);
    return verdict.code == kPass ? code : verdict.code;
}

}  // namespace vg::cli
