#include <catch2/catch.hpp>

#include <array>
#include <vector>

#include "base/bits.h"
#include "base/clock.h"
#include "base/events.h"
#include "base/log.h"
#include "base/result.h"
#include "base/state.h"

using namespace vg;

TEST_CASE("bits: ranges, sign extension and overflow-safe bounds", "[base]") {
    CHECK(bits(0xabcd, 11, 4) == 0xbc);
    CHECK(bits(~u64{0}, 63, 0) == ~u64{0});
    CHECK(with_bits(0xffff, 11, 4, 0x12) == 0xf12f);
    CHECK(sign_extend(0x80, 8) == 0xffffffffffffff80);
    CHECK(sign_extend(0x7f, 8) == 0x7f);
    CHECK(fits(10, 6, 16));
    CHECK(!fits(10, 7, 16));
    CHECK(!fits(~u64{0}, 2, 16));
    CHECK(!fits(1, ~u64{0}, 16));
    CHECK(align_up(1, 4096) == 4096);
    CHECK(align_down(8191, 4096) == 4096);
}

TEST_CASE("events: order is time, then the order of arming", "[base]") {
    ManualClock clock;
    EventQueue events(clock);
    std::vector<int> fired;
    const auto a = events.add("a", [&](VTime) { fired.push_back(1); });
    const auto b = events.add("b", [&](VTime) { fired.push_back(2); });
    const auto c = events.add("c", [&](VTime) { fired.push_back(3); });
    events.arm(b, 50);
    events.arm(a, 50);
    events.arm(c, 10);
    CHECK(events.next() == 10);
    events.run_due(49);
    CHECK(fired == std::vector<int>{3});
    events.run_due(50);
    CHECK(fired == std::vector<int>{3, 2, 1});
    CHECK(events.next() == kNever);
}

TEST_CASE("events: arming again moves, cancelling removes, a handler may arm itself", "[base]") {
    ManualClock clock;
    EventQueue events(clock);
    u32 count = 0;
    EventQueue::TimerId timer = 0;
    timer = events.add("t", [&](VTime due) {
        if (++count < 3) events.arm(timer, due + 10);
    });
    VTime observed = 0;
    events.on_arm([&](VTime when) { observed = when; });
    events.arm(timer, 100);
    events.arm(timer, 200);
    CHECK(observed == 200);
    events.run_due(150);
    CHECK(count == 0);
    events.run_due(215);
    CHECK(count == 2);
    CHECK(events.due(timer) == 220);
    events.cancel(timer);
    events.run_due(1000);
    CHECK(count == 2);
    CHECK(!events.armed(timer));
}

TEST_CASE("result: holds a value or an error, and says where", "[base]") {
    const Result<int> good = 5;
    CHECK(*good == 5);
    const Result<int> bad = fail(Error::Code::Damaged, "truncated");
    REQUIRE(!bad);
    CHECK(bad.error().in("disk.vhd").text == "disk.vhd: truncated");
    CHECK(bad.error().in("x").code == Error::Code::Damaged);
    const Result<void> nothing;
    CHECK(nothing);
}

namespace {

struct Thing {
    u8 small = 1;
    u64 large = 2;
    bool flag = true;
    std::array<u8, 4> raw{1, 2, 3, 4};
    std::vector<u32> list{7, 8};
    std::string path = "one";
    void fields(StateVisitor& v) {
        v("small", small);
        v("large", large, Fmt::Dec);
        v("flag", flag);
        v("raw", raw);
        v("list", list);
        v.note("path", path);
    }
};

u64 hash_of(Thing thing) {
    StateHasher hasher;
    thing.fields(hasher);
    return hasher.digest();
}

}  // namespace

TEST_CASE("state: the hash follows every field and no note", "[base]") {
    const u64 start = hash_of({});
    CHECK(hash_of({}) == start);
    Thing other;
    other.raw[3] = 5;
    CHECK(hash_of(other) != start);
    other = {};
    other.list.push_back(0);
    CHECK(hash_of(other) != start);
    other = {};
    other.flag = false;
    CHECK(hash_of(other) != start);
    other = {};
    other.path = "two";
    CHECK(hash_of(other) == start);
}

TEST_CASE("state: the printed tree names every field and note", "[base]") {
    StatePrinter printer;
    Thing thing;
    {
        const VisitScope scope(printer, "thing");
        thing.fields(printer);
    }
    CHECK(printer.result() ==
          "thing/small = 0x01\nthing/large = 2\nthing/flag = true\nthing/raw = 01020304\nthing/list/count = 2\n"
          "thing/list/0 = 0x00000007\nthing/list/1 = 0x00000008\nthing/path = one\n");
}

TEST_CASE("state: a field is one line, whatever its text holds", "[base]") {
    StatePrinter printer;
    std::string name = "a\nb\x1b[2J";
    printer.text("name", name);
    CHECK(printer.result() == "name = a\\x0ab\\x1b[2J\n");
}

TEST_CASE("log: a setting names an area and a level", "[base]") {
    std::vector<std::pair<Area, Level>> levels;
    CHECK(parse_log_setting("vmbus=trace", levels));
    CHECK(parse_log_setting("hv", levels));
    CHECK(levels == std::vector<std::pair<Area, Level>>{{Area::Vmbus, Level::Trace}, {Area::Hv, Level::Debug}});
    levels.clear();
    CHECK(parse_log_setting("all=off", levels));
    CHECK(levels.size() == static_cast<std::size_t>(Area::Count));
    for (const char* wrong : {"", "=", "vmbus=", "vmbus=loud", "VMBUS=debug", "=debug", "vm=debug"}) {
        INFO(wrong);
        levels.clear();
        CHECK(!parse_log_setting(wrong, levels));
        CHECK(levels.empty());
    }
}

TEST_CASE("log: levels by area, and a limit on what repeats", "[base]") {
    std::vector<std::string> lines;
    Log log([&](Area area, Level level, std::string_view line) {
        lines.push_back(std::string(to_string(area)) + " " + std::string(to_string(level)) + " " + std::string(line));
    });
    log.info(Area::Hv, "hidden {}", 1);
    log.warn(Area::Hv, "value {:#x}", 16);
    log.set_level(Area::Hv, Level::Debug);
    log.debug(Area::Hv, "seen");
    log.debug(Area::Mmu, "hidden");
    CHECK(lines == std::vector<std::string>{"hv warn value 0x10", "hv debug seen"});
    RateLimit limit(2);
    CHECK(limit.pass());
    CHECK(limit.pass());
    CHECK(!limit.pass());
    CHECK(limit.seen() == 3);
}
