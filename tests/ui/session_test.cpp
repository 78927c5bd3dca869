// Runs of kernels of a few instructions: what ends them, and with which exit code.
#include "ui/cli/session.h"

#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <thread>

#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"
#include "ui/cli/commands.h"
#include "ui/cli/output_file.h"

using namespace vg;
using namespace vg::cli;

namespace {

using Bytes = std::vector<u8>;

const Bytes kLoadIdt = {0x0f, 0x01, 0x1d, 0x60, 0x00, 0x20, 0x00};
/// Interrupt on received data, OUT2; prints ':'; waits.
const Bytes kAsk = {0x66, 0xba, 0xf9, 0x03, 0xb0, 0x01, 0xee, 0x66, 0xba, 0xfc, 0x03, 0xb0, 0x08, 0xee,
                    0x66, 0xba, 0xf8, 0x03, 0xb0, ':',  0xee, 0xfb, 0xf4};
/// What was received goes to the exit device.
const Bytes kAnswer = {0x66, 0xba, 0xf8, 0x03, 0xec, 0xe6, 0xf4, 0xf4};
const Bytes kWaitForGood = {0xfa, 0xf4, 0xeb, 0xfd};
const Bytes kPrintForever = {0x66, 0xba, 0xf8, 0x03, 0xb0, 'x', 0xee, 0xeb, 0xfd};

Bytes exit_with(u8 value) { return {0xb0, value, 0xe6, 0xf4, 0xf4}; }
Bytes operator+(Bytes a, const Bytes& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

struct Run {
    test::TempDir dir;
    std::string serial = "none";
    SessionLimits limits;
    std::vector<machine::SendRule> sends;

    Verdict of(const Bytes& code, const Bytes& handler = {0xf4}, u8 vector = 0x0c) {
        test::write_file(dir / "kernel", test::image_with(code, handler, vector));
        machine::Config config;
        config.machine.memory = {u64{32} << 20};
        config.boot.emplace();
        config.boot->kernel = dir / "kernel";
        config.devices.isa_debug_exit = 0xf4;
        auto script = machine::ConsoleScript::create({}, {}, sends);
        REQUIRE(script);
        auto console = Console::create(serial);
        REQUIRE(console);
        Session session(limits, std::move(*script), std::move(*console));
        machine::MachineOptions options;
        options.engine = machine::MachineOptions::EngineKind::Step;
        options.console = [&session](const std::string&, u8 byte) { session.on_console(byte); };
        auto machine = machine::Machine::create(config, std::move(options));
        REQUIRE(machine);
        return session.run(**machine, {}, false);
    }
};

}  // namespace

TEST_CASE("session: a scripted answer wakes a guest that waits for nothing else", "[ui][session]") {
    Run run;
    run.sends = {{":", "A"}};
    run.limits.test.pass_value = 'A' << 1 | 1;
    CHECK(run.of(kLoadIdt + kAsk, kAnswer).code == kPass);
}

TEST_CASE("session: a guest that waits for good is a hang", "[ui][session]") {
    CHECK(Run{}.of(kWaitForGood).code == kGuestHang);
}

TEST_CASE("session: the exit device passes with the configured value", "[ui][session]") {
    Run run;
    CHECK(run.of(exit_with(0)).code == kPass);  // (0 << 1) | 1, the default
    CHECK(run.of(exit_with(1)).code == kExpectationFailed);
    run.limits.test.pass_value = 33;
    CHECK(run.of(exit_with(16)).code == kPass);
    CHECK(run.of(exit_with(33)).code == kExpectationFailed);
}

TEST_CASE("session: a console that cannot be written ends the run", "[ui][session]") {
    Run run;
    run.serial = "file:/dev/full";
    const Verdict verdict = run.of(kPrintForever);
    CHECK(verdict.code == kHostCannot);
    CHECK(verdict.text.find("No space left") != std::string::npos);
}

TEST_CASE("session: a socket console keeps what was printed for who comes, and hands on what is typed", "[ui][session]") {
    Run run;
    const std::string address = "unix:" + (run.dir / "serial");
    run.serial = address;
    run.limits.test.pass_value = 'B' << 1 | 1;
    run.limits.test.wall_time.ns = 20'000'000'000;
    std::string heard;
    std::thread person([&] {
        Result<int> fd = connect_unix(address);
        for (int tries = 0; !fd && tries < 1000; ++tries) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
            fd = connect_unix(address);
        }
        if (!fd) return;
        char c = 0;
        while (::read(*fd, &c, 1) == 1) {
            heard += c;
            if (c == ':' && ::send(*fd, "B", 1, MSG_NOSIGNAL) != 1) break;
        }
        ::close(*fd);
    });
    CHECK(run.of(kLoadIdt + kAsk, kAnswer).code == kPass);
    person.join();
    CHECK(heard == ":");
    CHECK_FALSE(std::filesystem::exists(run.dir / "serial"));
}

TEST_CASE("output file: stays as it was until it is begun", "[ui][output]") {
    test::TempDir dir;
    CHECK_FALSE(OutputFile::open("--stats", dir / "none/x"));
    { auto file = OutputFile::open("--stats", dir / "new"); }
    CHECK_FALSE(std::filesystem::exists(dir / "new"));
    test::write_file(dir / "old", {'a', 'b', 'c'});
    {
        auto file = OutputFile::open("--stats", dir / "old");
        REQUIRE(file);
        CHECK(test::read_file(dir / "old") == Bytes{'a', 'b', 'c'});
        CHECK((*file)->replace("x"));
    }
    CHECK(test::read_file(dir / "old") == Bytes{'x'});
    auto full = OutputFile::open("--stats", "/dev/full");
    REQUIRE(full);
    auto written = (*full)->replace("x");
    REQUIRE(!written);
    CHECK(written.error().code == Error::Code::Host);
    CHECK(written.error().text.find("--stats /dev/full: cannot be written: No space left") == 0);
}

TEST_CASE("printable: nothing reaches a terminal but text", "[ui][text]") {
    CHECK(printable("a\tb\nc") == "a\tb\nc");
    CHECK(printable("\x1b[2J\x07\x7f") == "?[2J??");
    CHECK(printable("\xc3\xa9\xff\xc3") == "\xc3\xa9??");
    CHECK(printable("").empty());
}
