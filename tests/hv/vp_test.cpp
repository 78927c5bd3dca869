// Exits that go to the parent: ports, memory holes, shutdown; counters; saved state.
#include <catch2/catch.hpp>

#include "base/state.h"
#include "tests/hv/fixture.h"

using namespace vg;
using namespace vg::hv;
using cpu::virt::Action;
using cpu::virt::Exit;
using cpu::virt::ExitReason;
using hv::test::Fixture;
using hv::test::RecordingSink;

namespace {

Exit memory_exit(u64 gpa, u8 size, mmu::Access access) {
    Exit exit;
    exit.reason = ExitReason::Memory;
    exit.gpa = Gpa(gpa);
    exit.gva = Gva(0xffff'8000'0000'0000 + gpa);
    exit.size = size;
    exit.write = access == mmu::Access::Write;
    exit.slat.gpa = exit.gpa;
    exit.slat.access = access;
    return exit;
}

}  // namespace

TEST_CASE("vp: the hv level intercepts what the partition model needs", "[hv][vp]") {
    Fixture f;
    REQUIRE(f.vp->processor().levels().size() == 1);
    const cpu::virt::Level& level = f.vp->processor().levels().front();
    CHECK(level.owner == f.vp);
    CHECK(level.controls.cpuid);
    CHECK(level.controls.hypercall);
    CHECK(level.controls.io_all);
    CHECK_FALSE(level.controls.halt);
    CHECK(level.controls.slat.root != 0);
    CHECK(level.controls.slat == f.partition->slat());
}

TEST_CASE("vp: ports go to the parent and are counted", "[hv][vp]") {
    Fixture f;
    Exit exit;
    exit.reason = ExitReason::Io;
    exit.port = 0x3f8;
    exit.size = 1;
    CHECK(f.exit(exit) == Action::Complete);
    CHECK(exit.value == 0x5a);
    exit.write = true;
    exit.value = 'V';
    CHECK(f.exit(exit) == Action::Complete);
    CHECK(f.sink.ports == std::vector<RecordingSink::Access>{{false, 0x3f8, 1, 0}, {true, 0x3f8, 1, 'V'}});
    CHECK(f.vp->exit_counts()[static_cast<unsigned>(ExitReason::Io)] == 2);
}

TEST_CASE("vp: memory that the parent emulates, in naturally aligned pieces", "[hv][vp]") {
    Fixture f;
    Exit exit = memory_exit(RecordingSink::kMmioPage + 4, 4, mmu::Access::Read);
    CHECK(f.exit(exit) == Action::Complete);
    CHECK(static_cast<u32>(exit.value) == 0x55667788);
    exit = memory_exit(RecordingSink::kMmioPage + 3, 8, mmu::Access::Write);
    exit.value = 0x8877665544332211;
    CHECK(f.exit(exit) == Action::Complete);
    exit = memory_exit(RecordingSink::kMmioPage + 8, 16, mmu::Access::Write);
    exit.data[0] = 1;
    exit.data[1] = 2;
    CHECK(f.exit(exit) == Action::Complete);
    const u64 page = RecordingSink::kMmioPage;
    CHECK(f.sink.mmio == std::vector<RecordingSink::Access>{{false, page + 4, 4, 0},
                                                            {true, page + 3, 1, 0x11},
                                                            {true, page + 4, 4, 0x55443322},
                                                            {true, page + 8, 2, 0x7766},
                                                            {true, page + 10, 1, 0x88},
                                                            {true, page + 8, 8, 1},
                                                            {true, page + 16, 8, 2}});
}

TEST_CASE("vp: a hole reads all-ones, drops writes and cannot flood the log", "[hv][vp]") {
    Fixture f;
    for (u8 size = 1; size <= 64; ++size) {
        Exit exit = memory_exit(0x80000000, size, mmu::Access::Read);
        CHECK(f.exit(exit) == Action::Complete);
        const u64 mask = low_mask(std::min<unsigned>(size, 8) * 8);
        CHECK((exit.value & mask) == mask);
        if (size == 64) CHECK(exit.data[7] == ~u64{0});
    }
    for (int i = 0; i < 1000; ++i) {
        Exit exit = memory_exit(~u64{0xfff}, 8, mmu::Access::Write);
        CHECK(f.exit(exit) == Action::Complete);
    }
    CHECK(f.lines.size() <= 10);
}

TEST_CASE("vp: fetches and page tables in a hole fault", "[hv][vp]") {
    Fixture f;
    Exit exit = memory_exit(0x80000000, 15, mmu::Access::Fetch);
    CHECK(f.exit(exit) == Action::Inject);
    CHECK(exit.fault.vector == cpu::kInvalidOpcode);
    CHECK_FALSE(exit.fault.has_error);
    exit = memory_exit(0x80000000, 0, mmu::Access::Write);
    exit.slat.during_walk = true;
    CHECK(f.exit(exit) == Action::Inject);
    CHECK(exit.fault.vector == cpu::kPageFault);
    CHECK(exit.fault.error_code == 0xb);
    CHECK(exit.fault.cr2 == exit.gva.value);
}

TEST_CASE("vp: a triple fault reaches the parent", "[hv][vp]") {
    Fixture f;
    f.vp->processor().platform().shutdown(f.vp->processor());
    CHECK(f.sink.shutdowns == 1);
    CHECK(f.vp->processor().platform().port_read(f.vp->processor(), 0x60, 1) == 0x5a);
    CHECK(f.vp->processor().platform().acknowledge_external(f.vp->processor()) == -1);
}

TEST_CASE("vp: exits of others are declined", "[hv][vp]") {
    Fixture f;
    for (unsigned reason = static_cast<unsigned>(ExitReason::Halt); reason <= static_cast<unsigned>(ExitReason::Svm);
         ++reason) {
        Exit exit;
        exit.reason = static_cast<ExitReason>(reason);
        CHECK(f.exit(exit) == Action::Default);
    }
}

TEST_CASE("hypervisor: partitions are found, pages recycle, exhaustion is an error", "[hv]") {
    Fixture f;
    CHECK(f.hypervisor->find(f.partition->id()) == f.partition);
    CHECK(f.hypervisor->find(99) == nullptr);
    std::vector<Spa> pages;
    while (auto page = f.hypervisor->allocate_page()) pages.push_back(*page);
    CHECK(pages.size() > 900);
    f.memory.write<u64>(pages.back(), 1);
    f.hypervisor->free_page(pages.back());
    const auto again = f.hypervisor->allocate_page();
    REQUIRE(again);
    CHECK(*again == pages.back());
    CHECK(f.memory.read<u64>(*again) == 0);
    // an overlay that would need a table page now stays invisible, and nothing breaks
    f.guest_write<u64>(0x400000, 7);
    CHECK(f.wrmsr(msr::SIMP, 0x400001));
    CHECK(f.wrmsr(msr::SIMP, 0));
    CHECK(f.guest_read<u64>(0x400000) == 7);
}

TEST_CASE("state: two partitions that did the same print the same tree, and reset gives the initial one",
          "[hv][state]") {
    const auto tree = [](Fixture& f) {
        StatePrinter printer;
        f.hypervisor->fields(printer);
        return printer.result();
    };
    const auto act = [](Fixture& f) {
        f.clock.set(1'000'000);
        f.wrmsr(msr::GUEST_OS_ID, Fixture::kOsId);
        f.wrmsr(msr::HYPERCALL, 0x5001);
        f.wrmsr(msr::REFERENCE_TSC, 0x6001);
        f.enable_synic();
        f.wrmsr(msr::STIMER0_CONFIG, 0x1ed9);
        f.wrmsr(msr::STIMER0_CONFIG + 1, 50'000);
        const std::array<u8, 3> bytes{1, 2, 3};
        for (int i = 0; i < 3; ++i) CHECK(f.partition->post_message(0, 2, 1, bytes) == HvStatus::Success);
        f.hypercall(0x46);
    };
    Fixture a, b;
    const std::string initial = tree(a);
    act(a);
    act(b);
    CHECK(tree(a) == tree(b));
    CHECK(tree(a) != initial);
    CHECK(tree(a).find("vp0/synic/queue2/count = 2") != std::string::npos);
    CHECK(tree(a).find("hypercall_msr = 0x0000000000005001") != std::string::npos);
}
