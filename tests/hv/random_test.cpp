// The fuzz target's driver on a fixed pseudo-random stream: a short run in every test pass.
#include <catch2/catch.hpp>

#include <random>

#include "tests/fuzz/hypercall_fuzz.h"

TEST_CASE("hypercall: random guests neither assert nor hang", "[hv][hypercall]") {
    std::mt19937_64 random(20240229);  // NOLINT: the same stream in every run
    for (int run = 0; run < 30; ++run) {
        std::vector<vg::u8> input(4096);
        for (vg::u8& byte : input) byte = static_cast<vg::u8>(random());
        vg::hv::test::fuzz_hypercalls(input);
    }
    SUCCEED();
}
