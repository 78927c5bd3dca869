// Paging against Unicorn.
#include <catch2/catch.hpp>

#include "paging.h"

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
