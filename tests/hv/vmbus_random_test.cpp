// The fuzz targets' drivers on fixed pseudo-random streams: a short run in every test pass.
#include <catch2/catch.hpp>

#include <random>

#include "tests/fuzz/vmbus_fuzz.h"

TEST_CASE("vmbus: random guests neither assert, leak answers nor grow", "[hv][vmbus]") {
    std::mt19937_64 random(20260101);  // NOLINT: the same stream in every run
    for (int run = 0; run < 60; ++run) {
        std::vector<vg::u8> input(run % 2 == 0 ? 4096 : 700);
        for (vg::u8& byte : input) byte = static_cast<vg::u8>(random());
        vg::test::fuzz_messages(input);
        vg::test::fuzz_ring(input);
        vg::test::fuzz_storage(input);
    }
    SUCCEED();
}
