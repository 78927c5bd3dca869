// The session, commands, palette, navigation and scripts.
#include <catch2/catch.hpp>

#include "tests/desk/fixture.h"

using namespace vg;
using namespace vg::test;
using Clock = Session::Clock;

namespace {

/// Runs a script as the window's loop does.
std::pair<Script::State, std::string> run_script(Bench& b, const std::string& text) {
    auto script = Script::parse(text, "t");
    if (!script) return {Script::State::Failed, script.error().text};
    auto now = Clock::now();
    for (int i = 0; i < 4000; ++i) {
        b.bench.update(Clock::now());
        const Script::State state = script->step(b.bench, now);
        if (state != Script::State::Running) return {state, script->failure()};
        b.bench.wishes.screenshot.clear();
        b.bench.session.wait(2);
        now += std::chrono::milliseconds(20);  // waits end sooner than they say
    }
    return {Script::State::Running, ""};
}

}  // namespace

TEST_CASE("desk: a slow link never holds up whoever draws", "[desk]") {
    Bench b;
    b.machine->delay_ms = 300;
    b.bench.session.changed();
    const auto begin = Clock::now();
    for (int i = 0; i < 20; ++i) b.bench.update(Clock::now());
    CHECK(Clock::now() - begin < std::chrono::milliseconds(150));
    CHECK_FALSE(b.bench.settled());
    CHECK(b.bench.registers.waiting());
    b.machine->delay_ms = 0;
    CHECK(b.settle());
}

TEST_CASE("desk: a link that goes away is told once, and nothing more is expected of it", "[desk]") {
    Bench b;
    b.machine->gone = true;
    REQUIRE(run_command(b.bench, "step"));
    for (int i = 0; i < 100 && b.bench.session.trouble().empty(); ++i) {
        b.bench.update(Clock::now());
        b.bench.session.wait(5);
    }
    CHECK(b.bench.session.trouble() == "the machine went away");
    CHECK_FALSE(b.bench.session.running());
    CHECK(b.refuses("step").find("no machine is open") != std::string::npos);
}

TEST_CASE("desk: another protocol is refused by its number", "[desk]") {
    Bench b(false);
    b.machine->answers["hello"] = {{"protocol", 7}};
    REQUIRE(b.bench.open("fake"));
    for (int i = 0; i < 100 && b.bench.session.trouble().empty(); ++i) {
        b.bench.update(Clock::now());
        b.bench.session.wait(5);
    }
    CHECK(b.bench.session.trouble() == "the other side speaks protocol 7, this program speaks 1");
}

TEST_CASE("desk: answers of any shape leave the panels standing", "[desk]") {
    const Json shapes[] = {Json(),
                           Json(5),
                           Json("text"),
                           Json::array({1, Json::array({2, nullptr}), "x"}),
                           Json{{"rows", {1, {{"kind", 5}}, {{"kind", "msr"}, {"values", 7}}}}, {"next", "0xzz"}},
                           Json{{"steps", {5, {{"level", {1}}}}}, {"second", "x"}},
                           Json{{"tree", {{"child", {{"channels", {{"0", {{"relid", nullptr}}}}}}}}}},
                           Json::object()};
    for (const Json& shape : shapes) {
        Bench b;
        for (const char* op : {"status", "partitions", "registers", "disassemble", "read", "walk", "inspect", "breaks",
                               "console", "events", "stack", "symbolize", "screen", "jit_blocks", "jit_block"})
            b.machine->answers[op] = shape;
        b.bench.layout = *Layout::preset("everything");
        for (int i = 0; i < 3; ++i) {
            b.bench.session.changed();
            CHECK(b.settle());
        }
        for (std::size_t i = 0; i < kPanels; ++i) (void)b.bench.view(static_cast<Panel>(i)).text();
    }
}

TEST_CASE("desk: running, stopping, and what cannot be done meanwhile", "[desk]") {
    Bench b;
    REQUIRE(run_command(b.bench, "continue"));
    CHECK(b.bench.session.running());
    CHECK(b.refuses("step") == "step: the machine runs; stop it first");
    CHECK(b.bench.session.progress());
    b.run("stop");
    CHECK_FALSE(b.bench.session.running());
    CHECK(b.bench.session.stop()->reason == "asked");
    CHECK(b.refuses("reverse-continue").find("no way back") != std::string::npos);
    b.run("run-to 0xffffffff81000040");
    CHECK(b.machine->breaks.size() == 1);
    b.run("stop");
    CHECK(b.machine->breaks.empty());  // the breakpoint was for this run only
}

TEST_CASE("desk: every command has a title and a name of its own; keys are not shared", "[desk]") {
    std::set<std::string_view> ids, keys;
    for (const Command& command : commands()) {
        CHECK(ids.insert(command.id).second);
        CHECK_FALSE(command.title.empty());
        if (!command.key.empty()) CHECK(keys.insert(command.key).second);
        CHECK(find_command(command.id) == &command);
    }
    for (std::size_t i = 0; i < kPanels; ++i)
        CHECK(panel_by_id(panel_row(static_cast<Panel>(i)).id) == static_cast<Panel>(i));
}

TEST_CASE("desk: commands without a machine say so; wrong arguments are refused", "[desk]") {
    for (const Command& command : commands()) {
        Bench b(false);
        if (command.refusal(b.bench).empty()) continue;
        const std::string no = b.refuses(std::string(command.id) + (command.argument.empty() ? "" : " x"));
        INFO(command.id);
        CHECK(no.find(':') != std::string::npos);
    }
    Bench b;
    for (const char* line : {"scale 3",
                             "scale 1x",
                             "theme blue",
                             "layout none",
                             "panel none",
                             "close none",
                             "vp x",
                             "set rax",
                             "poke 0x10",
                             "poke 0x10 ??",
                             "filter none x",
                             "timeline 5",
                             "timeline 1s..x",
                             "channel x",
                             "break-add",
                             "nonsense",
                             "step 0",
                             "step x",
                             "quit now",
                             "layout-load /nowhere",
                             "layout-save /nowhere/x"})
        CHECK_FALSE(b.refuses(line).empty());
}

TEST_CASE("desk: the palette finds by letters in order, whole words first", "[desk]") {
    CHECK(match_score("Step over", "so") > 0);
    CHECK(match_score("Step over", "os") < 0);
    CHECK(match_score("Step over", "step") > match_score("Stop at every point", "step"));
    const auto rows = palette("vmbus");
    REQUIRE_FALSE(rows.empty());
    CHECK(rows[0].title.find("VMBus") != std::string::npos);
    CHECK(palette("").size() == commands().size() + kPanels);
    CHECK(palette("zzzzzz").empty());
}

TEST_CASE("desk: back and forward go where one was", "[desk]") {
    Bench b;
    b.run("code 0x400000");
    b.run("code 0x500000");
    b.run("back");
    CHECK(b.bench.disassembly.selected() == 0x400000);
    b.run("back");
    CHECK(b.bench.disassembly.following());
    CHECK(b.refuses("back").find("nowhere") != std::string::npos);
    b.run("forward");
    CHECK(b.bench.disassembly.selected() == 0x400000);
    b.run("code 0x600000");
    CHECK(b.refuses("forward").find("nowhere") != std::string::npos);
}

TEST_CASE("desk: scripts run commands, wait and look", "[desk][script]") {
    Bench b(false);
    const auto [state, failure] =
        run_script(b,
                   "# a comment\n\nopen fake\nwait ready\nwait stopped\nexpect rax = 0x1 in registers\nstep\nwait "
                   "stopped\nwait settled\nexpect rax = 0x2 in registers\n"
                   "expect-not rax = 0x1 in registers\nscreenshot x.png\n");
    CHECK(failure.empty());
    CHECK(state == Script::State::Passed);
}

TEST_CASE("desk: scripts fail with file, line and reason", "[desk][script]") {
    Bench b;
    CHECK(run_script(b, "step\nnonsense\n").second == "t:2: there is no command 'nonsense'");
    CHECK(run_script(b, "\nexpect nowhere in registers\n").second == "t:2: 'nowhere' is not in registers");
    CHECK(run_script(b, "expect x in nowhere\n").second == "t:1: write: expect TEXT in PANEL");
    CHECK(run_script(b, "goto 5s\n").second.find("t:1: goto: a live machine has no way back") == 0);
    CHECK(run_script(b, "wait whatever\n").second.find("t:1: write: wait stopped") == 0);
    CHECK(run_script(b, "wait stopped x\n").second.find("not a number of seconds") != std::string::npos);
    CHECK(run_script(b, "open none\n").second == "t:1: open: none: there is no such file");
    b.machine->running = true;
    REQUIRE(run_command(b.bench, "continue"));
    CHECK(run_script(b, "wait stopped 0.1\n").second == "t:1: not stopped after 0.1 seconds");
}
