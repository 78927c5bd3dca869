// What panels show, derived from the answers of a machine.
#include <catch2/catch.hpp>

#include "tests/desk/fixture.h"

using namespace vg;
using namespace vg::test;

TEST_CASE("desk: registers are grouped, their bits named, and what a step changed is marked", "[desk]") {
    Bench b;
    CHECK(b.shows(Panel::Registers, "rax = 0x1"));
    CHECK(b.shows(Panel::Registers, "IF ZF PF"));
    CHECK(b.shows(Panel::Registers, "PG AM WP NE ET MP PE"));
    b.run("step");
    const auto& general = b.bench.registers.groups().at(0);
    bool rax_changed = false, flags_changed = false;
    for (const RegisterRow& row : general.rows) {
        if (row.name == "rax") rax_changed = row.changed && row.value == 2;
        if (row.name == "rflags") flags_changed = row.changed;
    }
    CHECK(rax_changed);
    CHECK_FALSE(flags_changed);
    const auto fields = bit_fields("rflags", 0x3246);
    CHECK(
        std::any_of(fields.begin(), fields.end(), [](const BitField& f) { return f.name == "IOPL" && f.value == 3; }));
    CHECK(bit_fields("cs.attributes", 0xa09b).size() == 8);
    CHECK(bit_fields("rax", 5).empty());
}

TEST_CASE("desk: arrows of jumps take lanes so that they do not share a stretch", "[desk]") {
    std::vector<CodeLine> lines;
    for (u64 i = 0; i < 10; ++i) lines.push_back({i, "", i == 9 || i == 5 ? "jmp" : i == 7 ? "call" : "nop", "", {}});
    lines[9].target = 0;
    lines[5].target = 2;
    lines[7].target = 1;   // a call: no arrow
    lines[3].target = 99;  // not here
    const auto arrows = jump_arrows(lines);
    REQUIRE(arrows.size() == 2);
    CHECK(arrows[0].from == 5);
    CHECK(arrows[0].lane == 0);
    CHECK(arrows[1].from == 9);
    CHECK(arrows[1].lane == 1);
    std::vector<CodeLine> many;
    for (u64 i = 0; i < 3000; ++i) many.push_back({i, "", "jmp", "", 2999 - i});
    for (const JumpArrow& arrow : jump_arrows(many)) CHECK(arrow.lane < kMaxJumpLanes);
}

TEST_CASE("desk: the listing follows RIP until told otherwise, and scrolls into code that is not loaded", "[desk]") {
    Bench b;
    CHECK(b.shows(Panel::Disassembly, "=> ffffffff81000000"));
    b.run("step");
    CHECK(b.shows(Panel::Disassembly, "=> ffffffff81000004"));
    b.run("code 0x400000");
    CHECK_FALSE(b.bench.disassembly.following());
    CHECK(b.bench.disassembly.lines().at(b.bench.disassembly.top() + 8).address == 0x400000);
    const u64 first = b.bench.disassembly.lines().at(b.bench.disassembly.top()).address;
    for (int i = 0; i < 200; ++i) {
        b.bench.disassembly.scroll(3, 24);
        b.settle();
    }
    CHECK(b.bench.disassembly.lines().at(b.bench.disassembly.top()).address == first + 600 * 4);
    b.run("rip");
    CHECK(b.shows(Panel::Disassembly, "=> ffffffff81000004"));
}

TEST_CASE("desk: memory is read a page at a time; absent bytes and changes are told apart", "[desk]") {
    Bench b;
    b.run("memory linear 0xff8");
    b.bench.memory.set_visible(4);
    b.settle();
    CHECK(b.bench.memory.byte(0xfff).known == MemoryView::Known::Absent);
    CHECK(b.bench.memory.byte(0x1000).known == MemoryView::Known::Present);
    CHECK(b.bench.memory.byte(0x1000).value == 0x01);
    CHECK_FALSE(b.bench.memory.byte(0x1000).changed);
    CHECK(b.bench.memory.row_text(0x1000).find("01 02 03") != std::string::npos);
    b.run("step");
    CHECK(b.bench.memory.byte(0x1000).value == 0x02);
    CHECK(b.bench.memory.byte(0x1000).changed);
    b.run("memory physical 0xfffffffffffffff0");
    CHECK(b.bench.memory.space() == Space::Physical);
    CHECK(b.bench.memory.byte(~u64{0}).known == MemoryView::Known::Present);
    CHECK(b.bench.memory.text().size() == 4);  // wraps around
}

TEST_CASE("desk: breakpoints of every kind are read from words and written back", "[desk]") {
    const auto rule = [](const char* text) { return parse_rule(text); };
    CHECK(rule("0x1000 vp=1 cr3=0x5000")->rule ==
          Json{{"kind", "address"}, {"address", "0x1000"}, {"vp", 1}, {"cr3", "0x5000"}});
    CHECK(rule("start_kernel")->resolve == "start_kernel");
    CHECK(rule("watch 0x1000 4 rw physical partition=2")->rule == Json{{"kind", "watch"},
                                                                       {"address", "0x1000"},
                                                                       {"size", 4},
                                                                       {"read", true},
                                                                       {"write", true},
                                                                       {"physical", true},
                                                                       {"partition", 2}});
    CHECK(rule("hypercall code=0x5c")->rule ==
          Json{{"kind", "event"}, {"event", "hypercall"}, {"values", {{"control", "0x5c"}}}});
    CHECK(rule("port port=0x3f8 write=1 ignore=3")->rule ==
          Json{{"kind", "event"}, {"event", "port"}, {"ignore", 3}, {"values", {{"port", "0x3f8"}, {"write", "0x1"}}}});
    for (std::size_t i = 0; i < static_cast<std::size_t>(TapKind::Count); ++i)
        CHECK(rule(std::string(tap_row(static_cast<TapKind>(i)).name).c_str()));
    CHECK(rule("port prot=1").error().text.find("it has port, size, write, value") != std::string::npos);
    CHECK_FALSE(rule(""));
    CHECK_FALSE(rule("watch"));
    CHECK_FALSE(rule("watch 0x1000 0"));
    CHECK_FALSE(rule("watch 0x1000 2000000"));
    CHECK_FALSE(rule("0x1000 what"));
    CHECK_FALSE(rule("0x1000 vp=x"));
    for (const char* text : {"0x1000", "watch 0x1000 4 rw physical", "port port=0x3f8 write=0x1"})
        CHECK(rule_text(rule(text)->rule) == text);
}

TEST_CASE("desk: breakpoints are set by symbol, toggled at a line and removed", "[desk]") {
    Bench b;
    b.run("break-add start_kernel");
    REQUIRE(b.machine->breaks.size() == 1);
    CHECK(b.machine->breaks[0]["rule"]["address"] == "0xffffffff81000000");
    CHECK(b.shows(Panel::Breakpoints, "0xffffffff81000000"));
    CHECK(b.bench.breakpoints.at(0xffffffff81000000));
    b.run("break 0xffffffff81000000");
    CHECK(b.machine->breaks.empty());
    b.run("break-add no_such_symbol");
    CHECK(b.bench.session.messages().back().text.find("no symbol no_such_symbol") != std::string::npos);
    CHECK(b.refuses("break-remove x").find("number") != std::string::npos);
}

TEST_CASE("desk: the console shows lines without what a terminal would obey", "[desk]") {
    ConsoleText text;
    const auto feed = [&](std::string_view bytes) {
        std::vector<int> list;
        for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
        text.feed(list);
    };
    feed("one\r\n\x1b[31mt\x1b[0mwo\n50%\r100%\nab\b\bX\n\x1b]0;title\athree\x07\n\xff\xfe");
    CHECK(text.line(0) == "one");
    CHECK(text.line(1) == "two");
    CHECK(text.line(2) == "100%");
    CHECK(text.line(3) == "Xb");
    CHECK(text.line(4) == "three");
    CHECK(text.line(5) == "\\xff\\xfe");
    text.clear();
    feed("\x1b[" + std::string(100'000, '1') + "end");
    CHECK(text.line(text.lines() - 1).find("end") != std::string::npos);
    feed(std::string(100'000, 'x'));
    for (std::size_t i = 0; i < text.lines(); ++i) CHECK(text.line(i).size() <= ConsoleText::kMaxLine);
    for (int i = 0; i < 30'000; ++i) feed("\n");
    CHECK(text.lines() <= ConsoleText::kMaxLines + 1);
}

TEST_CASE("desk: a console that went back is read again", "[desk]") {
    Bench b;
    CHECK(b.shows(Panel::Console, "hello"));
    b.machine->console = "hello\nmore\n";
    b.bench.session.changed();
    CHECK(b.shows(Panel::Console, "more"));
    b.machine->console = "back\n";
    b.bench.session.changed();
    CHECK(b.shows(Panel::Console, "back"));
    CHECK_FALSE(b.shows(Panel::Console, "more"));
}

TEST_CASE("desk: hypercalls have names and results, and are found by them", "[desk]") {
    Bench b;
    b.event(10, "hypercall", {{"control", "0x1005c"}, {"input", "0x1"}, {"output", "0x0"}, {"result", "0x0"}});
    b.event(20, "hypercall", {{"control", "0x5d"}, {"input", "0x1"}, {"output", "0x0"}, {"result", "0x12"}});
    b.event(30, "hypercall", {{"control", "0xfff0"}, {"input", "0x1"}, {"output", "0x0"}, {"result", "0x2"}});
    CHECK(b.shows(Panel::Hypercalls, "PostMessage fast"));
    CHECK(b.shows(Panel::Hypercalls, "InvalidConnectionId"));
    CHECK(b.shows(Panel::Hypercalls, "hypercall 0xfff0"));
    b.run("filter hypercalls signalevent");
    CHECK(b.bench.hypercalls.table().rows() == 1);
    CHECK(b.machine->watched.find("hypercall") != std::string::npos);
}

TEST_CASE("desk: a storage request is decoded, matched with its completion and followed", "[desk][vmbus]") {
    Bench b;
    const auto packet = [](unsigned type, const std::string& body) {
        std::string text = fmt::format("{:02x}000200", type) +
                           "0a00"
                           "0100"
                           "2a00000000000000";
        return text + body;
    };
    // Operation 3 (execute), SRB with READ(10) of 8 blocks at 2048 from 0:1:2.
    std::string srb =
        "03000000"
        "00000000"
        "00000000"
        "3400"
        "00"
        "00"
        "00"
        "00"
        "01"
        "02"
        "0a"
        "14"
        "01"
        "00"
        "00100000"
        "28000000080000000800";
    srb.resize(64 * 2, '0');
    std::string done =
        "01000000"
        "00000000"
        "00000000"
        "3400"
        "01"
        "00"
        "00"
        "00"
        "01"
        "02"
        "0a"
        "14"
        "01"
        "00"
        "00100000";
    done.resize(64 * 2, '0');
    const Json out = {{"channel", 1}, {"to_guest", 0}, {"transaction", "0x2a"}, {"type", 9}};
    const Json in = {{"channel", 1}, {"to_guest", 1}, {"transaction", "0x2a"}, {"type", 11}};
    b.event(1000, "vmbus_packet", out, packet(9, srb));
    b.event(1500, "disk", {{"disk", 0}, {"operation", 0}, {"offset", "0x100000"}, {"size", "0x1000"}}, "", 0);
    b.event(1800, "vmbus_packet", {{"channel", 2}, {"to_guest", 0}, {"transaction", "0x99"}, {"type", 9}},
            packet(9, srb));
    b.event(3000, "vmbus_packet", in, packet(11, done));
    b.event(4000, "vmbus_message", {{"type", 1}, {"to_guest", 1}}, "");
    CHECK(b.shows(Panel::Vmbus, "0:1:2 READ(10) lba 2048 blocks 8, 4096 bytes in"));
    CHECK(b.shows(Panel::Vmbus, "2.00 \u00b5s"));
    CHECK(b.shows(Panel::Vmbus, "open"));
    CHECK(b.shows(Panel::Vmbus, "OfferChannel"));
    b.run("follow read(10)");
    const Grid& followed = b.bench.vmbus.followed();
    REQUIRE(followed.rows() == 3);  // request, disk, completion; not the other channel's
    CHECK(followed.cell(1, 2).text == "disk");
    CHECK(followed.cell(2, 0).text == "+2.00 \u00b5s");
    CHECK(b.refuses("follow unmap").find("no request") != std::string::npos);
    b.run("channel 2");
    CHECK(b.bench.vmbus.rows() == 1);
}

TEST_CASE("desk: damaged ring packets are told by their size, never read past", "[desk][vmbus]") {
    EventRow row;
    row.kind = TapKind::VmbusPacket;
    for (const std::string bytes :
         {"", "00", "0900ffffffff00002a00000000000000", "090002000a0001002a00000000000000", "0900000000000000"}) {
        row.payload.clear();
        for (const int byte : parse_hex(bytes, 512)) row.payload.push_back(static_cast<u8>(byte));
        CHECK_FALSE(packet_text(row).empty());
    }
}

TEST_CASE("desk: the timeline counts events in bins, zooms, and goes to a moment where the link can", "[desk]") {
    Bench b;
    for (u64 i = 0; i < 1000; ++i) b.event(i * 1000, "msr", {{"index", i}, {"write", 1}, {"value", 0}, {"rip", 0}});
    b.event(999'500, "port", {{"port", 1}, {"size", 1}, {"write", 0}, {"value", 0}});
    b.bench.timeline.set_bins(100);
    CHECK(b.shows(Panel::Timeline, "p2 msr: 1000 events"));
    CHECK(b.bench.timeline.lanes().size() == 2);
    b.run("timeline 0ns..100us");
    CHECK(b.shows(Panel::Timeline, "p2 msr: 100 events"));
    const EventRow* near = b.bench.timeline.nearest(0, 50'400);
    REQUIRE(near);
    CHECK(b.refuses("goto 1s").find("no way back") != std::string::npos);
    CHECK_FALSE(b.bench.timeline.drag_to(b.bench.session, 5));
    b.bench.timeline.show(-1e300, 1e300);
    b.bench.timeline.zoom(0, 0.5);
    CHECK(b.bench.timeline.last_ns() > b.bench.timeline.first_ns());
    b.settle();

    Bench back(false);
    back.machine->reverse = true;
    back.machine->live = false;
    REQUIRE(back.bench.open("fake"));
    CHECK(back.shows(Panel::Timeline, "now"));
    CHECK(back.bench.timeline.drag_to(back.bench.session, 500'000'000));
    for (int i = 0; i < 50 && back.machine->time != 500'000'000; ++i) back.settle();
    CHECK(back.machine->time == 500'000'000);
    back.run("reverse-step");
    CHECK(back.machine->rip == 0xffffffff80fffffc);
    CHECK(back.refuses("set rax 5").find("recording") != std::string::npos);
}

TEST_CASE("desk: the tree opens, filters and marks what changed", "[desk]") {
    Bench b;
    b.machine->answers["inspect"] = {
        {"tree", {{"a", {{"b", {{"c", "1"}, {"d", "2"}}}}}, {"e", "3"}, {"\x1b[0m", "\xff"}}}};
    CHECK(b.shows(Panel::Devices, "a/b/c = 1"));
    CHECK(b.bench.devices.rows().size() == 3);
    b.bench.devices.toggle("a");
    b.bench.devices.toggle("a/b");
    CHECK(b.bench.devices.rows().size() == 6);
    b.machine->answers["inspect"]["tree"]["a"]["b"]["d"] = "5";
    b.run("step");
    bool marked = false;
    for (const TreeRow& row : b.bench.devices.rows())
        marked = marked || (row.path == "a/b/d" && row.changed && row.value == "5");
    CHECK(marked);
    b.bench.devices.set_filter("b/c");
    CHECK(b.bench.devices.rows().size() == 3);
    CHECK(b.shows(Panel::Devices, "\\x1b[0m = \\xff"));
}

TEST_CASE("desk: a page walk shows its entries and what it came to", "[desk]") {
    Bench b;
    b.run("walk 0xffffffff81000000");
    CHECK(b.shows(Panel::Walk, "guest  level 4  0x2a10ff8  0x0000000002a11067  P W U A D  0x2a11000"));
    CHECK(b.shows(Panel::Walk, "physical 0x1234000"));
    b.machine->answers["walk"] = {{"steps", Json::array()}, {"fault", "level 4 is not present"}};
    b.run("walk 0x10");
    CHECK(b.bench.walk.faulted());
    CHECK(b.shows(Panel::Walk, "level 4 is not present"));
}

TEST_CASE("desk: partitions and VPs; another VP can be looked at", "[desk]") {
    Bench b;
    CHECK(b.shows(Panel::Partitions, "2 linux"));
    b.run("vp 2 0");
    CHECK(b.bench.session.focus() == VpId{2, 0});
    CHECK(b.refuses("vp 9").find("no VP 0 in a partition 9") != std::string::npos);
    b.run("back");
    CHECK(b.bench.session.focus() == VpId{1, 0});
}

TEST_CASE("desk: stack, symbols and translated code", "[desk]") {
    Bench b;
    CHECK(b.shows(Panel::Stack, "start_kernel+0x4"));
    CHECK(b.bench.stack.frame_address(1) == 0xffffffff81000400);
    CHECK(b.shows(Panel::Translator, "host  ret"));
    CHECK(b.shows(Panel::Screen, "") == false);
    CHECK(b.bench.screen.problem() == "this partition has no display");
}
