// `verdigris test`: runs machine descriptions, each in a process of its own, and says which passed.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <list>

#include "ui/cli/commands.h"
#include "ui/cli/host_signals.h"
#include "ui/cli/output_file.h"
#include "ui/cli/test_case.h"
#include "ui/cli/test_process.h"
#include "ui/cli/test_report.h"

namespace vg::cli {

namespace {

namespace fs = std::filesystem;

/// What reports quote of a console, from its end, and of a run's own messages.
constexpr std::size_t kConsoleExcerpt = 64 * 1024, kLogExcerpt = 16 * 1024, kMaxStats = 16 << 20;
/// A run looks at its wall time limit itself; one that does not is ended this long behind it.
constexpr double kGrace_s = 60;
constexpr int kPollMs = 5;

/// The end of a file, or "".
std::string tail_of(const std::string& path, std::size_t bytes) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {};
    const off_t size = ::lseek(fd, 0, SEEK_END);
    std::string out(bytes, '\0');
    const off_t from = size > static_cast<off_t>(bytes) ? size - static_cast<off_t>(bytes) : 0;
    const ssize_t count = ::pread(fd, out.data(), bytes, from);
    ::close(fd);
    out.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return out;
}

/// Where a run's files go: DIR/NAME.console and others; from the second run of a test on DIR/NAME.2.console.
struct Artefacts {
    std::string stem;

    Artefacts(const std::string& folder, const TestCase& test, u32 repeat)
        : stem(fmt::format("{}/{}{}", folder, test.name, repeat == 0 ? "" : fmt::format(".{}", repeat + 1))) {}
    [[nodiscard]] std::string console() const { return stem + ".console"; }
    [[nodiscard]] std::string stats() const { return stem + ".json"; }
    [[nodiscard]] std::string log() const { return stem + ".log"; }
    [[nodiscard]] std::string recording() const { return stem + ".vgr"; }
    [[nodiscard]] Result<void> make_folder() const {
        std::error_code error;
        fs::create_directories(fs::path(stem).parent_path(), error);
        if (!error) return {};
        return fail(Error::Code::Usage, fmt::format("test: --keep {}: cannot be made: {}",
                                                    fs::path(stem).parent_path().string(), error.message()));
    }
    /// What an earlier use of the folder left would be taken for this run's.
    void remove() const {
        std::error_code ignored;
        for (const std::string& file : {console(), stats(), log(), recording()}) fs::remove(file, ignored);
    }
};

/// A folder for a while.
class TemporaryFolder {
  public:
    static Result<std::unique_ptr<TemporaryFolder>> create() {
        const char* base = std::getenv("TMPDIR");
        std::string path = fmt::format("{}/verdigris-test-XXXXXX", base != nullptr && *base != 0 ? base : "/tmp");
        if (::mkdtemp(path.data()) == nullptr) {
            return fail(Error::Code::Host, fmt::format("test: no temporary folder can be made as {}: {}; set TMPDIR",
                                                       path, std::strerror(errno)));
        }
        return std::unique_ptr<TemporaryFolder>(new TemporaryFolder(path));
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
    std::string path_;
};

/// Runs tests, a few at a time, and reports each when its last run has ended.
class Runner {
  public:
    Runner(const TestOptions& options, const std::vector<TestCase>& tests, std::string folder)
        : options_(options),
          tests_(tests),
          folder_(std::move(folder)),
          runs_(tests.size()),
          left_(tests.size(), options.repeat) {
        // A recording of a failure is worth having wherever runs can be recorded.
        records_ = !options.keep.empty() && run_help().find("--record ") != std::string_view::npos;
    }

    Result<void> run() {
        for (std::size_t index = 0; index < tests_.size(); ++index) {
            if (auto why = not_run(tests_[index]))
                finish(std::move(*why));
            else
                for (u32 repeat = 0; repeat < options_.repeat; ++repeat) waiting_.push_back({index, repeat});
        }
        while (!waiting_.empty() || !active_.empty()) {
            if (interrupts() > 0) stop();
            while (!waiting_.empty() && active_.size() < options_.jobs) {
                const Job job = waiting_.front();
                waiting_.pop_front();
                if (auto ok = start(job); !ok) return ok;
            }
            collect();
            if (!active_.empty()) ::poll(nullptr, 0, kPollMs);  // a signal ends it
        }
        return {};
    }
    [[nodiscard]] const std::vector<TestResult>& results() const { return results_; }

  private:
    struct Job {
        std::size_t index;  ///< of the test
        u32 repeat;
    };
    struct Active {
        Job job;
        TestProcess process;
        bool overdue = false;
    };

    static std::optional<TestResult> not_run(const TestCase& test) {
        TestResult out;
        out.test = &test;
        out.kind = test.broken.empty() ? TestResult::Kind::Skip : TestResult::Kind::Fail;
        out.own_fault = !test.broken.empty();
        out.why = test.broken.empty() ? test.reason_to_skip() : test.broken;
        if (out.why.empty()) return std::nullopt;
        return out;
    }

    [[nodiscard]] std::vector<std::string> words(const TestCase& test, const Artefacts& files) const {
        std::vector<std::string> out = {"run",     test.file,     "--quiet",  "--serial",     "file:" + files.console(),
                                        "--stats", files.stats(), "--engine", options_.engine};
        if (test.test.guest_time.ns == 0) out.insert(out.end(), {"--guest-time", options_.guest_time});
        for (const std::string& setting : options_.settings) out.insert(out.end(), {"-s", setting});
        if (records_ && test.recordable) out.insert(out.end(), {"--record", files.recording()});
        return out;
    }

    Result<void> start(const Job& job) {
        const TestCase& test = tests_[job.index];
        const Artefacts files(folder_, test, job.repeat);
        if (auto ok = files.make_folder(); !ok) return ok;
        files.remove();
        auto process = TestProcess::start(words(test, files), files.log());
        if (!process) return Unexpected{process.error()};
        active_.push_back({job, std::move(*process)});
        return {};
    }

    /// Nothing new is started; what runs ends as it would by Ctrl-C.
    void stop() {
        waiting_.clear();
        if (std::exchange(stopped_, true)) return;
        for (Active& active : active_) active.process.interrupt();
    }

    void collect() {
        for (auto active = active_.begin(); active != active_.end();) {
            const double limit = static_cast<double>(tests_[active->job.index].test.wall_time.ns) / 1e9;
            if (limit != 0 && !active->overdue && active->process.seconds() > 2 * limit + kGrace_s) {
                active->overdue = true;
                active->process.kill();
            }
            const auto ending = active->process.ended();
            if (!ending) {
                ++active;
                continue;
            }
            take(active->job, *ending);
            active = active_.erase(active);
        }
    }

    void take(const Job& job, const Ending& ending) {
        const TestCase& test = tests_[job.index];
        const Artefacts files(folder_, test, job.repeat);
        runs_[job.index].push_back(read_run(ending, tail_of(files.stats(), kMaxStats),
                                            tail_of(files.console(), kConsoleExcerpt),
                                            tail_of(files.log(), kLogExcerpt)));
        if (!options_.keep.empty()) keep(test, files, runs_[job.index].back());
        if (--left_[job.index] == 0) finish(judge(test, std::move(runs_[job.index])));
    }

    /// Puts further files of the run beside what it wrote there itself. The recording of a run that went well goes.
    static void keep(const TestCase& test, const Artefacts& files, const TestRun& run) {
        std::error_code error;
        if (run.code == static_cast<int>(test.test.exit_code)) fs::remove(files.recording(), error);
        for (const std::string& path : test.test.artefacts) {
            const std::string target = fmt::format("{}.{}", files.stem, fs::path(path).filename().string());
            fs::copy_file(path, target, fs::copy_options::overwrite_existing, error);
            if (error)
                std::fprintf(stderr, "verdigris: test: %s: %s is not kept: %s\n", printable(test.name).c_str(),
                             printable(path).c_str(), error.message().c_str());
        }
    }

    void finish(TestResult result) {
        results_.push_back(std::move(result));
        const std::string text =
            options_.tap ? tap_lines(results_.back(), results_.size()) : text_line(results_.back());
        std::fputs(text.c_str(), stdout);
        std::fflush(stdout);
    }

    const TestOptions& options_;
    const std::vector<TestCase>& tests_;
    std::string folder_;
    std::vector<std::vector<TestRun>> runs_;  ///< of each test
    std::vector<u32> left_;                   ///< runs that have not ended
    std::list<Job> waiting_;
    std::list<Active> active_;
    std::vector<TestResult> results_;
    bool records_ = false, stopped_ = false;
};

int exit_code_of(const std::vector<TestResult>& results) {
    const auto any = [&](TestResult::Kind kind) {
        return std::any_of(results.begin(), results.end(),
                           [&](const TestResult& result) { return result.kind == kind; });
    };
    if (interrupts() > 0 || any(TestResult::Kind::Interrupted)) return kInterrupted;
    if (any(TestResult::Kind::Fail)) return kExpectationFailed;
    return !results.empty() && !any(TestResult::Kind::Pass) ? kSkipped : kPass;
}

Result<std::vector<TestCase>> tests_to_run(const TestOptions& options) {
    if (auto time = machine::parse_duration(options.guest_time); !time)
        return Unexpected{time.error().in("test: --guest-time")};
    const auto shard = parse_shard(options.shard);
    if (!shard) return Unexpected{shard.error()};
    auto tests = find_tests(options.places);
    if (!tests) return tests;
    if (tests->empty()) {
        return fail(Error::Code::Usage,
                    "test: no machine description with a [test] table there; see docs/ci.md and examples/tests");
    }
    return part_of(std::move(*tests), *shard);
}

}  // namespace

int test(const TestOptions& options) {
    catch_interrupts();
    const auto tests = tests_to_run(options);
    if (!tests) return report(tests.error());
    std::unique_ptr<OutputFile> junit;
    if (!options.junit.empty()) {
        auto file = OutputFile::open("--junit", options.junit);
        if (!file) return report(file.error());
        junit = std::move(*file);
    }
    std::unique_ptr<TemporaryFolder> temporary;
    if (options.keep.empty()) {
        auto made = TemporaryFolder::create();
        if (!made) return report(made.error());
        temporary = std::move(*made);
    }
    if (options.tap) std::printf("TAP version 13\n1..%zu\n", tests->size());
    Runner runner(options, *tests, temporary != nullptr ? temporary->path() : options.keep);
    const auto ran = runner.run();
    if (options.tap && interrupts() > 0) std::puts("Bail out! interrupted");
    if (!options.tap) std::printf("%s\n", summary_line(runner.results()).c_str());
    if (junit != nullptr) {
        std::vector<JunitCase> cases;
        for (const TestResult& result : runner.results()) cases.push_back(junit_case(result));
        if (auto ok = junit->replace(junit_text("verdigris", cases)); !ok) return report(ok.error());
    }
    return ran ? exit_code_of(runner.results()) : report(ran.error());
}

}  // namespace vg::cli
