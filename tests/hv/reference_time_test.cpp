// Reference time and the reference TSC page. Rows M-06, M-07, S-90..S-93.
#include <catch2/catch.hpp>

#include "tests/hv/fixture.h"

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;

namespace {

constexpr u64 kPage = 0x20000;

/// The guest's side of S-91.
u64 page_time(const ReferenceTscPage& page, u64 tsc) {
    return static_cast<u64>((u128{tsc} * page.scale) >> 64) + static_cast<u64>(page.offset);
}

u64 guest_tsc(Fixture& f, u32 vp = 0) {
    return f.clock.now() + f.partition->find_vp(vp)->processor().state().tsc_offset;
}

/// A WRMSR of the TSC as the processor does it after the level answered Default.
void write_tsc(Fixture& f, u64 value, u32 vp = 0) {
    cpu::virt::Exit exit;
    exit.reason = cpu::virt::ExitReason::Msr;
    exit.write = true;
    exit.msr = 0x10;
    exit.value = value;
    CHECK(f.exit(exit) == cpu::virt::Action::Default);
    f.partition->find_vp(vp)->processor().state().tsc_offset = value - f.clock.now();
}

}  // namespace

TEST_CASE("reference time: M-06 counts 100 ns since creation", "[hv][time]") {
    Fixture f;
    CHECK(f.rdmsr(msr::TIME_REF_COUNT) == 0u);
    f.clock.set(1'000'000'000);
    const u64 now = *f.rdmsr(msr::TIME_REF_COUNT);
    CHECK(now <= 10'000'000);
    CHECK(now >= 9'999'999);
    CHECK(f.partition->reference_time() == now);
    CHECK_FALSE(f.wrmsr(msr::TIME_REF_COUNT, 0));
}

TEST_CASE("reference time: S-91 the scale", "[hv][time]") { CHECK(kReferenceScale == 184467440737095516u); }

TEST_CASE("reference time: reaches is the inverse of at", "[hv][time]") {
    const VTime created = GENERATE(as<VTime>{}, 0, 1, 99, 100, 123'456'789, VTime{1} << 50);
    ReferenceTime time(created);
    CHECK(time.at(created) == 0);
    for (const u64 reference : {u64{1}, u64{2}, u64{99}, u64{12'345'678}, u64{1} << 40}) {
        const VTime when = time.reaches(reference);
        CHECK(time.at(when) == reference);
        CHECK(time.at(when - 1) == reference - 1);
    }
    CHECK(time.at(time.reaches(0)) == 0);
    CHECK(time.reaches(~u64{0}) == kNever);
    CHECK(time.reaches(u64{1} << 60) == kNever);
    REQUIRE(time.rebase(created + 5000, u64{0} - created + 777));
    for (const u64 reference : {u64{51}, u64{1000}, u64{1} << 40}) {
        const VTime when = time.reaches(reference);
        CHECK(time.at(when) == reference);
        CHECK(time.at(when - 1) == reference - 1);
    }
}

TEST_CASE("reference TSC page: S-93 the page and the MSR agree at every instant", "[hv][time]") {
    Fixture f;
    f.clock.set(123'456'789);
    CHECK(f.wrmsr(msr::REFERENCE_TSC, kPage | 1));
    const auto page = f.guest_read<ReferenceTscPage>(kPage);
    CHECK(page.sequence != 0);
    CHECK(page.sequence != 0xffffffff);
    CHECK(page.scale == kReferenceScale);
    for (u64 at = kPage + sizeof page; at < kPage + 4096; at += 8) REQUIRE(f.guest_read<u64>(at) == 0);
    u64 last = 0;
    for (u64 step : {u64{0}, u64{1}, u64{99}, u64{100}, u64{101}, u64{1'000'000'007}, u64{1} << 45, u64{1} << 58}) {
        f.clock.advance(step);
        const u64 by_page = page_time(page, guest_tsc(f)), by_msr = *f.rdmsr(msr::TIME_REF_COUNT);
        CHECK(by_page == by_msr);
        CHECK(by_msr >= last);
        last = by_msr;
    }
}

TEST_CASE("reference TSC page: S-92 the sequence changes with every update", "[hv][time]") {
    Fixture f;
    CHECK(f.wrmsr(msr::REFERENCE_TSC, kPage | 1));
    const u32 first = f.guest_read<u32>(kPage);
    CHECK(f.wrmsr(msr::REFERENCE_TSC, kPage));
    CHECK(f.rdmsr(msr::REFERENCE_TSC) == kPage);
    CHECK(f.wrmsr(msr::REFERENCE_TSC, kPage | 1));
    CHECK(f.guest_read<u32>(kPage) != first);
    CHECK(f.guest_read<u32>(kPage) != 0);
}

TEST_CASE("reference TSC page: S-93 a guest that sets its TSC reads the MSR until the page fits again", "[hv][time]") {
    Fixture f;
    f.clock.set(5'000'000'050);
    CHECK(f.wrmsr(msr::REFERENCE_TSC, kPage | 1));
    const u32 sequence = f.guest_read<u32>(kPage);
    const u64 before = *f.rdmsr(msr::TIME_REF_COUNT);
    write_tsc(f, 777);
    CHECK(f.guest_read<u32>(kPage) == 0);
    CHECK(f.rdmsr(msr::TIME_REF_COUNT) == before);
    const auto page = f.guest_read<ReferenceTscPage>(kPage);
    CHECK(page.sequence != 0);
    CHECK(page.sequence != sequence);
    for (int i = 0; i < 500; ++i) {
        CHECK(page_time(page, guest_tsc(f)) == f.rdmsr(msr::TIME_REF_COUNT));
        f.clock.advance(33);
    }
    CHECK(*f.rdmsr(msr::TIME_REF_COUNT) >= before + 164);
}

TEST_CASE("reference TSC page: stays invalid while the VPs' TSCs differ, or one is near its end", "[hv][time]") {
    Fixture f({}, 2);
    f.clock.set(5'000'000'000);
    CHECK(f.wrmsr(msr::REFERENCE_TSC, kPage | 1));
    CHECK(f.guest_read<u32>(kPage) != 0);
    write_tsc(f, 1000, 0);
    const u64 now = *f.rdmsr(msr::TIME_REF_COUNT);
    CHECK(f.guest_read<u32>(kPage) == 0);
    write_tsc(f, 1000, 1);
    CHECK(f.rdmsr(msr::TIME_REF_COUNT) == now);
    CHECK(f.guest_read<u32>(kPage) != 0);
    write_tsc(f, ~u64{0} - 5, 0);
    write_tsc(f, ~u64{0} - 5, 1);
    CHECK(f.rdmsr(msr::TIME_REF_COUNT) == now);
    CHECK(f.guest_read<u32>(kPage) == 0);
    f.clock.advance(1'000'000);
    CHECK(*f.rdmsr(msr::TIME_REF_COUNT) >= now + 9'999);
}

TEST_CASE("reference time: does not jump when timers wait across a change of the TSC", "[hv][time]") {
    Fixture f;
    f.clock.set(5'000'000'055);
    CHECK(f.wrmsr(msr::REFERENCE_TSC, kPage | 1));
    CHECK(f.wrmsr(msr::STIMER0_CONFIG, 0x1ed8));
    const u64 due = *f.rdmsr(msr::TIME_REF_COUNT) + 100;
    CHECK(f.wrmsr(msr::STIMER0_CONFIG + 1, due));
    write_tsc(f, 31);
    CHECK(f.rdmsr(msr::TIME_REF_COUNT));
    for (int i = 0; i < 300 && !f.apic().requested(0xed); ++i) f.advance_ns(50);
    CHECK(f.apic().requested(0xed));
    CHECK(*f.rdmsr(msr::TIME_REF_COUNT) >= due);
    CHECK(*f.rdmsr(msr::TIME_REF_COUNT) <= due + 1);
}

TEST_CASE("reference TSC page: VPs created or reset together count alike from 0", "[hv][time]") {
    Fixture f;
    f.clock.set(3'000'000);
    PartitionConfig config;
    config.name = "late";
    config.max_vps = 2;
    Partition& late = f.hypervisor->create_partition(config, f.sink);
    late.create_vp(f.model, 0);
    late.create_vp(f.model, 1);
    const auto tsc = [&](u32 vp) { return f.clock.now() + late.find_vp(vp)->processor().state().tsc_offset; };
    CHECK(tsc(0) == 0);
    CHECK(tsc(1) == 0);
    CHECK(late.reference_time() == 0);
    f.clock.set(9'000'000);
    late.find_vp(0)->processor().begin_slice(9'000'000, 9'500'000);  // the other one ran its last slice earlier
    late.reset();
    CHECK(tsc(0) == 0);
    CHECK(tsc(1) == 0);
}
