// The interpreter against the host processor, on random user-mode instructions.
#include <catch2/catch.hpp>

#include "tests/support/differential.h"

using namespace vg;
using namespace vg::test;

TEST_CASE("interpreter: random instructions do what the host does", "[diff][interp]") {
    cpu::StepEngine engine;
    Differential differential(engine);
    const std::string report = differential.run(1, 50'000);
    INFO(report);
    CHECK(report.empty());
    CHECK(differential.statistics().completed > 30'000);
}

TEST_CASE("interpreter: a million random instructions do what the host does", "[diff][interp][slow]") {
    cpu::StepEngine engine;
    Differential differential(engine);
    for (u64 seed = 100; seed < 110; ++seed) {
        const std::string report = differential.run(seed, 100'000);
        INFO(report);
        REQUIRE(report.empty());
    }
    CHECK(differential.statistics().completed > 600'000);
}

TEST_CASE("interpreter: SSE4A does what the host does", "[diff][interp]") {
    if (!__builtin_cpu_supports("sse4a")) {
        WARN("this host has no SSE4A");
        return;
    }
    cpu::StepEngine engine;
    Differential differential(engine, "verdigris-v3-amd,+sse4a");
    for (const char* op : {"EXTRQ", "INSERTQ", "MOVNTSD", "MOVNTSS"}) {
        const std::string report = differential.run(1, 2'000, op);
        INFO(report);
        CHECK(report.empty());
    }
    CHECK(differential.statistics().completed > 5'000);
}
