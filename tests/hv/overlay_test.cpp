// Overlay pages and the GPA space. Rows M-01, M-02, M-07, M-14, M-17, M-18, H-50..H-53.
#include <catch2/catch.hpp>

#include "tests/hv/fixture.h"

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;

TEST_CASE("hypercall page: M-01, M-02 needs an OS id, H-53 hides the guest's page until disabled", "[hv][overlay]") {
    Fixture f;
    f.guest_write<u32>(0x5000, 0xfeedface);
    CHECK(f.wrmsr(msr::HYPERCALL, 0x5001));
    CHECK(f.rdmsr(msr::HYPERCALL) == 0x5000u);
    CHECK(f.guest_read<u32>(0x5000) == 0xfeedface);

    CHECK(f.wrmsr(msr::GUEST_OS_ID, Fixture::kOsId));
    CHECK(f.wrmsr(msr::HYPERCALL, 0x5001));
    CHECK(f.rdmsr(msr::HYPERCALL) == 0x5001u);
    CHECK(f.guest_read<u32>(0x5000) == 0xc3c1010f);  // H-51: VMCALL, RET
    for (u64 at = 0x5004; at < 0x6000; ++at) REQUIRE(f.guest_read<u8>(at) == 0xcc);
    CHECK(f.guest_read<u8>(0x6000) == 0);
    CHECK(f.ram<u32>(0x5000) == 0xfeedface);
    CHECK(f.guest_address(0x5000, mmu::Access::Fetch));
    CHECK_FALSE(f.guest_address(0x5000, mmu::Access::Write));
    CHECK(f.partition->translate(Gpa(0x5123)) == f.guest_address(0x5123, mmu::Access::Read));

    SECTION("disable") {
        CHECK(f.wrmsr(msr::HYPERCALL, 0x5000));
        CHECK(f.guest_read<u32>(0x5000) == 0xfeedface);
        CHECK(f.guest_address(0x5000, mmu::Access::Write));
    }
    SECTION("M-01 clearing the OS id disables") {
        CHECK(f.wrmsr(msr::GUEST_OS_ID, 0));
        CHECK(f.rdmsr(msr::HYPERCALL) == 0x5000u);
        CHECK(f.guest_read<u32>(0x5000) == 0xfeedface);
    }
    SECTION("move") {
        CHECK(f.wrmsr(msr::HYPERCALL, 0x9001));
        CHECK(f.guest_read<u32>(0x5000) == 0xfeedface);
        CHECK(f.guest_read<u32>(0x9000) == 0xc3c1010f);
    }
    SECTION("a guest's write is #GP, the host's is refused") {
        cpu::virt::Exit exit;
        exit.reason = cpu::virt::ExitReason::Memory;
        exit.gpa = Gpa(0x5ff8);
        exit.size = 4;
        exit.write = true;
        exit.slat.access = mmu::Access::Write;
        exit.slat.permissions = 5;
        CHECK(f.exit(exit) == cpu::virt::Action::Inject);
        CHECK(exit.fault.vector == cpu::kGeneralProtection);
        const u8 byte = 0;
        CHECK_FALSE(f.partition->write_memory(Gpa(0x5000), &byte, 1));
        CHECK(f.sink.mmio.empty());
    }
    SECTION("reset shows the guest's page") {
        f.partition->reset();
        CHECK(f.guest_read<u32>(0x5000) == 0xfeedface);
        CHECK(f.rdmsr(msr::HYPERCALL) == 0u);
        CHECK(f.rdmsr(msr::GUEST_OS_ID) == 0u);
    }
}

TEST_CASE("hypercall page: H-51 AMD has VMMCALL", "[hv][overlay]") {
    Fixture f({}, 1, "verdigris-v2-amd");
    CHECK(f.wrmsr(msr::GUEST_OS_ID, Fixture::kOsId));
    CHECK(f.wrmsr(msr::HYPERCALL, 0x5001));
    CHECK(f.guest_read<u32>(0x5000) == 0xc3d9010f);
}

TEST_CASE("hypercall page: M-02 refuses reserved bits, locked and outside", "[hv][overlay]") {
    Fixture f;
    CHECK(f.wrmsr(msr::GUEST_OS_ID, Fixture::kOsId));
    for (unsigned b = 2; b < 12; ++b) CHECK_FALSE(f.wrmsr(msr::HYPERCALL, 0x5001 | u64{1} << b));
    CHECK_FALSE(f.wrmsr(msr::HYPERCALL, Fixture::kRamSize | 1));
    CHECK_FALSE(f.wrmsr(msr::HYPERCALL, ~u64{0xffe}));
    CHECK(f.rdmsr(msr::HYPERCALL) == 0u);
    CHECK(f.wrmsr(msr::HYPERCALL, 0x5003));
    CHECK_FALSE(f.wrmsr(msr::HYPERCALL, 0x5000));
    CHECK_FALSE(f.wrmsr(msr::HYPERCALL, 0x6003));
}

TEST_CASE("overlay: M-07 outside memory it is remembered, and visible once memory is there", "[hv][overlay]") {
    Fixture f;
    CHECK(f.wrmsr(msr::REFERENCE_TSC, 0x7fff'ffff'f001));
    CHECK(f.rdmsr(msr::REFERENCE_TSC) == 0x7fff'ffff'f001u);
    const u64 beyond = Fixture::kRamSize;
    CHECK(f.wrmsr(msr::REFERENCE_TSC, beyond | 1));
    CHECK_FALSE(f.guest_address(beyond, mmu::Access::Read));
    CHECK_FALSE(f.partition->translate(Gpa(beyond)));
    Fixture::must(f.partition->map_memory(Gpa(beyond), Spa(Fixture::kRamSpa), 0x2000, {}));
    CHECK(f.guest_read<u64>(beyond + 8) == kReferenceScale);
    CHECK(f.guest_address(beyond + 0x1000, mmu::Access::Read) == Spa(Fixture::kRamSpa + 0x1000));
    Fixture::must(f.partition->unmap_memory(Gpa(beyond), 0x2000));
    CHECK_FALSE(f.guest_address(beyond, mmu::Access::Read));
}

TEST_CASE("overlay: M-17, M-18, M-14 pages start zeroed and hide the guest's", "[hv][overlay]") {
    Fixture f;
    const u32 index = GENERATE(msr::SIMP, msr::SIEFP, msr::VP_ASSIST_PAGE);
    CAPTURE(index);
    f.guest_write<u64>(0x8000, 0x1111);
    CHECK(f.wrmsr(index, 0x8001));
    CHECK(f.guest_read<u64>(0x8000) == 0);
    f.guest_write<u64>(0x8000, 0x2222);
    CHECK(f.ram<u64>(0x8000) == 0x1111);
    CHECK(f.wrmsr(index, 0x8001));  // unchanged: Linux writes back what it read
    CHECK(f.guest_read<u64>(0x8000) == 0x2222);
    CHECK(f.wrmsr(index, 0x8000));
    CHECK(f.guest_read<u64>(0x8000) == 0x1111);
    CHECK(f.wrmsr(index, 0x8001));
    CHECK(f.guest_read<u64>(0x8000) == 0);
    CHECK(f.wrmsr(index, ~u64{0xffe}));  // beyond every address: no fault
    CHECK(f.guest_read<u64>(0x8000) == 0x1111);
}

TEST_CASE("overlay: of several at one page the last is seen, in any order of removal", "[hv][overlay]") {
    Fixture f;
    f.guest_write<u64>(0x8000, 1);
    CHECK(f.wrmsr(msr::SIMP, 0x8001));
    f.guest_write<u64>(0x8000, 2);
    CHECK(f.wrmsr(msr::SIEFP, 0x8001));
    f.guest_write<u64>(0x8000, 3);
    SECTION("upper first") {
        CHECK(f.wrmsr(msr::SIEFP, 0));
        CHECK(f.guest_read<u64>(0x8000) == 2);
        CHECK(f.wrmsr(msr::SIMP, 0));
    }
    SECTION("lower first") {
        CHECK(f.wrmsr(msr::SIMP, 0));
        CHECK(f.guest_read<u64>(0x8000) == 3);
        CHECK(f.wrmsr(msr::SIEFP, 0));
    }
    CHECK(f.guest_read<u64>(0x8000) == 1);
}

TEST_CASE("overlay: M-14 the assist page needs no OS id and no lazy EOI bit appears", "[hv][overlay]") {
    Fixture f;
    CHECK(f.wrmsr(msr::VP_ASSIST_PAGE, 0x8001));
    f.apic().accept(0x51, false);
    CHECK(f.apic().acknowledge() == 0x51);
    CHECK(f.guest_read<u32>(0x8000) == 0);
}

TEST_CASE("gpa space: replacing and removing parts of ranges", "[hv][overlay]") {
    Fixture f;
    Partition& p = *f.partition;
    const Spa ram(Fixture::kRamSpa);
    Fixture::must(p.map_memory(Gpa(0x3000), ram + 0x100000, 0x2000, {.read = true, .write = false, .execute = true}));
    CHECK(p.translate(Gpa(0x2fff)) == ram + 0x2fff);
    CHECK(p.translate(Gpa(0x3000)) == ram + 0x100000);
    CHECK(p.translate(Gpa(0x4fff)) == ram + 0x101fff);
    CHECK(p.translate(Gpa(0x5000)) == ram + 0x5000);
    CHECK(p.readable(Gpa(0x3000)));
    CHECK_FALSE(p.writable(Gpa(0x3000)));
    Fixture::must(p.unmap_memory(Gpa(0x4000), 0x3000));
    CHECK(p.translate(Gpa(0x3fff)) == ram + 0x100fff);
    CHECK_FALSE(p.translate(Gpa(0x4000)));
    CHECK_FALSE(p.translate(Gpa(0x6fff)));
    CHECK(p.translate(Gpa(0x7000)) == ram + 0x7000);
    for (u64 gpa = 0; gpa < 0x10000; gpa += 0x1000)
        CHECK(p.translate(Gpa(gpa)) == f.guest_address(gpa, mmu::Access::Read));
    CHECK_FALSE(p.map_memory(Gpa(0x123), ram, 0x1000, {}));
    CHECK_FALSE(p.map_memory(Gpa(~u64{0xfff}), ram, 0x2000, {}));
    CHECK_FALSE(p.unmap_memory(Gpa(0), 0x800));

    u64 value = 0;
    CHECK_FALSE(p.read_memory(Gpa(0x3ffc), &value, 8));
    CHECK(p.read_memory(Gpa(0x6ffc + 4), &value, 8));
    CHECK_FALSE(p.read_memory(Gpa(~u64{0}), &value, 8));
    CHECK_FALSE(p.write_memory(Gpa(Fixture::kRamSize - 4), &value, 8));
}

TEST_CASE("overlay: moving pages all over memory stays within private_bytes", "[hv][overlay][slow]") {
    Fixture f;
    const u64 before = f.lines.size();
    for (u64 gpa = 0; gpa < Fixture::kRamSize; gpa += 0x80000) {
        CHECK(f.wrmsr(msr::SIMP, gpa | 1));
        CHECK(f.guest_read<u64>(gpa) == 0);
    }
    CHECK(f.lines.size() == before);
    CHECK(Hypervisor::private_bytes(Fixture::kRamSize, 1) <= Fixture::kPrivateSize);
}

TEST_CASE("memory by address: only what needs nobody's attention, as far as it lies side by side", "[hv][overlay]") {
    Fixture f;
    Partition& p = *f.partition;
    const std::span<u8> two = p.memory_at(Gpa(0x5010), 0x1ff0, true);
    REQUIRE(two.size() == 0x1ff0);
    two[0] = 0x77;
    CHECK(f.guest_read<u8>(0x5010) == 0x77);
    CHECK(p.memory_at(Gpa(Fixture::kRamSize - 16), 4096, true).size() == 16);
    CHECK(p.memory_at(Gpa(Fixture::kRamSize), 4096, false).empty());
    // Translated code: its page is written with notice, or not at all.
    f.memory.mark_code(*p.translate(Gpa(0x6000)), 16);
    CHECK(p.memory_at(Gpa(0x5000), 0x3000, true).size() == 0x1000);
    CHECK(p.memory_at(Gpa(0x6000), 0x1000, true).empty());
    CHECK(p.memory_at(Gpa(0x5000), 0x3000, false).size() == 0x3000);
    f.memory.remark_code(*p.translate(Gpa(0x6000)));
    f.memory.set_watched(*p.translate(Gpa(0x6000)), true, false);
    CHECK(p.memory_at(Gpa(0x5000), 0x3000, false).size() == 0x1000);
    f.memory.set_watched(*p.translate(Gpa(0x6000)), false, false);
    // The hypercall page cannot be written.
    CHECK(f.wrmsr(msr::GUEST_OS_ID, Fixture::kOsId));
    CHECK(f.wrmsr(msr::HYPERCALL, 0x6001));
    CHECK(p.memory_at(Gpa(0x6000), 0x1000, true).empty());
    CHECK(p.memory_at(Gpa(0x5000), 0x3000, true).size() == 0x1000);
}
