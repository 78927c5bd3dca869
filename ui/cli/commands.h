// The commands of the program `verdigris`. cli.md §2.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/types.h"

namespace vg::cli {

inline constexpr const char* kVersion = VG_VERSION;

/// Exit codes that scripts rely on. cli.md §3.
enum Exit : int {
    kPass = 0, kExpectationFailed = 1, kUsage = 2, kHostCannot = 3, kGuestPanic = 4, kUnrecoverable = 5, kGuestHang = 6,
    kBudgetSpent = 7, kWallLimit = 8, kReplayDiffered = 9, kDamaged = 10, kOurBug = 70, kSkipped = 125, kInterrupted = 130
};

/// How a run ended.
struct Verdict {
    int code = kPass;
    std::string text;
};

/// Text of a guest or an image for a person's terminal: control characters but line ends and tabs, and bytes that are no
/// UTF-8, become '?'.
[[nodiscard]] std::string printable(std::string_view text);

/// What `--log` asks for. Error (Usage): no such area or level.
[[nodiscard]] Result<std::vector<std::pair<Area, Level>>> parse_log_options(const std::vector<std::string>& settings);
/// Log lines of a machine, on stderr.
void print_log_line(Area area, Level level, std::string_view line);

/// Prints the error as one paragraph on stderr and returns its exit code.
int report(const Error& error);

/// Runs the command line; returns the exit code.
int main(int argc, char** argv);

/// What `run` was asked for.
struct RunOptions {
    std::string machine;
    std::vector<std::string> settings, disks, expect, fail_on, send, log, snapshot_at;
    std::string pcapng;
    std::string kernel, initrd, cmdline, serial = "stdio", guest_time, wall_time, control, gdb, stats, junit, engine = "jit", jitdump, count_blocks, record, restore;
    std::string scheduler;
    std::string trace, trace_detail, trace_events = "all";
    bool cmdline_given = false, quiet = false, perf_map = false;
    bool paused = false;  ///< stands before its first instruction until a client of --control lets it go on
    unsigned long long instructions = 0;
};
int run(const RunOptions& options);

/// What `replay` was asked for.
struct ReplayOptions {
    std::string recording, engine = "jit", serial = "stdio", stats, to, control, gdb;
    std::vector<std::string> log;
    bool verify = false, quiet = false;
};
int replay(const ReplayOptions& options);
/// What `test` was asked for.
struct TestOptions {
    std::vector<std::string> places, settings;
    std::string junit, keep, shard = "1/1", guest_time = "600s", engine = "jit";
    unsigned repeat = 1, jobs = 1;
    bool tap = false;
};
int test(const TestOptions& options);
/// The desktop debugger; its words are those behind `gui`.
int gui(std::vector<std::string> words);
/// What `run --help` prints.
[[nodiscard]] std::string_view run_help();

int config_check(const std::string& file, const std::vector<std::string>& settings);
int config_show(const std::string& file, const std::vector<std::string>& settings);
int config_schema();
int doctor();
int inspect(const std::string& socket, const std::string& path, bool json, bool watch);
/// Writes what a display shows as a PNG file. @param partition  number or name; "": the first child, or the bare PC
int inspect_png(const std::string& socket, const std::string& partition, const std::string& file);
/// What `guest` was asked for.
struct GuestOptions {
    std::string socket, partition, pool = "external", type = "string";
    std::vector<std::string> words;  ///< the command and what belongs to it
    unsigned wait_s = 60;            ///< for the guest's answer
    bool force = false;
};
int guest(const GuestOptions& options);
int snapshot_show(const std::string& file);
int snapshot_check(const std::string& file);
/// @param partition  whose memory: a child's name, or "" for the first child or the bare PC
/// Of a machine behind a control socket, or of one child of it; `off`: which then goes off there.
int snapshot_save(const std::string& socket, const std::string& file, const std::string& child, bool off);
/// The child of a snapshot goes on in the machine behind a control socket.
int snapshot_take_in(const std::string& socket, const std::string& file, const std::vector<std::string>& settings);
int snapshot_export(const std::string& file, const std::string& partition, const std::string& out);
int inspect_snapshot(const std::string& file, const std::string& path, bool json);
/// Writes the symbols of a partition's kernel ("": of the one that people look at) as an ELF file.
int symbol_file(const std::string& socket, const std::string& partition, const std::string& path);
int disk_show(const std::string& image, const std::string& overlay);
int disk_check(const std::string& image, const std::string& overlay);
int disk_create(std::vector<std::string> words);
int disk_convert(std::vector<std::string> words);
int disk_export(const std::string& image, const std::string& overlay, const std::string& path);
int help_cpus();

}  // namespace vg::cli
