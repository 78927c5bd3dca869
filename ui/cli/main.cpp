#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "cpu/model.h"
#include "machine/config.h"
#include "ui/cli/commands.h"

#ifndef VG_VERSION
#define VG_VERSION "0.1.0"
#endif

namespace vg::cli {

namespace {

constexpr const char* kOverview = R"(verdigris: a whole x86-64 computer in one process, with Hyper-V's partitions inside

  verdigris run examples/linux.toml                      boot a child partition, console here
  verdigris run m.toml --expect 'login:' --guest-time 60s   a verdict for CI by exit code
  verdigris run m.toml -s child.memory='"1 GiB"'         change any key of the configuration
  verdigris config check m.toml                          look for mistakes, build nothing

commands: run  config  doctor  inspect  disk  version  help
  run MACHINE.toml        run headless; Ctrl-A X leaves
  config check|show FILE  mistakes, or the effective configuration; config schema: JSON Schema
  doctor                  what this host can do
  inspect SOCKET [PATH]   print a part of a running machine's state (see run --control)
  disk show|export FILE   look at an image; its content as a raw file
  help cpus               the named CPU models

exit codes: 0 pass  1 expectation failed  2 usage  3 host  4 guest panic  5 triple fault  6 hang
            7 budget  8 wall time  10 damaged image  70 our own bug  130 interrupted
`verdigris COMMAND --help` says more. Guide: docs/guide.md
)";

constexpr const char* kRunHelp = R"(verdigris run [MACHINE.toml] [options]
  verdigris run examples/linux.toml
  verdigris run --kernel vmlinuz --initrd initrd.img --cmdline 'console=ttyS0'
  verdigris run m.toml --expect 'login:' --send 'login:=>root\n' --guest-time 60s

  -s KEY=VALUE        override a key of the configuration (repeatable)
  --kernel F  --initrd F  --cmdline S  --disk F    the same keys of the first child, or of [boot]
  --serial stdio|file:PATH|none     where the console goes (default stdio)
  --expect REGEX      pass once all were seen, in order      --fail-on REGEX   fail when seen
  --send "REGEX=>TEXT"  type TEXT when REGEX was seen, in order
  --guest-time 60s  --wall-time 300s  --instructions N       budgets: exit codes 7, 8, 7
  --engine jit|step   translator or interpreter              --scheduler deterministic
  --stats FILE.json   numbers of the run                     --junit FILE   verdict as JUnit XML
  --control unix:PATH serve `verdigris inspect`              --log AREA=LEVEL  e.g. vmbus=debug
  --perf-map  --jitdump DIR    name translated code for perf(1)   --count-blocks FILE  the hottest
  -q, --quiet         no summary                             blocks with their code
)";

int usage(const std::string& text) { return report({Error::Code::Usage, text}); }

void add_run_options(CLI::App& app, RunOptions& options) {
    app.add_option("machine", options.machine);
    app.add_option("-s,--set", options.settings)->allow_extra_args(false);
    app.add_option("--kernel", options.kernel);
    app.add_option("--initrd", options.initrd);
    app.add_option_function<std::string>("--cmdline", [&options](const std::string& text) {
        options.cmdline = text;
        options.cmdline_given = true;
    });
    app.add_option("--disk", options.disks)->allow_extra_args(false);
    app.add_option("--serial", options.serial);
    app.add_option("--expect", options.expect)->allow_extra_args(false);
    app.add_option("--fail-on", options.fail_on)->allow_extra_args(false);
    app.add_option("--send", options.send)->allow_extra_args(false);
    app.add_option("--guest-time", options.guest_time);
    app.add_option("--wall-time", options.wall_time);
    app.add_option("--instructions", options.instructions);
    app.add_option("--engine", options.engine)->check(CLI::IsMember({"jit", "step"}));
    app.add_option("--scheduler", options.scheduler);
    app.add_option("--stats", options.stats);
    app.add_option("--junit", options.junit);
    app.add_option("--control", options.control);
    app.add_option("--log", options.log)->allow_extra_args(false);
    app.add_flag("--perf-map", options.perf_map);
    app.add_option("--jitdump", options.jitdump);
    app.add_option("--count-blocks", options.count_blocks);
    app.add_flag("-q,--quiet", options.quiet);
    for (const char* name : {"--record", "--snapshot-at", "--trace", "--gdb"}) {
        app.add_option_function<std::string>(name, [&options, name](const std::string&) {
            options.unavailable.emplace_back(name);
        });
    }
    app.set_help_flag();
}

int run_command(int argc, char** argv) {
    CLI::App app;
    RunOptions options;
    bool help = false;
    add_run_options(app, options);
    app.add_flag("-h,--help", help);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return usage(fmt::format("run: {}; see: verdigris run --help", error.what()));
    }
    if (help) {
        std::fputs(kRunHelp, stdout);
        return kPass;
    }
    return run(options);
}

int config_command(const std::vector<std::string>& words) {
    std::vector<std::string> positional, settings;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] == "-s" && i + 1 < words.size()) settings.push_back(words[++i]);
        else positional.push_back(words[i]);
    }
    if (positional.size() == 1 && positional[0] == "schema") return config_schema();
    if (positional.size() == 2 && positional[0] == "check") return config_check(positional[1], settings);
    if (positional.size() == 2 && positional[0] == "show") return config_show(positional[1], settings);
    std::fputs("verdigris config check FILE [-s KEY=VALUE]...   look for mistakes; exit code 0 or 2\n"
               "verdigris config show FILE [-s KEY=VALUE]...    the effective configuration\n"
               "verdigris config schema                         JSON Schema of the configuration file\n", stdout);
    return positional.size() == 1 && (positional[0] == "--help" || positional[0] == "-h") ? kPass : kUsage;
}

int inspect_command(const std::vector<std::string>& words) {
    bool json = false, watch = false;
    std::vector<std::string> positional;
    for (const std::string& word : words) {
        if (word == "--json") json = true;
        else if (word == "--watch") watch = true;
        else positional.push_back(word);
    }
    const bool help = !positional.empty() && (positional[0] == "--help" || positional[0] == "-h");
    if (help || positional.empty() || positional.size() > 2) {
        std::fputs("verdigris inspect unix:/tmp/vg.sock                     the whole state tree\n"
                   "verdigris inspect unix:/tmp/vg.sock hypervisor/         a part of it\n"
                   "verdigris inspect unix:/tmp/vg.sock jit                 the translator's counters, the hottest blocks\n"
                   "  jit/top/5, jit/ffffffff81000000   blocks with guest and host code (run with --count-blocks FILE)\n"
                   "  --json    as JSON          --watch   again every second, until interrupted\n"
                   "The socket comes from: verdigris run m.toml --control unix:/tmp/vg.sock\n", stdout);
        return help ? kPass : kUsage;
    }
    return inspect(positional[0], positional.size() == 2 ? positional[1] : "", json, watch);
}

}  // namespace

int report(const Error& error) {
    std::fprintf(stderr, "verdigris: %s\n", error.text.c_str());
    switch (error.code) {
        case Error::Code::Usage: return kUsage;
        case Error::Code::Host: return kHostCannot;
        case Error::Code::Damaged: return kDamaged;
        case Error::Code::Internal: return kOurBug;
    }
    return kOurBug;
}

int help_cpus() {
    for (const std::string& name : cpu::CpuModel::names()) std::printf("%s\n", name.c_str());
    std::fputs("Add or remove features: cpu = \"verdigris-v3,-avx2,+rdrand\"\n", stdout);
    return kPass;
}

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.empty()) {
        std::fputs(kOverview, stderr);
        return kUsage;
    }
    const std::string& command = words[0];
    const std::vector<std::string> rest(words.begin() + 1, words.end());
    if (command == "run") return run_command(argc - 1, argv + 1);
    if (command == "config") return config_command(rest);
    if (command == "doctor") return doctor();
    if (command == "disk") return disk(rest);
    if (command == "inspect") return inspect_command(rest);
    if (command == "version" || command == "--version") {
        std::fputs("verdigris " VG_VERSION "\n", stdout);
        return kPass;
    }
    if (command == "help" || command == "--help" || command == "-h") {
        if (!rest.empty() && rest[0] == "cpus") return help_cpus();
        std::fputs(kOverview, stdout);
        return kPass;
    }
    const std::vector<std::string> known = {"run", "config", "doctor", "inspect", "disk", "version", "help"};
    for (const char* later : {"gui", "test", "replay", "trace", "vmbus", "snapshot"}) {
        if (command == later) return usage(fmt::format("'{}' is not available yet; see docs/status.md", command));
    }
    const std::string near = machine::nearest_name(command, known);
    return usage(fmt::format("unknown command '{}'; {}", command,
                             near.empty() ? "see: verdigris help" : fmt::format("did you mean '{}'?", near)));
}

}  // namespace vg::cli
