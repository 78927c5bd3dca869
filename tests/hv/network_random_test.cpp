// A short run of what the fuzz target does at length.
#include <catch2/catch.hpp>

#include <random>

#include "tests/fuzz/network_fuzz.h"

using namespace vg;

TEST_CASE("network: arbitrary bytes are answered exactly once and leave no buffer", "[hv][network]") {
    std::minstd_rand random(20260101);
    for (u32 round = 0; round < 300; ++round) {
        std::vector<u8> bytes(16 + random() % 1500);
        for (u8& byte : bytes) byte = static_cast<u8>(random() >> 8);
        CAPTURE(round);
        test::fuzz_network(bytes);
    }
    SUCCEED();
}
