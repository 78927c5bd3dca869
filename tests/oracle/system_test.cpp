// Paging, system registers and task switches against Unicorn.
#include <catch2/catch.hpp>

#include <iostream>

#include "paging.h"
#include "system_registers.h"

using namespace vg;
using namespace vg::test;

TEST_CASE("oracle: random page tables give Unicorn's faults, accessed and dirty bits", "[oracle][paging]") {
    PagingComparison comparison;
    const std::string report = comparison.run(1, 10'000);
    INFO(report);
    CHECK(report.empty());
    const auto& s = comparison.statistics();
    INFO(s.cases << " cases " << s.completed << " completed " << s.faulted << " faulted " << s.reserved << " reserved " << s.explained
                 << " explained " << s.unmodelled << " unmodelled");
    CHECK(s.completed > 4'000);
    CHECK(s.faulted > 3'000);
    CHECK(s.reserved > 500);
    CHECK(s.unmodelled == 0);
}

TEST_CASE("oracle: two hundred thousand accesses through random page tables", "[oracle][paging][slow]") {
    PagingComparison comparison;
    for (u64 seed = 100; seed < 104; ++seed) {
        const std::string report = comparison.run(seed, 50'000);
        INFO(report);
        REQUIRE(report.empty());
    }
}

TEST_CASE("oracle: system registers and task switches do what Unicorn's do", "[oracle][system]") {
    RegisterComparison comparison;
    const std::string report = comparison.run(1, 10'000);
    INFO(report);
    CHECK(report.empty());
    const auto& s = comparison.statistics();
    CHECK(s.completed > 6'000);
    CHECK(s.switches > 100);
    CHECK(s.explained < 2'000);
    CHECK(s.unmodelled == 0);
}

TEST_CASE("oracle: two hundred thousand accesses to system registers and task switches", "[oracle][system][slow]") {
    RegisterComparison comparison;
    for (u64 seed = 200; seed < 204; ++seed) {
        const std::string report = comparison.run(seed, 50'000);
        INFO(report);
        REQUIRE(report.empty());
    }
}

/// For people: see "oracle: survey".
TEST_CASE("oracle: survey of system registers", "[.survey]") {
    RegisterComparison comparison;
    std::cout << comparison.survey(1, 10'000);
}
