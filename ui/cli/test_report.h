// What `verdigris test` says about its tests: lines for people, TAP, JUnit.
#pragma once

#include <string>
#include <vector>

#include "ui/cli/junit.h"
#include "ui/cli/test_case.h"
#include "ui/cli/test_process.h"

namespace vg::cli {

/// One run of a test, as its process and its `--stats` tell it.
struct TestRun {
    int code = 0;
    std::string text;        ///< the run's own verdict
    std::string state_hash;  ///< "" if it did not come to one
    double guest_seconds = 0, wall_seconds = 0;
    unsigned long long instructions = 0;
    std::string console, log;  ///< excerpts
    /// Of another run of the same machine this one's state can be told: no host time is in it.
    [[nodiscard]] bool comparable() const;
};

/// A test's verdict over all its runs.
struct TestResult {
    enum class Kind { Pass, Fail, Skip, Interrupted };
    const TestCase* test = nullptr;
    Kind kind = Kind::Pass;
    bool own_fault = false;  ///< Fail: of the description, this host or this program rather than of the guest
    std::string why;         ///< for people, of a failure or a skipped test
    std::vector<TestRun> runs;

    [[nodiscard]] double wall_seconds() const;
    [[nodiscard]] double guest_seconds() const;
    /// The run that the verdict is about.
    [[nodiscard]] const TestRun* decisive() const;
};

/// The run as its process left it. @param stats  the content of its --stats file, "" if there is none; any bytes
[[nodiscard]] TestRun read_run(const Ending& ending, const std::string& stats, std::string console, std::string log);
/// Verdict over runs that have all ended.
[[nodiscard]] TestResult judge(const TestCase& test, std::vector<TestRun> runs);

/// A line, and behind a failure the end of its console. Ends with a newline.
[[nodiscard]] std::string text_line(const TestResult& result);
/// "3 passed, 1 failed, 0 skipped".
[[nodiscard]] std::string summary_line(const std::vector<TestResult>& results);
/// TAP 13: a test line and its YAML block.
[[nodiscard]] std::string tap_lines(const TestResult& result, std::size_t number);
[[nodiscard]] JunitCase junit_case(const TestResult& result);

}  // namespace vg::cli
