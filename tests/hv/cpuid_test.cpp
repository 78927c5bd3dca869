// CPUID leaves of the hypervisor, rows C-01..C-94.
#include <catch2/catch.hpp>

#include "tests/hv/fixture.h"

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;
using Regs = std::array<u32, 4>;

TEST_CASE("cpuid: C-01 leaf 1 announces a hypervisor and keeps the rest", "[hv][cpuid]") {
    Fixture f;
    CHECK(f.cpuid(1, {1, 2, 0x00200001, 4}) == Regs{1, 2, 0x80200001, 4});
}

TEST_CASE("cpuid: C-02..C-06 discovery leaves", "[hv][cpuid]") {
    Fixture f;
    CHECK(f.cpuid(0x40000000) == Regs{0x4000000c, 0x7263694d, 0x666f736f, 0x76482074});
    CHECK(f.cpuid(0x40000001) == Regs{0x31237648, 0, 0, 0});
    CHECK(f.cpuid(0x40000002) == Regs{27744, 0x000a0000, 0, 0});
    for (const u32 leaf : {0x40000007u, 0x40000008u, 0x40000009u, 0x4000000au, 0x4000000bu, 0x4000000cu, 0x4000000du,
                           0x4000007fu, 0x40000083u, 0x400000ffu}) {
        CAPTURE(leaf);
        CHECK(f.cpuid(leaf, {1, 2, 3, 4}) == Regs{});
    }
    CHECK(f.cpuid(0x40000100, {1, 2, 3, 4}) == Regs{1, 2, 3, 4});
    CHECK(f.cpuid(0x3fffffff, {1, 2, 3, 4}) == Regs{1, 2, 3, 4});
}

TEST_CASE("cpuid: C-90 child profile", "[hv][cpuid]") {
    Fixture f({}, 3);
    CHECK(f.cpuid(0x40000003) == Regs{0x00000a7f, 0x00000030, 0, 0x00080500});
    CHECK(f.cpuid(0x40000004) == Regs{0x00000220, 0xffffffff, f.model.physical_bits(), 0});
    CHECK(f.cpuid(0x40000005) == Regs{3, 3, 0, 0});
    CHECK(f.cpuid(0x40000006) == Regs{0xb, 0, 0, 0});
}

TEST_CASE("cpuid: C-80..C-82 stack leaves; properties are zero without a maximum check", "[hv][cpuid]") {
    Fixture f;
    CHECK(f.cpuid(0x40000080) == Regs{0x40000082, 0x7263694d, 0x666f736f, 0x53562074});
    CHECK(f.cpuid(0x40000081) == Regs{0x31235356, 0, 0, 0});
    CHECK(f.cpuid(0x40000082, {8, 8, 8, 8}) == Regs{});
}

TEST_CASE("cpuid: C-08 invariant TSC appears when the guest sets M-34", "[hv][cpuid]") {
    SECTION("without the privilege the native leaf stays") {
        Fixture f;
        CHECK(f.cpuid(0x80000007, {0, 0, 0, 0x100})[3] == 0x100);
    }
    SECTION("with it, bit 8 follows the MSR") {
        Fixture f(hv::test::with_privileges(1 << 15));
        CHECK(f.cpuid(0x80000007, {0, 0, 0, 0x100})[3] == 0);
        CHECK(f.wrmsr(msr::TSC_INVARIANT_CONTROL, 1));
        CHECK(f.cpuid(0x80000007, {0, 0, 0, 0x100})[3] == 0x100);
        CHECK_FALSE(f.wrmsr(msr::TSC_INVARIANT_CONTROL, 0));
        CHECK_FALSE(f.wrmsr(msr::TSC_INVARIANT_CONTROL, 3));
    }
}
