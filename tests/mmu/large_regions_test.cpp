#include "mmu/large_regions.h"

#include <catch2/catch.hpp>

using namespace vg;
using mmu::LargeRegions;

namespace {

constexpr u64 kMiB = u64{1} << 20, kGiB = u64{1} << 30;

}  // namespace

TEST_CASE("large regions: every address of a large page is around a piece of it", "[mmu]") {
    LargeRegions regions;
    const u64 image = 0xffff'ffff'8100'0000, direct = 0xffff'8880'4000'0000;
    CHECK(regions.around(image) == 0);
    regions.add(image + 0x3000, 21, true);
    regions.add(direct + 5 * kMiB, 30, false);
    regions.add(0x1000, 12, false);
    for (u64 offset = 0; offset < 2 * kMiB; offset += 0x5000) REQUIRE(regions.around(image + offset) >= 21);
    for (u64 offset = 0; offset < kGiB; offset += 0x123'4000) REQUIRE(regions.around(direct + offset) == 30);
    CHECK(regions.around(0x1000) == 0);
    regions.clear_nonglobal();
    CHECK(regions.around(direct) == 0);
    CHECK(regions.around(image) >= 21);
    regions.clear();
    CHECK(regions.around(image) == 0);
}

TEST_CASE("large regions: addresses elsewhere are seldom taken for some", "[mmu]") {
    LargeRegions regions;
    for (u64 k = 0; k < 8; ++k) regions.add(0xffff'8880'0000'0000 + k * kGiB, 30, true);
    unsigned taken = 0;
    for (u64 k = 0; k < 1000; ++k) taken += regions.around(0x7f00'0000'0000 + k * 777 * kMiB) != 0;
    CHECK(taken < 40);
}
