#include "ui/cli/test_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <regex>

namespace vg::cli {

namespace {

namespace fs = std::filesystem;

/// Folders with more files than this are some other tree's root.
constexpr std::size_t kMaxFiles = 100'000;

/// Whether a file that is no description of a machine was meant as a test: other programs use TOML too.
bool has_test_table(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::string line;
    const std::regex header("\\s*\\[\\s*test\\s*\\].*");
    constexpr std::size_t kMaxLine = 1024;
    for (int lines = 0; lines < 10'000 && std::getline(in, line); ++lines) {
        if (line.size() <= kMaxLine && std::regex_match(line, header)) return true;
    }
    return false;
}

bool depends_on_outside(const machine::Config& config) {
    const auto written = [](const machine::DiskSection& disk) {
        return !disk.overlay.empty() || disk.write == "direct";
    };
    const auto reaches_host = [](const machine::NicSection& nic) { return nic.backend == "slirp"; };
    if (std::any_of(config.disks.begin(), config.disks.end(), written)) return true;
    for (const machine::ChildSection& child : config.children) {
        if (std::any_of(child.disks.begin(), child.disks.end(), written)) return true;
        if (std::any_of(child.nics.begin(), child.nics.end(), reaches_host)) return true;
    }
    return std::any_of(config.nics.begin(), config.nics.end(), reaches_host);
}

/// Without a [test] table: nothing.
std::optional<TestCase> read_test(const fs::path& file) {
    TestCase out;
    out.file = file.string();
    const auto config = machine::load_config(out.file, {});
    if (config && !config->test) return std::nullopt;
    if (!config && !has_test_table(out.file)) return std::nullopt;
    if (!config) {
        out.broken = config.error().text;
        return out;
    }
    out.test = *config->test;
    out.recordable = config->machine.scheduler != "parallel";
    out.differs = !out.recordable || depends_on_outside(*config);
    return out;
}

/// A path as part of a name: without what only says where the reader stands.
std::string name_part(const fs::path& path) {
    fs::path out;
    for (const fs::path& part : path.lexically_normal()) {
        if (part != ".." && part != "." && part != "/" && !part.empty()) out /= part;
    }
    return out.string();
}

std::string name_of(const fs::path& file, const fs::path& place, bool with_place) {
    fs::path name = name_part(file.lexically_normal().lexically_relative(place.lexically_normal()));
    if (with_place) name = name_part(place) / name;
    return name.replace_extension().string();
}

Result<std::vector<fs::path>> descriptions_below(const std::string& place) {
    std::vector<fs::path> files;
    std::error_code error;
    fs::recursive_directory_iterator walk(place, fs::directory_options::skip_permission_denied, error);
    std::size_t seen = 0;
    for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
        if (++seen > kMaxFiles) {
            return fail(
                Error::Code::Usage,
                fmt::format("test: {} holds more than {} files; name the folder of the tests", place, kMaxFiles));
        }
        std::error_code ignored;
        if (walk->path().extension() == ".toml" && walk->is_regular_file(ignored)) files.push_back(walk->path());
    }
    if (error) return fail(Error::Code::Usage, fmt::format("test: {}: cannot be read: {}", place, error.message()));
    return files;
}

}  // namespace

std::string TestCase::reason_to_skip() const {
    if (!test.skip.empty()) return test.skip;
    for (const std::string& path : test.required) {
        std::error_code error;
        if (!fs::exists(path, error)) return fmt::format("needs {}", path);
    }
    return "";
}

Result<std::vector<TestCase>> find_tests(const std::vector<std::string>& places) {
    std::vector<TestCase> tests;
    for (const std::string& place : places) {
        std::error_code error;
        const bool folder = fs::is_directory(place, error);
        std::vector<fs::path> files = {place};
        if (folder) {
            auto found = descriptions_below(place);
            if (!found) return Unexpected{found.error()};
            files = std::move(*found);
        } else if (!fs::exists(place, error)) {
            return fail(Error::Code::Usage,
                        fmt::format("test: {} does not exist; name a folder of machine descriptions, for example "
                                    "examples/tests",
                                    place));
        }
        const fs::path base = folder ? fs::path(place) : fs::path(place).parent_path();
        for (const fs::path& file : files) {
            auto test = read_test(file);
            if (!test && !folder)
                return fail(Error::Code::Usage, fmt::format("test: {} has no [test] table; see docs/ci.md", place));
            if (!test) continue;
            test->name = name_of(file, base, places.size() > 1);
            tests.push_back(std::move(*test));
        }
    }
    std::sort(tests.begin(), tests.end(), [](const TestCase& a, const TestCase& b) { return a.name < b.name; });
    const auto twice =
        std::adjacent_find(tests.begin(), tests.end(), [](const auto& a, const auto& b) { return a.name == b.name; });
    if (twice != tests.end()) {
        return fail(Error::Code::Usage,
                    fmt::format("test: {} and {} have one name; name each place once, or run them by themselves",
                                twice->file, std::next(twice)->file));
    }
    return tests;
}

Result<Shard> parse_shard(const std::string& text) {
    Shard shard;
    const char* const end = text.data() + text.size();
    const auto [slash, first] = std::from_chars(text.data(), end, shard.index);
    if (first == std::errc{} && slash != end && *slash == '/') {
        const auto [last, second] = std::from_chars(slash + 1, end, shard.count);
        if (second == std::errc{} && last == end && shard.index >= 1 && shard.index <= shard.count) return shard;
    }
    return fail(Error::Code::Usage,
                fmt::format("test: --shard {}: write I/N with I from 1 to N, for example 1/4", text));
}

std::vector<TestCase> part_of(std::vector<TestCase> tests, Shard shard) {
    std::vector<TestCase> part;
    for (std::size_t i = shard.index - 1; i < tests.size(); i += shard.count) part.push_back(std::move(tests[i]));
    return part;
}

}  // namespace vg::cli
