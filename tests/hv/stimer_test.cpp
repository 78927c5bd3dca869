// Synthetic timers. Rows S-80..S-86, M-22, M-23, S-53.
#include <catch2/catch.hpp>

#include "tests/hv/fixture.h"
#include "tests/support/state_tree.h"

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;

namespace {

constexpr u32 kConfig = msr::STIMER0_CONFIG, kCount = msr::STIMER0_CONFIG + 1;
constexpr u64 kLinuxDirect = 0x1ed9 & ~u64{1};  // S-83: auto-enable, vector 0xed, direct
constexpr u64 kLinuxMessage = 0x20008;          // auto-enable, SINT2

bool interrupted(Fixture& f, u8 vector) {
    if (!f.apic().requested(vector)) return false;
    CHECK(f.apic().acknowledge() == vector);
    f.apic().eoi();
    return true;
}

TimerMessage message(Fixture& f) { return f.guest_read<TimerMessage>(Fixture::slot(2) + 16); }

}  // namespace

TEST_CASE("stimer: S-83 a direct one-shot as Linux uses it", "[hv][stimer]") {
    Fixture f;
    f.advance_ns(1'000'000);
    CHECK(f.wrmsr(kConfig, 0x1ed9));
    CHECK(f.rdmsr(kConfig) == 0x1ed9u);
    CHECK_FALSE(interrupted(f, 0xed));
    for (int tick = 0; tick < 3; ++tick) {
        const u64 due = *f.rdmsr(msr::TIME_REF_COUNT) + 1000;
        CHECK(f.wrmsr(kCount, due));
        CHECK(f.rdmsr(kConfig) == 0x1ed9u);
        f.advance_ns(99'900);
        CHECK_FALSE(interrupted(f, 0xed));
        f.advance_ns(200);
        CHECK(interrupted(f, 0xed));
        CHECK(f.rdmsr(msr::TIME_REF_COUNT) >= due);
        CHECK(f.rdmsr(kConfig) == 0x1ed8u);  // S-80: enable is off after a one-shot
        f.advance_ns(1'000'000);
        CHECK_FALSE(interrupted(f, 0xed));
    }
    CHECK(f.wrmsr(kCount, 0));
    CHECK(f.wrmsr(kConfig, 0));
}

TEST_CASE("stimer: S-80 fires at the first instant of its tick", "[hv][stimer]") {
    Fixture f;
    f.clock.set(12'345);
    const u64 due = *f.rdmsr(msr::TIME_REF_COUNT) + 7;
    CHECK(f.wrmsr(kConfig, kLinuxDirect));
    CHECK(f.wrmsr(kCount, due));
    const VTime when = f.events.next();
    f.clock.set(when - 1);
    CHECK(f.rdmsr(msr::TIME_REF_COUNT) == due - 1);
    f.clock.set(when);
    CHECK(f.rdmsr(msr::TIME_REF_COUNT) == due);
    f.events.run_due(when);
    CHECK(interrupted(f, 0xed));
}

TEST_CASE("stimer: S-80 a count in the past fires at once", "[hv][stimer]") {
    Fixture f;
    f.clock.set(1'000'000);
    CHECK(f.wrmsr(kConfig, kLinuxDirect));
    CHECK(f.wrmsr(kCount, 1));
    CHECK(interrupted(f, 0xed));
    CHECK((*f.rdmsr(kConfig) & 1) == 0);
}

TEST_CASE("stimer: S-81, S-82 enable, count and their order", "[hv][stimer]") {
    Fixture f;
    f.clock.set(1'000'000);
    SECTION("enabled with count 0: nothing until the count is written") {
        CHECK(f.wrmsr(kConfig, 0x1ed1));
        f.advance_ns(1'000'000);
        CHECK_FALSE(interrupted(f, 0xed));
        CHECK(f.wrmsr(kCount, 1));
        CHECK(interrupted(f, 0xed));
    }
    SECTION("without auto-enable a count does not enable; CONFIG starts it") {
        CHECK(f.wrmsr(kConfig, 0x1ed0));
        CHECK(f.wrmsr(kCount, 1));
        CHECK_FALSE(interrupted(f, 0xed));
        CHECK(f.wrmsr(kConfig, 0x1ed1));
        CHECK(interrupted(f, 0xed));
    }
    SECTION("count 0 stops and clears enable") {
        CHECK(f.wrmsr(kConfig, 0x1ed9));
        CHECK(f.wrmsr(kCount, 20'000));
        CHECK(f.events.next() != kNever);
        CHECK(f.wrmsr(kCount, 0));
        CHECK(f.rdmsr(kConfig) == 0x1ed8u);
        CHECK(f.events.next() == kNever);
    }
    SECTION("CONFIG cancels") {
        CHECK(f.wrmsr(kConfig, 0x1ed9));
        CHECK(f.wrmsr(kCount, 20'000));
        CHECK(f.wrmsr(kConfig, 0x1ed8));
        CHECK(f.events.next() == kNever);
        CHECK(f.rdmsr(kCount) == 20'000u);
    }
    SECTION("re-configuring an enabled timer to message mode on SINT0 disables it") {
        CHECK(f.wrmsr(kConfig, 0x1ed9));
        CHECK(f.wrmsr(kConfig, 0x0009));
        CHECK(f.rdmsr(kConfig) == 0x0008u);
    }
    SECTION("reserved bits are #GP") {
        for (const u64 bad : {u64{1} << 13, u64{1} << 15, u64{1} << 20, u64{1} << 63})
            CHECK_FALSE(f.wrmsr(kConfig, bad));
    }
    SECTION("a count that is never reached") {
        CHECK(f.wrmsr(kConfig, kLinuxDirect));
        CHECK(f.wrmsr(kCount, ~u64{0}));
        CHECK(f.events.next() == kNever);
        CHECK(f.wrmsr(kConfig, 0x1eda));
        CHECK(f.wrmsr(kCount, ~u64{0}));
        CHECK(f.events.next() == kNever);
    }
}

TEST_CASE("stimer: M-22, C-57 direct mode must have been given", "[hv][stimer]") {
    PartitionConfig config;
    config.features_edx &= ~(u32{1} << 19);
    Fixture f(config);
    CHECK_FALSE(f.wrmsr(kConfig, 0x1ed9));
    CHECK(f.wrmsr(kConfig, kLinuxMessage));
}

TEST_CASE("stimer: S-84 a direct vector below 16 never fires", "[hv][stimer]") {
    Fixture f;
    f.clock.set(1'000'000);
    CHECK(f.wrmsr(kConfig, 0x1009 | 15 << 4));
    CHECK(f.wrmsr(kCount, 1));
    CHECK(f.apic().pending_vector() == -1);
}

TEST_CASE("stimer: S-80 periodic, with missed periods as one", "[hv][stimer]") {
    Fixture f;
    f.clock.set(1'000'000);
    CHECK(f.wrmsr(kConfig, 0x1edb));
    CHECK(f.wrmsr(kCount, 100));  // 10 us
    for (int i = 0; i < 5; ++i) {
        f.advance_ns(9'800);
        CHECK_FALSE(interrupted(f, 0xed));
        f.advance_ns(200);
        CHECK(interrupted(f, 0xed));
        CHECK(f.rdmsr(kConfig) == 0x1edbu);
    }
    f.advance_ns(1'234'567);
    CHECK(interrupted(f, 0xed));
    CHECK_FALSE(interrupted(f, 0xed));
    CHECK(f.events.next() > f.clock.now());
    CHECK(f.events.next() - f.clock.now() <= 10'200);
}

TEST_CASE("stimer: S-85 message mode delivers, keeps the expiration while the slot is busy", "[hv][stimer]") {
    Fixture f;
    f.enable_synic();
    f.clock.set(1'000'000);
    CHECK(f.wrmsr(kConfig, 0x20009));
    CHECK(f.wrmsr(kCount, 10'100));
    f.advance_ns(10'100);
    CHECK(f.guest_read<u32>(Fixture::slot(2)) == 0x80000010);
    CHECK(f.guest_read<MessageHeader>(Fixture::slot(2)).payload_size == 24);
    CHECK(f.guest_read<MessageHeader>(Fixture::slot(2)).origin == 0);
    CHECK(message(f).timer_index == 0);
    CHECK(message(f).expiration_time == 10'100);
    CHECK(message(f).delivery_time >= 10'100);
    CHECK(interrupted(f, 0xf3));
    CHECK(f.rdmsr(kConfig) == 0x20008u);

    CHECK(f.wrmsr(kCount, 10'200));
    f.advance_ns(20'000);
    CHECK(f.rdmsr(kConfig) == 0x20009u);  // not delivered yet: still enabled
    CHECK(f.guest_read<MessageHeader>(Fixture::slot(2)).flags == 1);
    CHECK(message(f).expiration_time == 10'100);
    f.guest_write<u32>(Fixture::slot(2), 0);
    f.advance_ns(5'000);
    CHECK(f.wrmsr(msr::EOM, 0));
    CHECK(message(f).expiration_time == 10'200);
    CHECK(message(f).delivery_time >= 10'340);
    CHECK(interrupted(f, 0xf3));
    CHECK(f.rdmsr(kConfig) == 0x20008u);
}

TEST_CASE("stimer: M-15 message timers wait for the SynIC", "[hv][stimer]") {
    Fixture f;
    f.clock.set(1'000'000);
    CHECK(f.wrmsr(kConfig, kLinuxMessage));
    CHECK(f.wrmsr(kCount, 1));
    f.enable_synic();
    CHECK(f.guest_read<u32>(Fixture::slot(2)) == 0x80000010);
    CHECK(interrupted(f, 0xf3));
}

TEST_CASE("stimer: S-85 queued messages go before a timer's, and both arrive", "[hv][stimer]") {
    Fixture f;
    f.enable_synic();
    f.clock.set(1'000'000);
    const std::array<u8, 1> bytes{5};
    CHECK(f.partition->post_message(0, 2, 1, bytes) == HvStatus::Success);
    CHECK(f.partition->post_message(0, 2, 2, bytes) == HvStatus::Success);
    CHECK(f.wrmsr(kConfig, kLinuxMessage));
    CHECK(f.wrmsr(kCount, 1));
    for (const u32 type : {1u, 2u, 0x80000010u}) {
        const auto header = f.guest_read<MessageHeader>(Fixture::slot(2));
        CHECK(header.type == type);
        CHECK(header.flags == (type == 0x80000010u ? 0 : 1));
        f.guest_write<u32>(Fixture::slot(2), 0);
        CHECK(f.wrmsr(msr::EOM, 0));
    }
    CHECK(f.guest_read<u32>(Fixture::slot(2)) == 0);
}

TEST_CASE("stimer: the four timers of two VPs are separate, and reset stops them", "[hv][stimer]") {
    Fixture f({}, 2);
    f.clock.set(1'000'000);
    for (u32 i = 0; i < 4; ++i) {
        CHECK(f.wrmsr(kConfig + 2 * i, 0x1009 | (0x40 + i) << 4));
        CHECK(f.wrmsr(kCount + 2 * i, 20'000 + i));
    }
    f.advance_ns(1'000'200);
    for (u32 i = 0; i < 4; ++i) CHECK(f.apic(0).requested(static_cast<u8>(0x40 + i)) == (i < 2));
    CHECK(f.apic(1).pending_vector() == -1);
    f.vp->reset();
    CHECK(f.rdmsr(kConfig + 4) == 0u);
    CHECK(f.events.next() == kNever);
}

TEST_CASE("stimer: saved state whose timer is impossible is loaded without harm", "[hv][stimer]") {
    Fixture f;
    f.clock.set(1'000'000);
    CHECK(f.wrmsr(kConfig, 0x1edb));
    CHECK(f.wrmsr(kCount, 100));
    auto tree = vg::test::save(f.vp->timers());
    tree.at("0/0/count").assign(8, 0);  // a period of 0
    SECTION("waiting") {}
    SECTION("undelivered") { tree.at("0/0/pending").assign(8, 1); }
    vg::test::load(tree, f.vp->timers());
    f.advance_ns(1'000'000);
    f.vp->timers().retry_pending();
    CHECK(f.events.next() == kNever);
}
