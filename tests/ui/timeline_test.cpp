// A recording gone through in both directions.
#include "ui/model/timeline.h"

#include <catch2/catch.hpp>

#include "tests/support/typed_run.h"
#include "ui/model/control_host.h"

using namespace vg;
using model::Json;

namespace {

std::string hex_of(u64 value) { return fmt::format("{:#x}", value); }

struct Travel {
    explicit Travel(const std::string& text) {
        run.record(run.config(text), run.dir / "run.vgr");
        run.machine.reset();
        auto opened = machine::Recording::open(run.dir / "run.vgr");
        REQUIRE(opened);
        recording = *opened;
        auto started = model::Timeline::start(recording, machine::MachineOptions::EngineKind::Jit);
        REQUIRE(started);
        timeline = std::move(*started);
        link = std::make_unique<model::LocalLink>(*timeline, true);
        const Json partitions = ask({{"op", "partitions"}});
        partition = partitions[0]["id"].get<u64>();
    }
    ~Travel() { link.reset(); }

    Json ask(const Json& request) {
        auto answer = link->call(request);
        INFO(request.dump());
        if (!answer) FAIL(answer.error().text);
        return *answer;
    }
    /// Something that ends with a stop, which is returned.
    Json go(const Json& request) {
        ask(request);
        for (unsigned i = 0; i < 600; ++i) {
            const auto notice = link->notice(100);
            if (notice && (*notice)["event"] == "stopped") return *notice;
        }
        FAIL("no stop");
        return {};
    }
    u64 here() { return ask({{"op", "status"}})["instructions"].get<u64>(); }
    Json registers() { return ask({{"op", "registers"}, {"partition", partition}, {"vp", 0}}); }
    u64 counter() {
        const std::string data = ask({{"op", "read"}, {"partition", partition}, {"vp", 0}, {"space", "physical"}, {"address", hex_of(test::kEchoCounter)}, {"size", 4}})["data"];
        u64 value = 0;
        for (unsigned i = 4; i-- > 0;) value = value << 8 | std::stoul(data.substr(2 * i, 2), nullptr, 16);
        return value;
    }

    test::TypedRun run;
    std::shared_ptr<const machine::Recording> recording;
    std::unique_ptr<model::Timeline> timeline;
    std::unique_ptr<model::LocalLink> link;
    u64 partition = 0;
};

}  // namespace

TEST_CASE("timeline: every instant is reached from before and from behind, and looks the same", "[ui][timeline]") {
    Travel travel(GENERATE(test::kTypedChild, test::kTypedPc));
    const u64 last = travel.recording->last().instructions;
    CHECK(travel.ask({{"op", "hello"}})["reverse"] == true);
    std::map<u64, std::string> seen;
    std::mt19937_64 random(11);
    for (unsigned i = 0; i < 12; ++i) seen[random() % last];
    for (auto& [at, registers] : seen) {
        travel.go({{"op", "goto"}, {"instructions", at}});
        CHECK(travel.here() == at);
        registers = travel.registers().dump();
    }
    for (auto each = seen.rbegin(); each != seen.rend(); ++each) {
        travel.go({{"op", "goto"}, {"instructions", each->first}});
        CHECK(travel.here() == each->first);
        CHECK(travel.registers().dump() == each->second);
    }
    const Json end = travel.go({{"op", "continue"}});
    CHECK(end["stop"]["reason"] == "ended");
    CHECK(travel.here() == last);
}

TEST_CASE("timeline: steps back undo steps forward", "[ui][timeline]") {
    Travel travel(test::kTypedChild);
    travel.go({{"op", "goto"}, {"instructions", u64{30'000'000}}});
    std::vector<std::string> places;
    for (unsigned i = 0; i < 12; ++i) {
        places.push_back(travel.registers().dump());
        travel.go({{"op", "step"}, {"partition", travel.partition}, {"vp", 0}});
    }
    while (!places.empty()) {
        const Json notice = travel.go({{"op", "reverse_step"}, {"partition", travel.partition}, {"vp", 0}});
        CHECK(notice["stop"]["reason"] == "step");
        CHECK(travel.registers().dump() == places.back());
        places.pop_back();
    }
    CHECK(travel.here() == 30'000'000);
}

TEST_CASE("timeline: going back stops where going forward did", "[ui][timeline]") {
    Travel travel(test::kTypedChild);
    const Json rule = travel.ask({{"op", "break_add"}, {"kind", "address"}, {"address", hex_of(test::kEchoPrints)}});
    std::vector<u64> stops;
    for (unsigned i = 0; i < 8; ++i) {
        const Json notice = travel.go({{"op", "continue"}});
        REQUIRE(notice["stop"]["reason"] == "rule");
        CHECK(notice["stop"]["rule"] == rule["number"]);
        CHECK(travel.registers()["rip"] == hex_of(test::kEchoPrints));
        stops.push_back(travel.here());
    }
    for (std::size_t i = stops.size() - 1; i-- > 0;) {
        const Json notice = travel.go({{"op", "reverse_continue"}});
        CHECK(notice["stop"]["reason"] == "rule");
        CHECK(notice["stop"]["rule"] == rule["number"]);
        CHECK(travel.here() == stops[i]);
    }
    CHECK(travel.go({{"op", "reverse_continue"}})["stop"]["reason"] == "start");
    CHECK(travel.here() == 0);
    travel.go({{"op", "continue"}});
    CHECK(travel.here() == stops[0]);
}

TEST_CASE("timeline: the last write is found from behind", "[ui][timeline]") {
    Travel travel(test::kTypedChild);
    travel.go({{"op", "goto"}, {"instructions", u64{40'000'003}}});
    const u64 counter = travel.counter();
    const Json notice = travel.go({{"op", "last_write"}, {"partition", travel.partition}, {"space", "physical"}, {"address", hex_of(test::kEchoCounter)}, {"size", 4}});
    CHECK(notice["stop"]["reason"] == "rule");
    CHECK(notice["stop"]["write"] == true);
    CHECK(travel.registers()["rip"] == hex_of(test::kEchoStored));
    CHECK(travel.counter() == counter);
    CHECK(travel.here() <= 40'000'003);
    CHECK(travel.here() + 10 >= 40'000'003);
    CHECK(travel.ask({{"op", "breaks"}}).empty());
}

TEST_CASE("timeline: mistakes are answered, and nothing of the worker shows", "[ui][timeline]") {
    Travel travel(test::kTypedPc);
    for (const Json& request : {Json{{"op", "goto"}}, Json{{"op", "timeline_frame"}}, Json{{"op", "write"}, {"address", "0x0"}, {"data", "00"}},
                                Json{{"op", "break_remove"}, {"number", 77}}, Json{{"op", "reverse_step"}, {"count", 5}}, Json::array()}) {
        CHECK_FALSE(travel.link->call(request));
    }
    CHECK(travel.here() == 0);
}
