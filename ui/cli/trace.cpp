#include "ui/cli/trace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "machine/recording.h"
#include "ui/cli/commands.h"
#include "ui/cli/host_signals.h"
#include "ui/cli/output_file.h"
#include "ui/cli/progress.h"
#include "ui/model/json_text.h"
#include "ui/model/symbols.h"
#include "ui/model/trace_output.h"
#include "ui/model/trace_report.h"
#include "ui/model/trace_symbols.h"

namespace vg::cli {

namespace {

using machine::Position;
using machine::TraceFile;
using Bound = model::TraceWindow::Bound;

/// Virtual time, or instructions, between two looks at Ctrl-C.
constexpr u64 kHostCheckInterval = 5'000'000;
constexpr const char* kOwnFormat = "trace";

/// A file that goes with this object.
class TemporaryFile {
  public:
    static Result<std::unique_ptr<TemporaryFile>> create() {
        const char* const folder = std::getenv("TMPDIR");
        std::string path =
            fmt::format("{}/verdigris-trace-XXXXXX", folder != nullptr && *folder != 0 ? folder : "/tmp");
        const int file = ::mkostemp(path.data(), O_CLOEXEC);
        if (file < 0)
            return fail(Error::Code::Host, fmt::format("{}: cannot be made: {}; set TMPDIR to a folder with room", path,
                                                       std::strerror(errno)));
        return std::unique_ptr<TemporaryFile>(new TemporaryFile(std::move(path), file));
    }
    ~TemporaryFile() { ::unlink(path_.c_str()); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }
    /// To be written once, and closed by whoever does.
    [[nodiscard]] int file() const { return file_; }

  private:
    TemporaryFile(std::string path, int file) : path_(std::move(path)), file_(file) {}
    std::string path_;
    int file_;
};

/// One pass over a recording, traced within a window.
class TracedReplay {
  public:
    TracedReplay(machine::Machine& machine, const machine::Replay& feed, bool quiet)
        : machine_(machine),
          feed_(feed),
          progress_("tracing", std::max<u64>(feed.recording().last().time, 1)),
          quiet_(quiet) {}

    /// Runs up to a position, or to the recording's end if that comes before. False: Ctrl-C, or it was not the same
    /// run.
    bool go(Position target) {
        const Position last = feed_.recording().last();
        while (true) {
            if (interrupts() > 0) return false;
            if (!quiet_) progress_.update(machine_.now());
            const bool past =
                target.in_round ? machine_.instructions() >= target.instructions : machine_.now() >= target.time;
            const bool over = machine_.now() >= last.time && machine_.instructions() >= last.instructions;
            if (past || over) return true;
            Position part =
                target.in_round
                    ? Position{0, std::min(target.instructions, machine_.instructions() + kHostCheckInterval), true}
                    : Position{std::min(target.time, machine_.now() + kHostCheckInterval), 0, false};
            if (target.in_round && last.instructions < part.instructions) part = last;
            if (!target.in_round && last.time < part.time) part = last;
            const bool reached = run_to(machine_, part);
            if (!feed_.difference().empty()) return differs(feed_.difference());
            if (!reached) return differs("it ended before the recording does");
        }
    }
    /// "": it is the recorded run.
    [[nodiscard]] const std::string& difference() const { return difference_; }

  private:
    bool differs(std::string why) {
        difference_ = std::move(why);
        return false;
    }
    machine::Machine& machine_;
    const machine::Replay& feed_;
    Progress progress_;
    const bool quiet_;
    std::string difference_;
};

/// Where tracing has to begin, so that nothing of the window is missing.
Position before(const Bound& from) {
    if (from.kind == Bound::Kind::Instruction) return {0, from.value, true};
    // Rounds of several processors end behind the time that is asked for.
    if (from.kind == Bound::Kind::Time)
        return {from.value - std::min(from.value, 2 * machine::Scheduler::kQuantum), 0, false};
    return {};
}

/// Where it may end; nothing: at the end.
std::optional<Position> behind(const model::TraceWindow& window) {
    const Bound &from = window.from, &to = window.to;
    if (to.relative && from.kind != Bound::Kind::None && from.kind != to.kind) return std::nullopt;
    const u64 base = to.relative && from.kind == to.kind ? from.value : 0;
    const u64 value = to.value > ~u64{0} / 2 - base ? ~u64{0} / 2 : base + to.value;
    if (to.kind == Bound::Kind::Instruction) return Position{0, value, true};
    if (to.kind == Bound::Kind::Time) return Position{value + machine::Scheduler::kQuantum, 0, false};
    return std::nullopt;
}

/// Runs a recording again and traces it. Returns the exit code: pass, or interrupted with what there was until then.
Result<int> trace_recording(const std::string& path, const TraceCommand& command, const model::TraceWindow& window,
                            std::unique_ptr<machine::TraceWriter> file, const machine::TraceOptions& options) {
    auto recording = machine::Recording::open(path);
    if (!recording) return Unexpected{recording.error()};
    machine::MachineOptions machine_options;
    machine_options.engine =
        command.engine == "step" ? machine::MachineOptions::EngineKind::Step : machine::MachineOptions::EngineKind::Jit;
    machine_options.log_level = Level::Error;
    auto machine = machine::Machine::create((*recording)->config(), machine_options);
    if (!machine) return Unexpected{machine.error()};
    for (const std::string& note : (*recording)->notes())
        std::fprintf(stderr, "verdigris: note: %s\n", printable(note).c_str());
    machine::Replay feed(*recording);
    feed.attach(**machine);
    machine::Tracer tracer(std::move(file), options);
    TracedReplay run(**machine, feed, command.quiet);
    if (run.go(before(window.from))) {
        tracer.attach(**machine);
        const auto end = behind(window);
        const Position never{~u64{0} / 2, 0, false};
        (void)run.go(end.value_or(never));
        tracer.detach();
    }
    model::GuestSymbols symbols;
    if (auto ok = tracer.finish(model::functions_at(**machine, symbols, tracer.code())); !ok)
        return Unexpected{ok.error()};
    if (!run.difference().empty()) {
        std::fprintf(stderr, "verdigris: %s: it was not the recorded run: %s; see: verdigris replay --verify\n",
                     path.c_str(), printable(run.difference()).c_str());
        return kReplayDiffered;
    }
    return interrupts() > 0 ? kInterrupted : kPass;
}

/// A trace to look at: the file itself, or one that is made from a recording.
struct Source {
    std::unique_ptr<TemporaryFile> temporary;
    std::unique_ptr<TraceFile> file;
    int code = kPass;
};

Result<Source> open_source(const std::string& path, const TraceCommand& command, const model::TraceWindow& window) {
    Source out;
    std::string from = path;
    if (!TraceFile::is_trace(path)) {
        if (auto recording = machine::Recording::open(path); !recording) {
            Error error = recording.error();
            if (error.text.find("is not a recording") != std::string::npos)
                error.text = fmt::format("{}: is neither a trace nor a recording", path);
            return Unexpected{error};
        }
        const auto wanted = command.what == "show" ? model::detail_for(command.format) : machine::TraceDetail::Memory;
        auto options = trace_options(command.detail, command.events, wanted);
        if (!options) return Unexpected{options.error()};
        auto temporary = TemporaryFile::create();
        if (!temporary) return Unexpected{temporary.error()};
        auto file =
            machine::TraceWriter::on((*temporary)->file(), (*temporary)->path(), options->detail, options->events);
        auto code = trace_recording(path, command, window, std::move(file), *options);
        if (!code) return Unexpected{code.error()};
        out.code = *code;
        out.temporary = std::move(*temporary);
        from = out.temporary->path();
    } else if (!command.detail.empty()) {
        return fail(Error::Code::Usage, fmt::format("--detail: {} is a trace already; it has what it has", path));
    }
    auto file = TraceFile::open(from);
    if (!file) return Unexpected{file.error()};
    out.file = std::move(*file);
    for (const std::string& note : out.file->notes())
        std::fprintf(stderr, "verdigris: note: %s\n", printable(note).c_str());
    return out;
}

/// The program's output: a file of the user's choice, or standard output.
class Output {
  public:
    static Result<std::unique_ptr<Output>> open(const std::string& path) {
        auto out = std::make_unique<Output>();
        if (path.empty()) return out;
        auto file = OutputFile::open("--output", path);
        if (!file) return Unexpected{file.error()};
        out->file_ = std::move(*file);
        return out;
    }
    void put(std::string_view bytes) {
        if (failed_) return;
        if (file_ != nullptr) file_->begin();
        failed_ = !write_all(file_ != nullptr ? file_->fd() : STDOUT_FILENO, bytes);
        if (failed_) error_ = errno;
    }
    [[nodiscard]] bool failed() const { return failed_; }
    /// Whoever read it has enough: no failure.
    [[nodiscard]] Result<void> status() const {
        if (!failed_ || error_ == EPIPE || interrupts() > 0) return {};
        return fail(Error::Code::Host,
                    fmt::format("the trace could not be written: {}; check free space", std::strerror(error_)));
    }

  private:
    std::unique_ptr<OutputFile> file_;
    bool failed_ = false;
    int error_ = 0;
};

/// Goes through what is wanted, with progress if it goes to a file.
Result<void> walk(TraceFile& file, const model::TraceQuery& query, model::TraceSink& sink, const TraceCommand& command,
                  const Output* output) {
    Progress progress("reading", std::max<std::size_t>(file.chunks().size(), 1));
    const bool shows = !command.quiet && (command.what != "show" || !command.output.empty());
    return model::walk_trace(file, query, sink, [&](u64 done, u64) {
        if (shows) progress.update(done);
        return interrupts() == 0 && (output == nullptr || !output->failed());
    });
}

int show(const TraceCommand& command, const model::TraceWindow& window) {
    auto output = Output::open(command.output);
    if (!output) return report(output.error());
    auto source = open_source(command.files[0], command, window);
    if (!source) return report(source.error());
    auto query = model::TraceQuery::create(*source->file, window, command.filter);
    if (!query) return report(query.error());
    auto form =
        model::make_trace_output(command.format, *source->file, [&](std::string_view bytes) { (*output)->put(bytes); });
    if (!form) return report(form.error());
    const auto walked = walk(*source->file, *query, **form, command, output->get());
    (*form)->finish();
    if (!walked) return report(walked.error());
    if (auto ok = (*output)->status(); !ok) return report(ok.error());
    if (!(*form)->note().empty()) std::fprintf(stderr, "verdigris: note: %s\n", printable((*form)->note()).c_str());
    return interrupts() > 0 ? kInterrupted : source->code;
}

/// A recording becomes a trace's file.
int make(const TraceCommand& command, const model::TraceWindow& window) {
    if (command.output.empty()) return report({Error::Code::Usage, "trace: --format trace wants --output FILE"});
    if (!command.filter.empty())
        return report({Error::Code::Usage,
                       "trace: a trace's file holds everything in its window; use --filter when you look at it"});
    if (window.names_symbols() || window.from.kind == Bound::Kind::Event || window.to.kind == Bound::Kind::Event)
        return report(
            {Error::Code::Usage,
             "trace: a file's window is given in instructions or times; events and symbols are for looking at it"});
    if (TraceFile::is_trace(command.files[0]))
        return report({Error::Code::Usage, fmt::format("trace: {} is a trace already", command.files[0])});
    auto options = trace_options(command.detail, command.events, machine::TraceDetail::Memory);
    if (!options) return report(options.error());
    if (auto recording = machine::Recording::open(command.files[0]); !recording) return report(recording.error());
    auto file = machine::TraceWriter::create(command.output, options->detail, options->events);
    if (!file) return report(file.error());
    auto code = trace_recording(command.files[0], command, window, std::move(*file), *options);
    return code ? *code : report(code.error());
}

int stat(const TraceCommand& command, const model::TraceWindow& window) {
    auto source = open_source(command.files[0], command, window);
    if (!source) return report(source.error());
    auto query = model::TraceQuery::create(*source->file, window, command.filter);
    if (!query) return report(query.error());
    model::TraceStatistics statistics(*source->file);
    if (auto ok = walk(*source->file, *query, statistics, command, nullptr); !ok) return report(ok.error());
    std::fputs(command.json ? model::json_text(statistics.json(command.top)).c_str()
                            : printable(statistics.text(command.top)).c_str(),
               stdout);
    return interrupts() > 0 ? kInterrupted : source->code;
}

int diff(const TraceCommand& command, const model::TraceWindow& window) {
    auto first = open_source(command.files[0], command, window);
    if (!first) return report(first.error());
    auto second = open_source(command.files[1], command, window);
    if (!second) return report(second.error());
    Progress progress("comparing", std::max<std::size_t>(first->file->chunks().size(), 1));
    auto difference =
        model::compare_traces(*first->file, *second->file, window, command.filter, command.top, [&](u64 done, u64) {
            if (!command.quiet) progress.update(done);
            return interrupts() == 0;
        });
    if (!difference) return report(difference.error());
    if (interrupts() > 0) return kInterrupted;
    std::fputs(printable(difference->text(command.files[0], command.files[1])).c_str(), stdout);
    return difference->equal ? kPass : kExpectationFailed;
}

}  // namespace

Result<machine::TraceOptions> trace_options(const std::string& detail, const std::string& events,
                                            machine::TraceDetail otherwise) {
    machine::TraceOptions out;
    out.detail = otherwise;
    if (!detail.empty()) {
        const auto parsed = machine::trace_detail(detail);
        if (!parsed)
            return fail(Error::Code::Usage,
                        fmt::format("trace detail '{}': there are flow, memory, values and registers", detail));
        out.detail = *parsed;
    }
    if (events == "all") return out;
    out.events = 0;
    if (events == "none") return out;
    for (std::size_t at = 0; at <= events.size();) {
        const std::size_t comma = std::min(events.find(',', at), events.size());
        const std::string name = events.substr(at, comma - at);
        const TapKind kind = tap_kind(name);
        if (kind == TapKind::Count) {
            std::string known;
            for (unsigned k = 0; k < static_cast<unsigned>(TapKind::Count); ++k)
                known += fmt::format("{}{}", k == 0 ? "" : ", ", tap_row(static_cast<TapKind>(k)).name);
            return fail(Error::Code::Usage, fmt::format("trace events '{}': there are all, none, {}", name, known));
        }
        out.events |= tap_bit(kind);
        at = comma + 1;
    }
    return out;
}

Result<std::unique_ptr<LiveTrace>> LiveTrace::create(const std::string& path, const machine::TraceOptions& options) {
    auto file = machine::TraceWriter::create(path, options.detail, options.events);
    if (!file) return Unexpected{file.error().in("--trace")};
    return std::make_unique<LiveTrace>(std::move(*file), options);
}

Result<void> LiveTrace::finish(machine::Machine& machine) {
    tracer_.detach();
    model::GuestSymbols symbols;
    return tracer_.finish(model::functions_at(machine, symbols, tracer_.code()));
}

int trace(const TraceCommand& command) {
    catch_interrupts();
    auto window = model::TraceWindow::parse(command.window);
    if (!window) return report(window.error());
    if (command.what == "stat") return stat(command, *window);
    if (command.what == "diff") return diff(command, *window);
    if (command.format == kOwnFormat) return make(command, *window);
    if (!model::is_trace_format(command.format))
        return report(
            {Error::Code::Usage,
             fmt::format("--format {}: there are text, jsonl, tenet, drcov, perfetto and trace", command.format)});
    return show(command, *window);
}

}  // namespace vg::cli
