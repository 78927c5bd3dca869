#include <fmt/format.h>

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <new>
#include <optional>

#include "base/utf8.h"
#include "cpu/model.h"
#include "machine/config.h"
#include "ui/cli/commands.h"
#include "ui/cli/host_signals.h"
#include "ui/cli/trace.h"
#include "ui/cli/vmbus.h"

namespace vg::cli {

namespace {

constexpr const char* kOverview = R"(verdigris: a whole x86-64 computer in one process, with Hyper-V's partitions inside

  verdigris run examples/linux.toml                      boot a child partition, console here
  verdigris run m.toml --expect 'login:' --guest-time 60s   a verdict for CI by exit code
  verdigris run m.toml -s child.memory='"1 GiB"'         change any key of the configuration

commands: run  gui  test  replay  trace  snapshot  config  doctor  inspect  guest  vmbus  hypercalls  disk  version
  run MACHINE.toml        run headless; Ctrl-A X leaves
  gui [M.toml|SOCKET]     the desktop debugger
  test DIR...             run every description with a [test] table; JUnit, TAP, shards
  replay RECORDING        run a recording again; --verify compares every state on the way
  trace RECORDING|TRACE   what was executed, as text and for other tools; diff, stat
  config check|show FILE  mistakes, or the effective configuration; config schema: JSON Schema
  doctor                  what this host can do
  snapshot show|check|export FILE   look at a saved machine (run --snapshot-at, run --restore)
  inspect SOCKET|SNAPSHOT [PATH]    print a part of a machine's state (see run --control)
  guest SOCKET shutdown|type|kvp|memory...   talk to a partition's services
  vmbus SOURCE list|follow|export   channels and packets, live or recorded; hypercalls SOURCE
  disk create|info|check|convert|export   make, look at, check and convert disk images
  help cpus               the named CPU models

exit codes: 0 pass  1 expectation failed  2 usage  3 host  4 guest panic  5 triple fault  6 hang
            7 budget  8 wall time  9 replay differed  10 damaged image  70 our own bug  125 skipped  130 interrupted
`verdigris COMMAND --help` says more. Guide: docs/guide.md
)";

constexpr const char* kRunHelp = R"(verdigris run [MACHINE.toml] [options]
  verdigris run examples/linux.toml
  verdigris run --kernel vmlinuz --initrd initrd.img --cmdline 'console=ttyS0'
  verdigris run m.toml --expect 'login:' --send 'login:=>root\n' --guest-time 60s

  -s KEY=VALUE        override a key of the configuration (repeatable)
  --kernel F  --initrd F  --cmdline S  --disk F    the same keys of the first child, or of [boot]
  --serial stdio|file:PATH|unix:PATH|none   where the console goes (default stdio)
  --expect REGEX      pass once all were seen, in order      --fail-on REGEX   fail when seen
  --send "REGEX=>TEXT"  type TEXT when REGEX was seen, in order
  --guest-time 60s  --wall-time 300s  --instructions N       budgets: exit codes 7, 8, 7
  --engine jit|step   translator or interpreter              --scheduler deterministic|parallel
  --stats FILE.json   numbers of the run                     --junit FILE   verdict as JUnit XML
  --record FILE       record it, for `verdigris replay`      --log AREA=LEVEL  e.g. vmbus=debug
  --control unix:PATH serve `verdigris inspect` and scripts (docs/control.md); --paused: stands until told
  --gdb tcp:PORT|unix:PATH  wait for gdb                     --pcapng FILE  VMBus and hypercalls
  --snapshot-at EVENT=FILE  time:2s instructions:N console:REGEX end   --restore FILE  go on from one
  --trace FILE  --trace-detail flow|memory|values|registers   what executes, for `verdigris trace`
  --perf-map  --jitdump DIR    name translated code for perf(1)   --count-blocks FILE  the hottest
  -q, --quiet         no summary                             blocks with their code
)";

constexpr const char* kReplayHelp =
    "verdigris replay run.vgr                        run it again: same console, same end (run --record made it)\n"
    "verdigris replay run.vgr --verify               compare the state at every mark; the first difference is named\n"
    "verdigris replay run.vgr --goto 2.5s            stop there and print the registers (also: instructions:N)\n"
    "verdigris replay run.vgr --gdb tcp:1234         gdb, forwards and backwards (reverse-continue, reverse-stepi)\n"
    "\n"
    "  --control unix:PATH  serve the control protocol (docs/control.md) in both directions, and `verdigris inspect`\n"
    "  --serial stdio|file:PATH|none   where the console's output goes (default stdio)\n"
    "  --engine jit|step   translator or interpreter     --stats FILE.json   numbers of the run\n"
    "  --log AREA=LEVEL    e.g. vmbus=debug              -q, --quiet         no summary\n"
    "Exit codes: 0 the same run, 9 another, 10 a damaged recording (or a file that it needs has changed).\n";
constexpr const char* kTestHelp = R"(verdigris test DIR|MACHINE.toml... [options]
  verdigris test examples/tests
  verdigris test tests -j 4 --junit results.xml --keep results
  verdigris test tests --shard 2/8 --tap

Runs every *.toml below DIR that has a [test] table, each in a process of its own.
  -j N              so many at a time (default 1)
  --junit FILE      one JUnit XML                --tap          TAP 13 instead of lines for people
  --shard I/N       every N-th test by name, from the I-th on: the parts are of equal size
  --repeat N        run each N times; different state hashes at the end are a failure
  --keep DIR        DIR/NAME.console .json .log of every run, and what test.artefacts names
  --guest-time T    virtual time budget of tests that name none (default 600s)
  -s KEY=VALUE      override a key in all of them       --engine jit|step
Exit code: 0 all passed, 1 some failed, 2 usage, 125 all were skipped, 130 interrupted.
The [test] table and examples for GitHub Actions and GitLab: docs/ci.md
)";

constexpr const char* kSymbolsHelp =
    "verdigris symbols unix:/tmp/vg.sock kernel.elf      symbols of the kernel that runs, for gdb: symbol-file kernel.elf\n"
    "verdigris symbols --partition 3 unix:/tmp/vg.sock kernel.elf\n"
    "The kernel's own table is read from the guest's memory, moved as it was moved; no file of it is needed. The socket comes\n"
    "from --control of run or replay.\n";
constexpr const char* kConfigHelp =
    "verdigris config check FILE [-s KEY=VALUE]...   look for mistakes; exit code 0 or 2\n"
    "verdigris config show FILE [-s KEY=VALUE]...    the effective configuration\n"
    "verdigris config schema                         JSON Schema of the configuration file\n";
constexpr const char* kInspectHelp =
    "verdigris inspect unix:/tmp/vg.sock                     the whole state tree\n"
    "verdigris inspect unix:/tmp/vg.sock hypervisor/         a part of it\n"
    "verdigris inspect unix:/tmp/vg.sock partitions          the tree of partitions: state, deposits, ports, messages\n"
    "verdigris inspect unix:/tmp/vg.sock walk/2/0x1000       how GPA 0x1000 of partition 2 is mapped, level by level\n"
    "verdigris inspect unix:/tmp/vg.sock iommu               domains and their devices, last faults, last transfers\n"
    "verdigris inspect unix:/tmp/vg.sock jit                 the translator's counters, the hottest blocks\n"
    "  jit/top/5, jit/ffffffff81000000   blocks with guest and host code (run with --count-blocks FILE)\n"
    "verdigris inspect unix:/tmp/vg.sock linux --png s.png   what the display of partition \"linux\" shows\n"
    "  --json    as JSON          --watch   again every second, until interrupted\n"
    "The socket comes from: verdigris run m.toml --control unix:/tmp/vg.sock\n";
constexpr const char* kGuestHelp =
    "verdigris guest unix:/tmp/vg.sock shutdown              the guest powers off cleanly (reboot, hibernate; --force)\n"
    "verdigris guest unix:/tmp/vg.sock heartbeat             is its kernel alive? exit code 0 if so\n"
    "verdigris guest unix:/tmp/vg.sock type 'root\\n'         on its keyboard; keys ctrl+alt+delete f2; mouse X Y [BUTTONS]\n"
    "verdigris guest unix:/tmp/vg.sock memory '384 MiB'      what it shall have: balloon, memory hot-add\n"
    "verdigris guest unix:/tmp/vg.sock kvp list --pool auto  what its daemon says about it\n"
    "verdigris guest unix:/tmp/vg.sock freeze                its file systems, until: thaw\n"
    "\n"
    "  status                             all of it, as JSON\n"
    "  time                               sets the guest's clock\n"
    "  kvp list|get KEY|set KEY VALUE|delete KEY   --pool external (default), guest, auto, auto_external,\n"
    "                                     auto_internal   --type string (default), u32, u64\n"
    "  kvp ip MAC                         addresses of an adapter\n"
    "  kvp set-ip ADAPTER dhcp|ADDRESSES SUBNETS [GATEWAYS [NAME-SERVERS]]   lists with ';'\n"
    "  --partition NAME|N                 which one (default: the first child)\n"
    "  --wait SECONDS                     for the guest's answer (default 60)\n"
    "KVP and freezing need Debian's hyperv-daemons in the guest. Exit code 1: the guest refused or did not answer.\n"
    "The socket comes from: verdigris run m.toml --control unix:/tmp/vg.sock\n";
constexpr const char* kVmbusHelp =
    "verdigris vmbus run.vgr list                       channels: interface, state, packets, latency\n"
    "verdigris vmbus run.vgr follow                     a line a message and packet, like tcpdump\n"
    "verdigris vmbus run.vgr follow --channel 1 --follow 0x21   one request and its completion\n"
    "verdigris vmbus unix:/tmp/vg.sock export c.pcapng  for Wireshark: tools/wireshark/vmbus.lua\n"
    "\n"
    "The source is a recording (run --record) or a running machine (run --control unix:PATH), followed until its end or\n"
    "Ctrl-C.\n"
    "  --channel N     this channel only         --follow TRANSACTION  packets with this transaction id\n"
    "  --partition N   this partition only       --signals             signals too\n"
    "  --count N       so many, then end         --json                one object a line\n"
    "Format of the file: docs/vmbus-capture.md\n";
constexpr const char* kHypercallsHelp =
    "verdigris hypercalls run.vgr                 every hypercall: name, arguments, result\n"
    "verdigris hypercalls run.vgr --stat          how many of each, when, and what was refused\n"
    "verdigris hypercalls unix:/tmp/vg.sock --partition 2 --count 100\n"
    "\n"
    "  --partition N   this partition only    --count N   so many, then end    --json   objects, one a line\n";
constexpr const char* kTraceHelp =
    "verdigris trace run.vgr --window 1M..+200             what was executed, an instruction a line, from a recording\n"
    "verdigris trace run.vgr --window 1.5s..1.6s --filter 'symbol == do_sys_open or event == exit'\n"
    "verdigris trace run.vgr --format trace -o run.vgt     the whole run as a trace's file (also: run --trace run.vgt)\n"
    "verdigris trace run.vgt --format drcov -o run.drcov   text, jsonl, tenet, drcov, perfetto\n"
    "verdigris trace stat run.vgt                          how much, hottest functions and pages, events; --json\n"
    "verdigris trace diff a.vgt b.vgt                      the first difference; exit code 1 if there is one\n"
    "\n"
    "  --window A..B   instructions (5000000, 5M), times (1.5s), event:KIND, symbol:NAME; B also +1000, +2ms; B is not in it\n"
    "  --filter EXPR   and, or, not over: partition vp cpl level cr3 pc memory (== != < > in A..B), symbol == NAME,\n"
    "                  module == NAME, event == KIND, user, kernel, read, write, event, instruction\n"
    "  --detail flow|memory|values|registers   how much is traced (tenet wants registers)\n"
    "  --events all|none|KIND,...   which events       -o, --output FILE     instead of standard output\n"
    "  --top N   rows of stat, lines of diff           --engine jit|step     -q, --quiet  no progress\n"
    "Formats: docs/trace-format.md\n";
constexpr const char* kSnapshotHelp =
    "verdigris snapshot show FILE                             when it was, memory, disks, configuration\n"
    "verdigris snapshot check FILE                            reads every part; exit code 0 or 10\n"
    "verdigris snapshot export FILE --format vmcore OUT       memory and registers as an ELF core (gdb, crash, drgn)\n"
    "  --partition NAME   of this child; left out: the first, or the bare PC\n"
    "verdigris inspect FILE [PATH]                            a part of its state\n"
    "verdigris snapshot save SOCKET FILE                      of the machine of: verdigris run --control SOCKET\n"
    "  --child NAME       of one child, which goes on; --off: it is off there then, and can go on elsewhere:\n"
    "verdigris snapshot take-in SOCKET FILE [-s KEY=VALUE]... in a machine that runs, at most 10 s ahead or behind\n"
    "A snapshot is made with: verdigris run m.toml --snapshot-at console:login:=m.vgs\n"
    "and gone on from with:   verdigris run --restore m.vgs       (the file is never changed)\n";
constexpr const char* kDiskHelp =
    "verdigris disk create root.vhdx \"40 GiB\"          a new image; the name says the format: .vhdx, .vhd, else raw\n"
    "verdigris disk create top.vhdx --parent root.vhdx  one that takes the changes to another\n"
    "verdigris disk info IMAGE [OVERLAY]                format, chain of parents, size, sectors (also: show)\n"
    "verdigris disk check IMAGE [OVERLAY]               all structures; exit 10 if one is damaged\n"
    "verdigris disk convert IMAGE [OVERLAY] OUT         the content as the guest sees it, as an image of its own\n"
    "verdigris disk export IMAGE [OVERLAY] OUT.raw      the same, as a raw file\n"
    "\n"
    "create and convert:\n"
    "  --fixed          all blocks in the file from the start\n"
    "  --block SIZE     of a VHD 512 B to 256 MiB, of a VHDX 1 MiB to 256 MiB\n"
    "  --sectors 512|512e|4096   of a new VHDX; 512e: 512 in physical ones of 4096\n";
constexpr const char* kGuiHelp =
    "verdigris gui                                  opens the desktop debugger; Ctrl-O opens a machine in it\n"
    "verdigris gui examples/linux.toml              the machine, standing before its first instruction; F5 runs it\n"
    "verdigris gui unix:/tmp/vg.sock                attaches to: verdigris run m.toml --control unix:/tmp/vg.sock\n"
    "verdigris gui m.toml --script FILE             runs commands line by line; exit code 0, or 1 with the line that failed\n"
    "verdigris gui m.toml --screenshot FILE.png     draws once and leaves\n"
    "\n"
    "  --layout FILE   panes, theme and scale from this file, saved to it at the end (default: ~/.config/verdigris/gui.toml;\n"
    "                  scripts and pictures begin with the built-in arrangement)\n"
    "  --size WxH      of the window, 1280x800       --scale 1|1.25|1.5|2    of everything in it\n"
    "  --frame-times   with --script: prints how long frames took to draw\n"
    "Scripts and pictures need no display. Commands: docs/guide.md, \"The desktop debugger\"; Ctrl-P lists them.\n";
constexpr const char* kDoctorHelp =
    "verdigris doctor    what this host can do: a line per part, OK, warn or FAIL with the remedy\n"
    "Exit code 3 if something fails without which no machine runs.\n";

int print(const char* text) {
    std::fputs(text, stdout);
    return kPass;
}
int usage(const std::string& text) { return report({Error::Code::Usage, text}); }

/// Options that may be given once count as they were given last, so that a script can put its own behind others'.
void add_run_options(CLI::App& app, RunOptions& options) {
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    const auto each = [](CLI::Option* option) {
        option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(false);
    };
    app.add_option("machine", options.machine)->multi_option_policy(CLI::MultiOptionPolicy::Throw);
    each(app.add_option("-s,--set", options.settings));
    app.add_option("--kernel", options.kernel);
    app.add_option("--initrd", options.initrd);
    app.add_option_function<std::string>("--cmdline", [&options](const std::string& text) {
        options.cmdline = text;
        options.cmdline_given = true;
    });
    each(app.add_option("--disk", options.disks));
    app.add_option("--serial", options.serial);
    each(app.add_option("--expect", options.expect));
    each(app.add_option("--fail-on", options.fail_on));
    each(app.add_option("--send", options.send));
    app.add_option("--guest-time", options.guest_time);
    app.add_option("--wall-time", options.wall_time);
    // Not unsigned: a negative number would become a huge one.
    app.add_option_function<s64>("--instructions", [&options](s64 count) { options.instructions = static_cast<u64>(count); })
        ->check(CLI::NonNegativeNumber);
    app.add_option("--engine", options.engine)->check(CLI::IsMember({"jit", "step"}));
    app.add_option("--scheduler", options.scheduler)->check(CLI::IsMember({"deterministic", "parallel"}));
    app.add_option("--stats", options.stats);
    app.add_option("--junit", options.junit);
    app.add_option("--pcapng", options.pcapng);
    app.add_option("--control", options.control);
    app.add_option("--gdb", options.gdb);
    each(app.add_option("--log", options.log));
    app.add_flag("--perf-map", options.perf_map);
    app.add_option("--jitdump", options.jitdump);
    app.add_option("--count-blocks", options.count_blocks);
    app.add_flag("--paused", options.paused);
    app.add_flag("-q,--quiet", options.quiet);
    app.add_option("--record", options.record);
    each(app.add_option("--snapshot-at", options.snapshot_at));
    app.add_option("--restore", options.restore);
    app.add_option("--trace", options.trace);
    app.add_option("--trace-detail", options.trace_detail);
    app.add_option("--trace-events", options.trace_events);
    app.set_help_flag();
}

int run_command(std::vector<std::string> words) {
    CLI::App app;
    RunOptions options;
    bool help = false;
    add_run_options(app, options);
    app.add_flag("-h,--help", help);
    try {
        std::reverse(words.begin(), words.end());  // as this parser wants them
        app.parse(words);
    } catch (const CLI::ParseError& error) {
        return usage(fmt::format("run: {}; see: verdigris run --help", error.what()));
    }
    return help ? print(kRunHelp) : run(options);
}

int replay_command(std::vector<std::string> words) {
    CLI::App app;
    ReplayOptions options;
    bool help = false;
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.add_option("recording", options.recording)->multi_option_policy(CLI::MultiOptionPolicy::Throw);
    app.add_flag("--verify", options.verify);
    app.add_option("--goto", options.to);
    app.add_option("--control", options.control);
    app.add_option("--gdb", options.gdb);
    app.add_option("--serial", options.serial);
    app.add_option("--engine", options.engine)->check(CLI::IsMember({"jit", "step"}));
    app.add_option("--stats", options.stats);
    app.add_option("--log", options.log)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(false);
    app.add_flag("-q,--quiet", options.quiet);
    app.set_help_flag();
    app.add_flag("-h,--help", help);
    try {
        std::reverse(words.begin(), words.end());
        app.parse(words);
    } catch (const CLI::ParseError& error) {
        return usage(fmt::format("replay: {}; see: verdigris replay --help", error.what()));
    }
    if (help) return print(kReplayHelp);
    if (options.recording.empty()) return usage("replay: name a recording; see: verdigris replay --help");
    return replay(options);
}

int test_command(std::vector<std::string> words) {
    CLI::App app;
    TestOptions options;
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.add_option("places", options.places)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_option("-s,--set", options.settings)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(false);
    app.add_option("--junit", options.junit);
    app.add_flag("--tap", options.tap);
    app.add_option("--shard", options.shard);
    app.add_option("--repeat", options.repeat)->check(CLI::Range(1, 1000));
    app.add_option("--keep", options.keep);
    app.add_option("-j,--jobs", options.jobs)->check(CLI::Range(1, 256));
    app.add_option("--guest-time", options.guest_time);
    app.add_option("--engine", options.engine)->check(CLI::IsMember({"jit", "step"}));
    app.set_help_flag();
    try {
        std::reverse(words.begin(), words.end());  // as this parser wants them
        app.parse(words);
    } catch (const CLI::ParseError& error) {
        return usage(fmt::format("test: {}; see: verdigris test --help", error.what()));
    }
    if (options.places.empty()) return usage("test: name a folder of machine descriptions; see: verdigris test --help");
    return test(options);
}

int config_command(const std::vector<std::string>& words) {
    std::vector<std::string> positional, settings;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const bool setting = words[i] == "-s" || words[i] == "--set";
        if (setting && i + 1 < words.size()) settings.push_back(words[++i]);
        else if (words[i].rfind("-", 0) == 0) return usage(fmt::format("config: unknown option {}; see: verdigris config --help", words[i]));
        else positional.push_back(words[i]);
    }
    if (positional.size() == 1 && positional[0] == "schema") return config_schema();
    if (positional.size() == 2 && positional[0] == "check") return config_check(positional[1], settings);
    if (positional.size() == 2 && positional[0] == "show") return config_show(positional[1], settings);
    return usage("config: write config check FILE, config show FILE or config schema; see: verdigris config --help");
}

int inspect_command(const std::vector<std::string>& words) {
    bool json = false, watch = false;
    std::vector<std::string> positional;
    std::string picture;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        if (word == "--png" && i + 1 < words.size()) picture = words[++i];
        else if (word == "--json") json = true;
        else if (word == "--watch") watch = true;
        else if (word.rfind("-", 0) == 0) return usage(fmt::format("inspect: unknown option {}; see: verdigris inspect --help", word));
        else positional.push_back(word);
    }
    if (positional.empty() || positional.size() > 2) {
        return usage("inspect: name a machine's socket and, if you like, a part of its state; see: verdigris inspect --help");
    }
    if (!picture.empty()) return inspect_png(positional[0], positional.size() == 2 ? positional[1] : "", picture);
    const bool socket = positional[0].rfind("unix:", 0) == 0 || ::access(positional[0].c_str(), F_OK) != 0;
    if (!socket) return inspect_snapshot(positional[0], positional.size() == 2 ? positional[1] : "", json);
    return inspect(positional[0], positional.size() == 2 ? positional[1] : "", json, watch);
}

int guest_command(std::vector<std::string> words) {
    CLI::App app;
    GuestOptions options;
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.add_option("words", options.words)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_option("--partition", options.partition);
    app.add_option("--pool", options.pool)->check(CLI::IsMember({"external", "guest", "auto", "auto_external", "auto_internal"}));
    app.add_option("--type", options.type)->check(CLI::IsMember({"string", "u32", "u64"}));
    app.add_option("--wait", options.wait_s)->check(CLI::Range(0, 86400));
    app.add_flag("--force", options.force);
    app.set_help_flag();
    try {
        std::reverse(words.begin(), words.end());  // as this parser wants them
        app.parse(words);
    } catch (const CLI::ParseError& error) {
        return usage(fmt::format("guest: {}; see: verdigris guest --help", error.what()));
    }
    if (options.words.size() < 2) return usage("guest: name a machine's socket and what to do; see: verdigris guest --help");
    options.socket = options.words.front();
    options.words.erase(options.words.begin());
    return guest(options);
}

/// A number behind an option, decimal or hexadecimal with 0x.
std::optional<u64> option_number(const std::string& text) {
    const bool hex = text.rfind("0x", 0) == 0;
    u64 value = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + (hex ? 2 : 0), end, value, hex ? 16 : 10);
    return error == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

/// Takes the options of `vmbus` and `hypercalls` out of the words; the rest stays. The text of a mistake, or "".
std::string take_capture_options(std::vector<std::string>& words, VmbusOptions& options) {
    std::vector<std::string> rest;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        std::optional<u64> channel;
        std::optional<u64>* const number = word == "--channel"     ? &channel
                                           : word == "--partition" ? &options.partition
                                           : word == "--follow"    ? &options.transaction
                                           : word == "--count"     ? &options.count
                                                                   : nullptr;
        if (number != nullptr) {
            *number = i + 1 < words.size() ? option_number(words[++i]) : std::nullopt;
            if (!*number || (channel && *channel > 0xffff)) return fmt::format("{} wants a number", word);
            if (channel) options.channel = static_cast<u16>(*channel);
        } else if (word == "--json") options.json = true;
        else if (word == "--signals") options.signals = true;
        else if (word == "--stat") options.stat = true;
        else if (word.rfind("-", 0) == 0) return fmt::format("unknown option {}", word);
        else rest.push_back(word);
    }
    if (options.count == u64{0}) return "--count wants a number above 0";
    words = std::move(rest);
    return "";
}

int vmbus_command(const std::vector<std::string>& words) {
    VmbusOptions options;
    std::vector<std::string> rest = words;
    const std::string mistake = take_capture_options(rest, options);
    if (!mistake.empty()) return usage(fmt::format("vmbus: {}; see: verdigris vmbus --help", mistake));
    const bool to_file = rest.size() == 3 && rest[1] == "export";
    const bool to_screen = rest.size() == 2 && (rest[1] == "list" || rest[1] == "follow");
    if (options.stat || !(to_file || to_screen))
        return usage("vmbus: write vmbus SOURCE list, follow or export FILE.pcapng; see: verdigris vmbus --help");
    options.source = rest[0];
    options.what = rest[1];
    if (to_file) options.file = rest[2];
    return vmbus(options);
}

int symbols_command(const std::vector<std::string>& words) {
    if (words.size() == 2) return symbol_file(words[0], "", words[1]);
    if (words.size() == 4 && words[0] == "--partition") return symbol_file(words[2], words[1], words[3]);
    return usage("symbols: write symbols unix:SOCKET OUT.elf; see: verdigris symbols --help");
}

int hypercalls_command(const std::vector<std::string>& words) {
    VmbusOptions options;
    std::vector<std::string> rest = words;
    const std::string mistake = take_capture_options(rest, options);
    if (!mistake.empty()) return usage(fmt::format("hypercalls: {}; see: verdigris hypercalls --help", mistake));
    if (rest.size() != 1 || options.channel || options.transaction || options.signals)
        return usage("hypercalls: name a recording or a socket; see: verdigris hypercalls --help");
    options.source = rest[0];
    return hypercalls(options);
}

int trace_command(std::vector<std::string> words) {
    CLI::App app;
    TraceCommand command;
    if (!words.empty() && (words[0] == "stat" || words[0] == "diff")) {
        command.what = words[0];
        words.erase(words.begin());
    }
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.add_option("files", command.files)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_option("--window", command.window);
    app.add_option("--filter", command.filter);
    app.add_option("--format", command.format);
    app.add_option("-o,--output", command.output);
    app.add_option("--detail", command.detail);
    app.add_option("--events", command.events);
    app.add_option("--engine", command.engine)->check(CLI::IsMember({"jit", "step"}));
    app.add_option("--top", command.top)->check(CLI::Range(0, 100'000));
    app.add_flag("--json", command.json);
    app.add_flag("-q,--quiet", command.quiet);
    app.set_help_flag();
    try {
        std::reverse(words.begin(), words.end());
        app.parse(words);
    } catch (const CLI::ParseError& error) {
        return usage(fmt::format("trace: {}; see: verdigris trace --help", error.what()));
    }
    if (command.files.size() != (command.what == "diff" ? 2 : 1))
        return usage("trace: write trace FILE, trace stat FILE or trace diff A B; see: verdigris trace --help");
    return trace(command);
}

int snapshot_command(std::vector<std::string> words) {
    std::string partition, format, child;
    std::vector<std::string> settings;
    const auto take = [&words](const char* option, std::string& value) {
        const auto found = std::find(words.begin(), words.end(), option);
        if (found == words.end() || std::next(found) == words.end()) return;
        value = *std::next(found);
        words.erase(found, found + 2);
    };
    take("--format", format);
    take("--partition", partition);
    take("--child", child);
    for (std::string setting; std::ranges::find(words, "-s") != words.end() && words.back() != "-s";) {
        take("-s", setting);
        settings.push_back(setting);
    }
    const bool off = std::erase(words, "--off") != 0;
    if (words.size() == 3 && words[0] == "save") return snapshot_save(words[1], words[2], child, off);
    if (words.size() == 3 && words[0] == "take-in") return snapshot_take_in(words[1], words[2], settings);
    if (words.size() == 2 && words[0] == "show") return snapshot_show(words[1]);
    if (words.size() == 2 && words[0] == "check") return snapshot_check(words[1]);
    if (words.size() == 3 && words[0] == "export" && format == "vmcore") return snapshot_export(words[1], partition, words[2]);
    return usage("snapshot: write snapshot show, check or export FILE, snapshot save SOCKET FILE or snapshot take-in SOCKET FILE; see: "
                 "verdigris snapshot --help");
}

int disk_command(const std::vector<std::string>& words) {
    const auto word = [&](std::size_t index) { return index < words.size() ? words[index] : std::string(); };
    const bool one_or_two = words.size() == 2 || words.size() == 3;
    if (one_or_two && (words[0] == "show" || words[0] == "info")) return disk_show(words[1], word(2));
    if (one_or_two && words[0] == "check") return disk_check(words[1], word(2));
    if (!words.empty() && words[0] == "create") return disk_create({words.begin() + 1, words.end()});
    if (!words.empty() && words[0] == "convert") return disk_convert({words.begin() + 1, words.end()});
    if (words.size() == 3 && words[0] == "export") return disk_export(words[1], "", words[2]);
    if (words.size() == 4 && words[0] == "export") return disk_export(words[1], words[2], words[3]);
    return usage("disk: write disk create, info, check, convert or export; see: verdigris disk --help");
}

int gui_command(const std::vector<std::string>& words) {
    const bool help = std::any_of(words.begin(), words.end(), [](const std::string& word) { return word == "-h" || word == "--help"; });
    return help ? print(kGuiHelp) : gui(words);
}

int doctor_command(const std::vector<std::string>& words) {
    return words.empty() ? doctor() : usage("doctor: takes no arguments; see: verdigris doctor --help");
}

int version_command(const std::vector<std::string>&) {
    std::printf("verdigris %s\n", kVersion);
    return kPass;
}

int help_command(const std::vector<std::string>& words);

struct Command {
    const char* name;
    const char* help;
    int (*run)(const std::vector<std::string>& words);
};
constexpr Command kCommands[] = {
    {"run", kRunHelp, [](const std::vector<std::string>& words) { return run_command(words); }},
    {"replay", kReplayHelp, [](const std::vector<std::string>& words) { return replay_command(words); }},
    {"trace", kTraceHelp, [](const std::vector<std::string>& words) { return trace_command(words); }},
    {"test", kTestHelp, [](const std::vector<std::string>& words) { return test_command(words); }},
    {"gui", kGuiHelp, gui_command},
    {"config", kConfigHelp, config_command},
    {"doctor", kDoctorHelp, doctor_command},
    {"inspect", kInspectHelp, inspect_command},
    {"guest", kGuestHelp, [](const std::vector<std::string>& words) { return guest_command(words); }},
    {"vmbus", kVmbusHelp, vmbus_command},
    {"hypercalls", kHypercallsHelp, hypercalls_command},
    {"symbols", kSymbolsHelp, symbols_command},
    {"disk", kDiskHelp, disk_command},
    {"snapshot", kSnapshotHelp, [](const std::vector<std::string>& words) { return snapshot_command(words); }},
    {"version", kOverview, version_command},
    {"help", kOverview, help_command},
};
const Command* find_command(const std::string& name) {
    const std::string known = name == "--help" || name == "-h" ? "help" : name == "--version" ? "version" : name;
    const auto* found = std::find_if(std::begin(kCommands), std::end(kCommands), [&](const Command& c) { return c.name == known; });
    return found == std::end(kCommands) ? nullptr : found;
}

int unknown_command(const std::string& name) {
    std::vector<std::string> known;
    for (const Command& command : kCommands) known.emplace_back(command.name);
    const std::string near = machine::nearest_name(name, known);
    return usage(fmt::format("unknown command '{}'; {}", name,
                             near.empty() ? "see: verdigris help" : fmt::format("did you mean '{}'?", near)));
}

int help_command(const std::vector<std::string>& words) {
    if (words.empty()) return print(kOverview);
    if (words[0] == "cpus") return help_cpus();
    const Command* command = find_command(words[0]);
    return command != nullptr ? print(command->help) : unknown_command(words[0]);
}

int dispatch(const std::vector<std::string>& words) {
    if (words.empty()) {
        std::fputs(kOverview, stderr);
        return kUsage;
    }
    const Command* command = find_command(words[0]);
    if (command == nullptr) return unknown_command(words[0]);
    const std::vector<std::string> rest(words.begin() + 1, words.end());
    if (!rest.empty() && (rest[0] == "--help" || rest[0] == "-h")) return print(command->help);
    return command->run(rest);
}

}  // namespace

int report(const Error& error) {
    std::fprintf(stderr, "verdigris: %s\n", printable(error.text).c_str());
    switch (error.code) {
        case Error::Code::Usage: return kUsage;
        case Error::Code::Host: return kHostCannot;
        case Error::Code::Damaged: return kDamaged;
        case Error::Code::Internal: return kOurBug;
    }
    return kOurBug;
}

std::string printable(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const std::string_view good = text.substr(0, utf8_prefix(text));
        for (const char c : good) out += static_cast<u8>(c) >= ' ' || c == '\n' || c == '\t' ? (c == '\x7f' ? '?' : c) : '?';
        if (good.size() != text.size()) out += '?';
        text.remove_prefix(std::min(text.size(), good.size() + 1));
    }
    return out;
}

std::string_view run_help() { return kRunHelp; }

int help_cpus() {
    for (const std::string& name : cpu::CpuModel::names()) std::printf("%s\n", name.c_str());
    std::fputs("Add or remove features: cpu = \"verdigris-v3,-avx2,+rdrand\"\n", stdout);
    return kPass;
}

int main(int argc, char** argv) {
    report_own_bugs(argc, argv);
    try {
        return dispatch({argv + 1, argv + argc});
    } catch (const std::bad_alloc&) {
        return report({Error::Code::Host, "out of memory; give the guests less, or the host more"});
    }  // anything else is our own mistake: std::terminate makes a report of it
}

}  // namespace vg::cli
