// The step engine against Unicorn in the modes that the host processor cannot show us.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

#include "comparison.h"
#include "cpu/spec/bits.h"

// Unicorn itself leaks a little at uc_close; its leaks are not findings about us (AddressSanitizer builds only).
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libunicorn\n"; }

using namespace vg;
using namespace vg::test;

TEST_CASE("oracle: random legacy instructions do what Unicorn does", "[oracle][interp]") {
    Comparison comparison;
    const std::string report = comparison.run(1, 20'000);
    INFO(report);
    CHECK(report.empty());
    CHECK(comparison.statistics().completed > 12'000);
    CHECK(comparison.statistics().explained < 2'000);
}

TEST_CASE("oracle: half a million random legacy instructions do what Unicorn does", "[oracle][interp][slow]") {
    Comparison comparison;
    for (u64 seed = 100; seed < 110; ++seed) {
        const std::string report = comparison.run(seed, 50'000);
        INFO(report);
        REQUIRE(report.empty());
    }
    CHECK(comparison.statistics().completed > 300'000);
}

#ifdef VG_GUEST_IMAGES
TEST_CASE("oracle: a real-mode program ends as it does in Unicorn", "[oracle][interp]") {
    using namespace legacy_memory;
    std::ifstream file(std::string(VG_GUEST_IMAGES) + "/real_mode.bin", std::ios::binary);
    const std::vector<char> image{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    REQUIRE(!image.empty());
    EngineCpu engine;
    UnicornCpu oracle(Legacy::Real);
    for (u8* const memory : {engine.memory(), oracle.memory()}) {
        write_tables(memory, true);
        std::memcpy(memory + kCode, image.data(), image.size());
    }
    LegacyState start;
    start.selector = {0x1000, kCode >> 4, 0x2000, 0x1000, 0x1000, 0x1000};
    start.gpr[cpu::RSP] = 0xf000;
    constexpr u64 kLimit = 20'000'000;
    const LegacyState ours = engine.run_program(start, kLimit), theirs = oracle.run_program(start, kLimit);
    CHECK(ours.gpr == theirs.gpr);
    CHECK(ours.eip == theirs.eip);
    CHECK(ours.selector == theirs.selector);
    CHECK((ours.eflags & cpu::flag::Status) == (theirs.eflags & cpu::flag::Status));
    CHECK(ours.gpr[cpu::RBP] == 100);  // all rounds were made
    CHECK(std::memcmp(engine.memory(), oracle.memory(), kImageEnd) == 0);
}
#endif

/// For people: the differences of one operation, or of all: VG_ORACLE_OP, VG_ORACLE_CASES.
TEST_CASE("oracle: survey", "[.survey]") {
    const char* const only = std::getenv("VG_ORACLE_OP");
    const char* const cases = std::getenv("VG_ORACLE_CASES");
    Comparison comparison;
    std::cout << comparison.survey(1, cases == nullptr ? 20'000 : std::strtoull(cases, nullptr, 10), only == nullptr ? "" : only);
}
