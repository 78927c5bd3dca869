// Synthetic MSRs: who may touch what, and the registers without a test file of their own. Rows M-01..M-34.
#include <catch2/catch.hpp>

#include "tests/hv/fixture.h"

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;

namespace {

/// From the interface table: index, gating bit of 40000003 EBX:EAX (or 64 + bit of EDX), what works.
struct Rule {
    u32 index;
    unsigned gate;
    bool read, write;
};

constexpr Rule kRules[] = {
    {0x40000000, 5, true, true},  {0x40000001, 5, true, true},   {0x40000002, 6, true, false},
    {0x40000003, 7, true, true},  {0x40000010, 0, true, false},  {0x40000020, 1, true, false},
    {0x40000021, 9, true, true},  {0x40000022, 11, true, false}, {0x40000023, 11, true, false},
    {0x40000070, 4, false, true}, {0x40000071, 4, true, true},   {0x40000072, 4, true, true},
    {0x40000073, 4, true, true},  {0x40000080, 2, true, true},   {0x40000081, 2, true, false},
    {0x40000082, 2, true, true},  {0x40000083, 2, true, true},   {0x40000084, 2, true, true},
    {0x400000b0, 3, true, true},  {0x400000b1, 3, true, true},   {0x400000b7, 3, true, true},
    {0x40000100, 74, true, true}, {0x40000104, 74, true, true},  {0x40000105, 74, true, true},
    {0x40000106, 13, true, true}, {0x40000107, 13, true, true},  {0x40000108, 13, true, true},
    {0x40000118, 15, true, true}, {0x400000f0, 10, true, false},
};

PartitionConfig config_with_only(const Rule& rule, bool with_gate) {
    PartitionConfig config;
    config.privileges = rule.gate < 64 && with_gate ? u64{1} << rule.gate : 0;
    config.features_edx = rule.gate >= 64 && with_gate ? u32{1} << (rule.gate - 64) : 0;
    return config;
}

}  // namespace

TEST_CASE("msr: M-01..M-34 each register needs exactly its privilege", "[hv][msr]") {
    const Rule rule = GENERATE(from_range(std::begin(kRules), std::end(kRules)));
    CAPTURE(rule.index);
    {
        Fixture f(config_with_only(rule, true));
        CHECK(f.rdmsr(rule.index).has_value() == rule.read);
        CHECK(f.wrmsr(rule.index, 0) == rule.write);
    }
    PartitionConfig others;
    others.privileges = ~u64{0};
    others.features_edx = ~u32{0};
    if (rule.gate < 64)
        others.privileges &= ~(u64{1} << rule.gate);
    else
        others.features_edx &= ~(u32{1} << (rule.gate - 64));
    Fixture f(others);
    CHECK_FALSE(f.rdmsr(rule.index));
    CHECK_FALSE(f.wrmsr(rule.index, 0));
}

TEST_CASE("msr: an index without a row is #GP, with every privilege", "[hv][msr]") {
    PartitionConfig config;
    config.privileges = ~u64{0};
    config.features_edx = ~u32{0};
    Fixture f(config);
    for (const u32 index :
         {0x40000004u, 0x4000000fu, 0x40000011u, 0x4000001fu, 0x40000024u, 0x40000040u, 0x4000006fu, 0x40000074u,
          0x4000007fu, 0x40000085u, 0x4000008fu, 0x400000a0u, 0x400000afu, 0x400000b8u, 0x400000e0u, 0x400000f1u,
          0x40000109u, 0x40000119u, 0x400001ffu, 0x40001002u, 0x40001080u, 0x400010ffu}) {
        CAPTURE(index);
        CHECK_FALSE(f.rdmsr(index));
        CHECK_FALSE(f.wrmsr(index, 0));
    }
}

TEST_CASE("msr: M-03, M-08, M-09, M-16, M-21 reset values", "[hv][msr]") {
    Fixture f({}, 2);
    CHECK(f.rdmsr(msr::VP_INDEX) == 0u);
    f.vp = f.partition->find_vp(1);
    CHECK(f.rdmsr(msr::VP_INDEX) == 1u);
    CHECK(f.rdmsr(msr::TSC_FREQUENCY) == kVTimeHz);
    CHECK(f.rdmsr(msr::APIC_FREQUENCY) == kVTimeHz);
    CHECK(f.rdmsr(msr::SVERSION) == 1u);
    CHECK(f.rdmsr(msr::SCONTROL) == 0u);
    for (u32 i = 0; i < 16; ++i) CHECK(f.rdmsr(msr::SINT0 + i) == 0x10000u);
}

TEST_CASE("msr: M-04 RESET asks the parent, and only for bit 0", "[hv][msr]") {
    Fixture f(hv::test::with_privileges(1 << 7));
    CHECK(f.wrmsr(msr::RESET, 0));
    CHECK(f.sink.resets == 0);
    CHECK(f.wrmsr(msr::RESET, 1));
    CHECK(f.sink.resets == 1);
    CHECK(f.rdmsr(msr::RESET) == 0u);
}

TEST_CASE("msr: M-11, M-13 EOI and TPR are the local APIC's", "[hv][msr]") {
    Fixture f;
    CHECK(f.wrmsr(msr::TPR, 0x30));
    CHECK(f.apic().tpr() == 0x30);
    CHECK(f.rdmsr(msr::TPR) == 0x30u);
    CHECK_FALSE(f.wrmsr(msr::TPR, 0x100));
    f.apic().accept(0x51, false);
    CHECK(f.apic().acknowledge() == 0x51);
    CHECK(f.apic().in_service(0x51));
    CHECK(f.wrmsr(msr::EOI, 0));
    CHECK_FALSE(f.apic().in_service(0x51));
}

TEST_CASE("msr: M-12 ICR sends an interrupt to the APIC id in its high half", "[hv][msr]") {
    Fixture f({}, 2);
    CHECK(f.wrmsr(msr::ICR, u64{1} << 56 | 0x4041));
    CHECK(f.apic(1).requested(0x41));
    CHECK_FALSE(f.apic(0).requested(0x41));
    CHECK(f.rdmsr(msr::ICR) == (u64{1} << 56 | 0x4041));
}

TEST_CASE("msr: M-28, M-29 a crash report reaches the parent with its message", "[hv][msr]") {
    Fixture f;
    CHECK(f.rdmsr(msr::CRASH_CTL) == 0xc000000000000000u);
    const std::string text = "kernel panic";
    CHECK(f.partition->write_memory(Gpa(0x2ffa), text.data(), text.size()));  // crosses a page
    for (u32 i = 0; i < 3; ++i) CHECK(f.wrmsr(msr::CRASH_P0 + i, 0x10 + i));
    CHECK(f.wrmsr(msr::CRASH_P0 + 3, 0x2ffa));
    CHECK(f.wrmsr(msr::CRASH_P0 + 4, text.size()));
    CHECK(f.wrmsr(msr::CRASH_CTL, 0));
    CHECK(f.sink.crashes == 0);
    SECTION("with a message") {
        CHECK(f.wrmsr(msr::CRASH_CTL, 0xc000000000000000));
        CHECK(f.sink.crashes == 1);
        CHECK(f.partition->crash().notified);
        CHECK(f.partition->crash().message == text);
        CHECK(f.lines.size() == 1);
        CHECK(f.wrmsr(msr::CRASH_CTL, 0xc000000000000000));
        CHECK(f.lines.size() == 1);
    }
    SECTION("without a message") {
        CHECK(f.wrmsr(msr::CRASH_CTL, 0x8000000000000000));
        CHECK(f.sink.crashes == 1);
        CHECK(f.partition->crash().message.empty());
        CHECK(f.partition->crash().p[1] == 0x11);
    }
    SECTION("a message of any length or place is cut to a page, and one outside memory is empty") {
        CHECK(f.wrmsr(msr::CRASH_P0 + 4, ~u64{0}));
        CHECK(f.wrmsr(msr::CRASH_CTL, 0xc000000000000000));
        CHECK(f.partition->crash().message.size() == 4096);
        CHECK(f.wrmsr(msr::CRASH_P0 + 3, ~u64{0}));
        CHECK(f.wrmsr(msr::CRASH_CTL, 0xc000000000000000));
        CHECK(f.partition->crash().message.empty());
    }
}

TEST_CASE("msr: M-32 TSC_EMULATION_STATUS takes only 0", "[hv][msr]") {
    Fixture f(hv::test::with_privileges(1 << 13));
    CHECK(f.wrmsr(msr::TSC_EMULATION_STATUS, 0));
    CHECK_FALSE(f.wrmsr(msr::TSC_EMULATION_STATUS, 1));
    CHECK(f.wrmsr(msr::REENLIGHTENMENT_CONTROL, 0x100ee));
    CHECK(f.rdmsr(msr::REENLIGHTENMENT_CONTROL) == 0x100eeu);
}

TEST_CASE("msr: M-05 VP_RUNTIME counts what a VP executes, not what it sleeps", "[hv][msr]") {
    Fixture f({}, 2);
    const auto slice = [&](u32 vp, VTime from, VTime until, VTime left) {
        cpu::Vp& processor = f.partition->vps()[vp]->processor();
        processor.begin_slice(from, until);
        processor.state().budget = static_cast<s64>(left);  // halted that long before the slice's end
    };
    slice(0, 5'000, 15'000, 0);
    CHECK(f.rdmsr(msr::VP_RUNTIME) == 100u);
    slice(0, 15'000, 25'000, 4'000);
    CHECK(f.rdmsr(msr::VP_RUNTIME) == 160u);
    slice(0, 1'000'000, 1'010'000, 10'000);
    CHECK(f.rdmsr(msr::VP_RUNTIME) == 160u);
    slice(0, 1'000'000, 1'010'000, 0);
    CHECK(f.rdmsr(msr::VP_RUNTIME) == 260u);
    CHECK(f.partition->vps()[1]->processor().run_time_ns() == 0);
    f.vp->processor().init();
    CHECK(f.rdmsr(msr::VP_RUNTIME) == 260u);
    f.vp->reset();
    CHECK(f.rdmsr(msr::VP_RUNTIME) == 0u);
    CHECK_FALSE(f.wrmsr(msr::VP_RUNTIME, 1));
}

TEST_CASE("msr: M-24 GUEST_IDLE waits for any interrupt, delivered or not", "[hv][msr]") {
    PartitionConfig config;
    config.privileges |= u64{1} << static_cast<unsigned>(Gate::GuestIdle);
    Fixture f(config);
    cpu::Vp& processor = f.vp->processor();
    cpu::VpState& state = processor.state();
    state.rflags &= ~cpu::flag::IF;
    CHECK(f.rdmsr(msr::GUEST_IDLE) == 0u);
    CHECK(processor.activity() == cpu::Activity::Idle);
    CHECK_FALSE(processor.event_pending());
    const u64 rip = state.rip;
    SECTION("an interrupt that cannot be delivered") {
        processor.apic().accept(0x40, false);
        REQUIRE(processor.event_pending());
        CHECK(processor.take_event() == cpu::Exec::Resync);
        CHECK(processor.activity() == cpu::Activity::Active);
        CHECK(state.rip == rip);
        CHECK(processor.apic().requested(0x40));
        CHECK_FALSE(processor.event_pending());
    }
    SECTION("but not one below the task priority") {
        processor.apic().set_tpr(0x50);
        processor.apic().accept(0x40, false);
        CHECK_FALSE(processor.event_pending());
    }
}

TEST_CASE("assist page: S-100, S-101 an interrupt that is alone ends without EOI", "[hv][msr]") {
    constexpr u64 kPage = 0x5000;
    const bool offered = GENERATE(true, false);
    Fixture f(offered ? full_partition_config() : PartitionConfig{});
    cpu::Apic& apic = f.vp->processor().apic();
    REQUIRE(f.wrmsr(msr::VP_ASSIST_PAGE, kPage | kPageEnable));
    const auto flag = [&] { return f.guest_read<u32>(kPage); };
    const auto take = [&](u8 vector, bool level = false) {
        apic.accept(vector, level);
        REQUIRE(apic.acknowledge() == vector);
    };
    if (!offered) {
        take(0x40);
        CHECK(flag() == 0);
        return;
    }
    SECTION("the guest makes use of it") {
        take(0x40);
        CHECK(flag() == 1);
        f.guest_write<u32>(kPage, 0);
        apic.accept(0x31, false);  // of a lower class
        CHECK_FALSE(apic.in_service(0x40));
        CHECK(apic.pending_vector() == 0x31);
    }
    SECTION("another one comes first: the guest has to write EOI") {
        take(0x40);
        apic.accept(0x31, false);
        CHECK(flag() == 0);
        CHECK(apic.in_service(0x40));
        CHECK(apic.pending_vector() == -1);
        REQUIRE(f.wrmsr(msr::EOI, 0));
        CHECK(apic.pending_vector() == 0x31);
    }
    SECTION("an EOI that was written all the same is one") {
        take(0x40);
        REQUIRE(f.wrmsr(msr::EOI, 0));
        CHECK_FALSE(apic.in_service(0x40));
        CHECK(flag() == 0);
    }
    SECTION("one of two that wait") {
        apic.accept(0x40, false);
        take(0x50);
        CHECK(flag() == 0);
    }
    SECTION("one inside another") {
        take(0x40);
        take(0x50);
        CHECK(flag() == 0);
    }
    SECTION("level-triggered") {
        take(0x40, true);
        CHECK(flag() == 0);
    }
    SECTION("a SINT's: its EOI brings the next message") {
        REQUIRE(f.wrmsr(msr::SINT0 + 2, 0x40));
        take(0x40);
        CHECK(flag() == 0);
    }
    SECTION("a page that goes") {
        take(0x40);
        f.guest_write<u32>(kPage, 0);
        REQUIRE(f.wrmsr(msr::VP_ASSIST_PAGE, 0));
        CHECK_FALSE(apic.in_service(0x40));
    }
    SECTION("INIT") {
        take(0x40);
        apic.init();
        CHECK(flag() == 0);
    }
}
