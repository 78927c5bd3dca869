// What `verdigris test` runs: machine descriptions with a [test] table.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "machine/config.h"

namespace vg::cli {

/// One description, read but not checked.
struct TestCase {
    std::string name;    ///< see find_tests
    std::string file;    ///< as `run` takes it
    std::string broken;  ///< why the description cannot be read; it then fails without a run
    machine::TestSection test;
    /// Runs depend on the network, or on what earlier ones left in a file: they need not be equal.
    bool differs = false;
    bool recordable = true;  ///< the scheduler is one whose runs can be recorded

    /// Why the test is not run: `skip`, or a file of `requires` that does not exist. "": it is run.
    [[nodiscard]] std::string reason_to_skip() const;
};

/// The tests in `places`, sorted by name: descriptions that are named, and those below folders (`*.toml`, links to
/// folders are not followed) that have a [test] table. A test's name is its path below its folder without ".toml"; when
/// several places are given, the place comes before it. Errors (Usage): a place does not exist, a named description has
/// no [test] table, two tests have one name.
[[nodiscard]] Result<std::vector<TestCase>> find_tests(const std::vector<std::string>& places);

/// One of `count` parts of a list of tests, `index` from 1.
struct Shard {
    u32 index = 1, count = 1;
};
/// "I/N". Error (Usage).
[[nodiscard]] Result<Shard> parse_shard(const std::string& text);
/// Every count-th test, from the index-th on: parts of equal size, together all tests, none twice.
[[nodiscard]] std::vector<TestCase> part_of(std::vector<TestCase> tests, Shard shard);

}  // namespace vg::cli
