#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "ui/cli/commands.h"
#include "ui/cli/junit.h"
#include "ui/cli/test_case.h"
#include "ui/cli/test_report.h"

using namespace vg;
using namespace vg::cli;

namespace {

struct Folder {
    std::string path;
    Folder() {
        char name[] = "/tmp/verdigris-find-XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path = name;
    }
    ~Folder() { std::filesystem::remove_all(path); }
    void write(const std::string& name, const std::string& text) const {
        std::filesystem::create_directories(std::filesystem::path(path + "/" + name).parent_path());
        std::ofstream(path + "/" + name) << text;
    }
};

std::vector<std::string> names(const std::vector<TestCase>& tests) {
    std::vector<std::string> out;
    for (const TestCase& test : tests) out.push_back(test.name);
    return out;
}

TestRun run_with(int code, std::string hash) {
    TestRun run;
    run.code = code;
    run.state_hash = std::move(hash);
    return run;
}

}  // namespace

TEST_CASE("junit: what no XML document may have becomes a question mark", "[ui][junit]") {
    CHECK(xml_text("<a href=\"x\">&</a>\t\n") == "&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;\t\n");
    CHECK(xml_text(std::string("\0\x01\x1b\r\x7f", 5)) == "?????");
    CHECK(xml_text("\xef\xbf\xbe|\xef\xbf\xbf|\xef\xbf\xbd") == "?|?|\xef\xbf\xbd");
    CHECK(xml_text("\xed\xa0\x80") == "???");  // a surrogate
    CHECK(xml_text("gr\xc3\xbc\xc3\x9f\xc3") == "gr\xc3\xbc\xc3\x9f?");
}

TEST_CASE("test: names are paths below the folder, in order; foreign files are left alone", "[ui][test]") {
    const Folder folder;
    folder.write("b.toml", "[test]\n");
    folder.write("a/z.toml", "[boot]\nkernel = \"k\"\n[test]\n");
    folder.write("a/machine.toml", "[boot]\nkernel = \"k\"\n");
    folder.write("Cargo.toml", "[package]\nname = \"x\"\n");
    folder.write("bad.toml", "nonsense = \n [ test ] # a test that is wrong\n");
    folder.write("b.txt", "[test]\n");
    const auto tests = find_tests({folder.path});
    REQUIRE(tests);
    CHECK(names(*tests) == std::vector<std::string>{"a/z", "b", "bad"});
    CHECK((*tests)[1].broken.empty());
    CHECK((*tests)[2].broken.find("bad.toml:1:") != std::string::npos);
    const auto both = find_tests({folder.path + "/a", folder.path + "/b.toml"});
    REQUIRE(both);
    CHECK(names(*both) == std::vector<std::string>{folder.path.substr(1) + "/a/z", folder.path.substr(1) + "/b"});
    CHECK(!find_tests({folder.path, folder.path}));
}

TEST_CASE("test: parts together are all tests, none twice, of equal size", "[ui][test]") {
    std::vector<TestCase> tests(10);
    for (std::size_t i = 0; i < tests.size(); ++i) tests[i].name = std::string(1, static_cast<char>('a' + i));
    const u32 count = GENERATE(1u, 2u, 3u, 10u, 11u);
    std::vector<std::string> all;
    for (u32 index = 1; index <= count; ++index) {
        const auto part = part_of(tests, {index, count});
        CHECK(part.size() <= (tests.size() + count - 1) / count);
        CHECK(part.size() >= tests.size() / count);
        for (const TestCase& test : part) all.push_back(test.name);
    }
    std::sort(all.begin(), all.end());
    CHECK(all == names(tests));
    for (const char* text : {"", "1", "0/1", "2/1", "1/0", "1/2x", "-1/2", "1/99999999999"}) CHECK(!parse_shard(text));
    REQUIRE(parse_shard("2/8"));
    CHECK(parse_shard("2/8")->index == 2);
}

TEST_CASE("test: equal runs must end in equal states, where they can", "[ui][test]") {
    TestCase test;
    CHECK(judge(test, {run_with(0, "a"), run_with(0, "a")}).kind == TestResult::Kind::Pass);
    CHECK(judge(test, {run_with(0, "a"), run_with(0, "b")}).kind == TestResult::Kind::Fail);
    CHECK(judge(test, {run_with(0, "a"), run_with(0, "b")}).why.find("1: a, 2: b") != std::string::npos);
    test.differs = true;
    CHECK(judge(test, {run_with(0, "a"), run_with(0, "b")}).kind == TestResult::Kind::Pass);
    test.differs = false;
    test.test.exit_code = kWallLimit;
    CHECK(judge(test, {run_with(kWallLimit, "a"), run_with(kWallLimit, "b")}).kind == TestResult::Kind::Pass);
}

TEST_CASE("test: the verdict is about the exit code that is expected", "[ui][test]") {
    TestCase test;
    test.test.exit_code = kGuestPanic;
    CHECK(judge(test, {run_with(kGuestPanic, "")}).kind == TestResult::Kind::Pass);
    CHECK(judge(test, {run_with(kGuestPanic, ""), run_with(0, "")}).why.find("exit 0 instead of 4") == 0);
    CHECK(!judge(test, {run_with(kExpectationFailed, "")}).own_fault);
    CHECK(judge(test, {run_with(kDamaged, "")}).own_fault);
    CHECK(judge(test, {run_with(kInterrupted, "")}).kind == TestResult::Kind::Interrupted);
    const TestRun killed = read_run(Ending{0, 11, 1.5}, "not JSON \xff", "", "");
    CHECK(killed.code == 139);
    CHECK(judge(test, {killed}).own_fault);
}

TEST_CASE("test: statistics of any shape are read without harm", "[ui][test]") {
    for (const char* stats : {"", "{", "[]", "{\"outcome\":3,\"state_hash\":{}}",
                              "{\"outcome\":{\"verdict\":[1]},\"instructions\":\"x\"}"}) {
        CHECK(read_run(Ending{}, stats, "", "verdigris: m.toml: why\n").text == "m.toml: why");
    }
    const TestRun run = read_run(
        Ending{}, R"({"outcome":{"verdict":"fine"},"guest_seconds":1.5,"instructions":7,"state_hash":"x"})", "", "");
    CHECK(run.text == "fine");
    CHECK(run.guest_seconds == 1.5);
    CHECK(run.instructions == 7);
}

TEST_CASE("test: a name cannot make a directive of TAP", "[ui][test]") {
    TestCase test;
    test.name = "a # SKIP\nok 2";
    CHECK(tap_lines(judge(test, {run_with(1, "")}), 1).rfind("not ok 1 - a \\# SKIP?ok 2\n  ---\n", 0) == 0);
}
