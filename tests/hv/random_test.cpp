// The fuzz target's driver on a fixed pseudo-random stream: a short run in every test pass.
#include <catch2/catch.hpp>

#include <random>

#include "tests/fuzz/hypercall_fuzz.h"
#include "tests/fuzz/root_calls_fuzz.h"
#include "tests/hv/tree_random.h"

TEST_CASE("hypercall: random guests neither assert nor hang", "[hv][hypercall]") {
    std::mt19937_64 random(20240229);  // NOLINT: the same stream in every run
    for (int run = 0; run < 30; ++run) {
        std::vector<vg::u8> input(4096);
        for (vg::u8& byte : input) byte = static_cast<vg::u8>(random());
        vg::hv::test::fuzz_hypercalls(input);
    }
    SUCCEED();
}

TEST_CASE("partition tree: nobody touches memory that it was not given, whatever a parent does", "[hv][root]") {
    std::mt19937_64 random(20260101);  // NOLINT: the same stream in every run
    for (int run = 0; run < 60; ++run) {
        CAPTURE(run);
        std::vector<vg::u8> input(1500);
        for (vg::u8& byte : input) byte = static_cast<vg::u8>(random());
        CHECK_NOTHROW(vg::hv::test::random_tree(input));
    }
}

TEST_CASE("parent's hypercalls: any value gives a status", "[hv][root]") {
    std::mt19937_64 random(7);  // NOLINT: the same stream in every run
    for (int run = 0; run < 20; ++run) {
        std::vector<vg::u8> input(6000);
        for (vg::u8& byte : input) byte = static_cast<vg::u8>(random());
        vg::hv::test::fuzz_root_calls(input);
    }
    SUCCEED();
}
