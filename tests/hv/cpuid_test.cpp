// CPUID leaves of the hypervisor, rows C-01..C-94.
#include <catch2/catch.hpp>

#include "base/bits.h"
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

TEST_CASE("cpuid: C-10..C-70 each bit that the child profile gives or withholds", "[hv][cpuid]") {
    constexpr unsigned kA = 0, kB = 1, kD = 3;
    struct Row {
        const char* id;
        u32 leaf;
        unsigned reg, bit;
        bool set;
    };
    const Row rows[] = {{"C-10", 0x40000003, kA, 0, true},   {"C-11", 0x40000003, kA, 1, true},
                        {"C-12", 0x40000003, kA, 2, true},   {"C-13", 0x40000003, kA, 3, true},
                        {"C-14", 0x40000003, kA, 4, true},   {"C-15", 0x40000003, kA, 5, true},
                        {"C-16", 0x40000003, kA, 6, true},   {"C-17", 0x40000003, kA, 7, false},
                        {"C-18", 0x40000003, kA, 8, false},  {"C-19", 0x40000003, kA, 9, true},
                        {"C-20", 0x40000003, kA, 10, false}, {"C-21", 0x40000003, kA, 11, true},
                        {"C-22", 0x40000003, kA, 12, false}, {"C-23", 0x40000003, kA, 13, false},
                        {"C-24", 0x40000003, kA, 14, false}, {"C-25", 0x40000003, kA, 15, false},
                        {"C-26", 0x40000003, kB, 0, false},  {"C-27", 0x40000003, kB, 1, false},
                        {"C-30", 0x40000003, kB, 4, true},   {"C-31", 0x40000003, kB, 5, true},
                        {"C-32", 0x40000003, kB, 6, false},  {"C-35", 0x40000003, kB, 12, false},
                        {"C-41", 0x40000003, kB, 20, false}, {"C-43, B-20", 0x40000003, kB, 22, false},
                        {"C-48", 0x40000003, kD, 4, false},  {"C-50", 0x40000003, kD, 8, true},
                        {"C-52", 0x40000003, kD, 10, true},  {"C-57", 0x40000003, kD, 19, true},
                        {"C-61", 0x40000004, kA, 2, false},  {"C-62", 0x40000004, kA, 3, false},
                        {"C-64", 0x40000004, kA, 5, true},   {"C-66", 0x40000004, kA, 9, true},
                        {"C-67", 0x40000004, kA, 10, false}, {"C-68", 0x40000004, kA, 11, false},
                        {"C-69", 0x40000004, kA, 12, false}, {"C-70", 0x40000004, kA, 14, false}};
    Fixture f;
    for (const Row& row : rows) {
        CAPTURE(row.id);
        CHECK(bit(f.cpuid(row.leaf)[row.reg], row.bit) == row.set);
    }
    CHECK(f.cpuid(0x40000005)[0] >= f.partition->vps().size());  // C-74
}

TEST_CASE("cpuid: C-91 what a child is offered that can make use of everything", "[hv][cpuid]") {
    Fixture f(full_partition_config());
    // Bit 53 of the privileges, StartVirtualProcessor, is not there (C-42).
    CHECK(f.cpuid(0x40000003) == Regs{0xae7f, 0x00100030, 0, 0x000ac530});
    CHECK(f.cpuid(0x40000004)[0] == 0xe2c);
    CHECK(f.cpuid(0x40000004)[1] == 0xffffffff);  // C-72
    CHECK(f.cpuid(0x40000009) == Regs{});
    CHECK(f.cpuid(0x4000000a) == Regs{});
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
