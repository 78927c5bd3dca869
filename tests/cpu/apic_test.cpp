#include <catch2/catch.hpp>
#include <memory>

#include "cpu/apic.h"
#include "tests/support/state_tree.h"
#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;

namespace {

/// Three VPs on one bus; VP 0 is in x2APIC mode if asked for.
struct Machine {
    explicit Machine(bool x2 = false) : model(CpuModel::create("verdigris-v2").value()) {
        REQUIRE(memory.add_ram("ram", Spa(0), 0x100000));
        for (u32 n = 0; n < 3; ++n) {
            vps.push_back(std::make_unique<Vp>(VpEnvironment{memory, events, log, model, bus, platform},
                                               "vp" + std::to_string(n), n, n));
            Apic& apic = vps.back()->apic();
            if (x2) REQUIRE(apic.write_base(vps.back()->state().apic_base | 1 << 10));
            write(n, 0x0f, 0x1ff);
        }
    }
    Apic& apic(u32 n) { return vps[n]->apic(); }
    void write(u32 n, u32 reg, u64 value) {
        if (apic(n).x2apic()) REQUIRE(apic(n).msr_write(reg, value));
        else apic(n).mmio_write(reg << 4, static_cast<u32>(value));
    }
    u64 read(u32 n, u32 reg) {
        u64 value = 0;
        if (!apic(n).x2apic()) return apic(n).mmio_read(reg << 4);
        REQUIRE(apic(n).msr_read(reg, value));
        return value;
    }
    void advance(u64 ns) {
        clock.advance(ns);
        for (auto& vp : vps) vp->begin_slice(clock.now(), clock.now());
        events.run_due(clock.now());
    }
    ManualClock clock;
    EventQueue events{clock};
    Log log;
    mmu::PhysicalMemory memory;
    CpuModel model;
    ApicBus bus;
    test::NoPlatform platform;
    std::vector<std::unique_ptr<Vp>> vps;
};

}  // namespace

TEST_CASE("apic: priorities hold a vector back until EOI or a lower TPR", "[cpu][apic]") {
    Machine m;
    Apic& a = m.apic(0);
    a.accept(0x41, false);
    a.accept(0x51, false);
    CHECK(a.pending_vector() == 0x51);
    CHECK(a.acknowledge() == 0x51);
    CHECK(a.in_service(0x51));
    CHECK(a.pending_vector() == -1);
    a.accept(0x5f, false);
    CHECK(a.pending_vector() == -1);  // same class
    a.accept(0x60, false);
    CHECK(a.pending_vector() == 0x60);
    a.set_tpr(0x60);
    CHECK(a.pending_vector() == -1);
    a.set_tpr(0x5f);
    CHECK(a.pending_vector() == 0x60);
    a.set_tpr(0);
    CHECK(a.acknowledge() == 0x60);
    a.eoi();
    CHECK(a.pending_vector() == -1);
    a.eoi();
    CHECK(a.pending_vector() == 0x5f);
}

TEST_CASE("apic: vectors below 16 are errors, software-disabled APICs accept nothing", "[cpu][apic]") {
    Machine m;
    Apic& a = m.apic(0);
    a.accept(15, false);
    CHECK(a.pending_vector() == -1);
    a.mmio_write(0x280, 0);
    CHECK(a.mmio_read(0x280) == 1u << 6);
    a.accept(16, false);
    CHECK(a.requested(16));
    a.mmio_write(0xf0, 0xff);
    a.accept(0x40, false);
    CHECK_FALSE(a.requested(0x40));
    CHECK((a.mmio_read(0x350) & 0x10000) != 0);
    a.mmio_write(0x350, 0x700);
    CHECK((a.mmio_read(0x350) & 0x10000) != 0);  // the mask bit cannot be cleared now
}

TEST_CASE("apic: an auto-EOI vector never enters service", "[cpu][apic]") {
    Machine m;
    Apic& a = m.apic(0);
    a.set_auto_eoi(0xf3, true);
    a.accept(0xf3, false);
    CHECK(a.acknowledge() == 0xf3);
    CHECK_FALSE(a.in_service(0xf3));
}

TEST_CASE("apic: EOI of a level-triggered vector is broadcast, of an edge not", "[cpu][apic]") {
    struct Listener : EoiListener {
        void eoi(u8 vector) override { heard.push_back(vector); }
        std::vector<u8> heard;
    } listener;
    Machine m;
    m.bus.add_eoi_listener(listener);
    m.apic(0).accept(0x40, true);
    m.apic(0).accept(0x50, false);
    for (int n = 0; n < 2; ++n) {
        CHECK(m.apic(0).acknowledge() >= 0);
        m.write(0, 0x0b, 0);
    }
    CHECK(listener.heard == std::vector<u8>{0x40});
}

TEST_CASE("apic: IPIs reach their destinations", "[cpu][apic]") {
    const bool x2 = GENERATE(false, true);
    Machine m(x2);
    const auto send = [&](u32 destination, u32 low) {
        if (x2) return m.write(0, 0x30, u64{destination} << 32 | low);
        m.write(0, 0x31, destination << 24);
        m.write(0, 0x30, low);
    };
    const auto who = [&](u8 vector) {
        u32 mask = 0;
        for (u32 n = 0; n < 3; ++n) mask |= m.apic(n).requested(vector) ? 1u << n : 0;
        return mask;
    };
    send(2, 0x40);
    CHECK(who(0x40) == 4);
    send(0, 0x41 | 1 << 18);
    CHECK(who(0x41) == 1);
    send(0, 0x42 | 2 << 18);
    CHECK(who(0x42) == 7);
    send(0, 0x43 | 3 << 18);
    CHECK(who(0x43) == 6);
    send(x2 ? 0xffffffff : 0xff, 0x44);
    CHECK(who(0x44) == 7);
    send(7, 0x45);
    CHECK(who(0x45) == 0);
    if (!x2) {
        for (u32 n = 0; n < 3; ++n) m.write(n, 0x0d, 1u << (24 + n));
        send(6, 0x46 | 1 << 11);
        CHECK(who(0x46) == 6);
        for (u32 n = 0; n < 3; ++n) {
            m.write(n, 0x0e, 0x0fffffff);  // cluster model
            m.write(n, 0x0d, (n == 2 ? 0x21u : 0x11u << n) << 24);
        }
        send(0x21, 0x47 | 1 << 11);
        CHECK(who(0x47) == 4);
    } else {
        send(5, 0x46 | 1 << 11);
        CHECK(who(0x46) == 5);
        m.write(0, 0x3f, 0x48);
        CHECK(who(0x48) == 1);
    }
    send(1, 4 << 8);  // NMI
    CHECK(m.vps[1]->state().nmi_pending == 1);
    send(1, 5 << 8 | 1 << 14);  // INIT
    CHECK(m.vps[1]->take_event() == Exec::Resync);
    CHECK(m.vps[1]->activity() == Activity::WaitForSipi);
    send(1, 6 << 8 | 0x9a);
    CHECK(m.vps[1]->event_pending());
    CHECK(m.vps[1]->take_event() == Exec::Resync);
    CHECK(m.vps[1]->state().segment(Seg::CS).base == 0x9a000);
    CHECK(m.vps[1]->state().rip == 0);
    CHECK(m.vps[1]->activity() == Activity::Active);
}

TEST_CASE("apic: lowest priority goes to the lowest PPR, then the lowest id", "[cpu][apic]") {
    Machine m;
    InterruptMessage message;
    message.destination = 0xff;
    message.mode = DeliveryMode::LowestPriority;
    message.vector = 0x70;
    m.apic(0).set_tpr(0x20);
    CHECK(m.bus.deliver(message) == 1);
    CHECK(m.apic(1).requested(0x70));
    m.apic(1).set_tpr(0x30);
    m.apic(2).set_tpr(0x30);
    message.vector = 0x71;
    CHECK(m.bus.deliver(message) == 1);
    CHECK(m.apic(0).requested(0x71));
}

TEST_CASE("apic: one-shot and periodic timers count down virtual time", "[cpu][apic]") {
    Machine m;
    m.write(0, 0x3e, 0x3);  // divide by 16
    m.write(0, 0x32, 0x80);
    m.write(0, 0x38, 1000);
    CHECK(m.read(0, 0x39) == 1000);
    m.advance(15999);
    CHECK(m.read(0, 0x39) == 1);
    CHECK_FALSE(m.apic(0).requested(0x80));
    m.advance(1);
    CHECK(m.apic(0).requested(0x80));
    CHECK(m.read(0, 0x39) == 0);
    m.apic(0).acknowledge();
    m.apic(0).eoi();
    m.write(0, 0x32, 0x20081);
    m.write(0, 0x38, 1000);
    m.advance(16000);
    CHECK(m.apic(0).acknowledge() == 0x81);
    m.apic(0).eoi();
    CHECK(m.read(0, 0x39) == 1000);
    m.advance(40000);  // two and a half periods: one interrupt, in phase
    CHECK(m.apic(0).acknowledge() == 0x81);
    m.apic(0).eoi();
    CHECK(m.apic(0).acknowledge() == -1);
    CHECK(m.read(0, 0x39) == 500);
    m.write(0, 0x38, 0);
    CHECK(m.events.next() == kNever);
}

TEST_CASE("apic: a TSC-deadline fires at its time and disarms itself", "[cpu][apic]") {
    Machine m;
    Apic& a = m.apic(0);
    a.write_tsc_deadline(500);
    CHECK(a.tsc_deadline() == 0);  // not in that mode
    m.write(0, 0x32, 0x40000 | 0x90);
    a.write_tsc_deadline(500);
    CHECK(a.tsc_deadline() == 500);
    m.advance(499);
    CHECK_FALSE(a.requested(0x90));
    m.advance(1);
    CHECK(a.requested(0x90));
    CHECK(a.tsc_deadline() == 0);
    a.acknowledge();
    a.write_tsc_deadline(1);  // in the past: at once
    m.advance(0);
    CHECK(a.requested(0x90));
}

TEST_CASE("apic: IA32_APIC_BASE takes only the architecture's transitions", "[cpu][apic]") {
    Machine m;
    Apic& a = m.apic(1);
    constexpr u64 kBase = 0xfee00000, kEn = 1 << 11, kExtd = 1 << 10;
    CHECK_FALSE(a.write_base(kBase | kExtd));
    CHECK_FALSE(a.write_base(kBase | kEn | 1));
    CHECK_FALSE(a.write_base(kBase | kEn | u64{1} << 46));
    CHECK(a.write_base(kBase | kEn | u64{1} << 45));
    CHECK(a.write_base(kBase | kEn | kExtd));
    CHECK_FALSE(a.write_base(kBase | kEn));
    CHECK(a.write_base(kBase));
    CHECK_FALSE(a.write_base(kBase | kEn | kExtd));
    CHECK(a.write_base(kBase | kEn));
}

TEST_CASE("apic: x2APIC MSRs refuse reserved bits and unknown registers", "[cpu][apic]") {
    Machine m(true);
    Apic& a = m.apic(0);
    u64 value = 0;
    CHECK_FALSE(a.msr_read(0x0b, value));
    CHECK_FALSE(a.msr_read(0x0e, value));
    CHECK_FALSE(a.msr_read(0x31, value));
    CHECK_FALSE(a.msr_write(0x02, 0));
    CHECK_FALSE(a.msr_write(0x0b, 1));
    CHECK(a.msr_write(0x0b, 0));
    CHECK_FALSE(a.msr_write(0x08, 0x100));
    CHECK_FALSE(a.msr_write(0x28, 1));
    CHECK_FALSE(a.msr_write(0x30, 1 << 13));
    CHECK_FALSE(a.msr_write(0x32, 1 << 19));
    CHECK_FALSE(a.msr_write(0x3e, 4));
    CHECK_FALSE(a.msr_write(0x3f, 0x100));
    CHECK(a.msr_read(0x0d, value));
    CHECK(value == 1);
    CHECK(m.apic(2).msr_read(0x0d, value));
    CHECK(value == 4);
}

TEST_CASE("apic: lowest priority does not choose an APIC that is switched off by software", "[cpu][apic]") {
    // SDM 3A "Local APIC State After It Has Been Software Disabled": it responds to INIT, NMI, SMI and SIPI only.
    Machine m;
    m.write(0, 0x0f, 0xff);
    CHECK(m.bus.deliver({.destination = 0xff, .mode = DeliveryMode::LowestPriority, .vector = 0x60}) == 1);
    CHECK_FALSE(m.apic(0).requested(0x60));
    CHECK(m.apic(1).requested(0x60));
}

TEST_CASE("apic: a lowest-priority IPI to all but the sender reaches one processor", "[cpu][apic]") {
    Machine m;
    m.apic(1).set_tpr(0x20);
    m.write(0, 0x30, 3u << 18 | 1u << 8 | 0x61);
    CHECK_FALSE(m.apic(0).requested(0x61));
    CHECK_FALSE(m.apic(1).requested(0x61));
    CHECK(m.apic(2).requested(0x61));
}

TEST_CASE("apic: restoring a pending interrupt leaves the slice as it was saved", "[cpu][apic]") {
    Machine m;
    Vp& vp = *m.vps[0];
    vp.apic().accept(0x41, false);
    vp.begin_slice(1000, 2000);
    const test::StateTree saved = test::save(vp);
    CHECK(test::load(saved, *m.vps[1]).empty());
    CHECK((test::save(*m.vps[1]) == saved));
    CHECK(m.apic(1).pending_vector() == 0x41);
}
