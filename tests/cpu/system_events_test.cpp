// Start of processors, debug traps and configuration registers, each case found by a public test suite.
#include <catch2/catch.hpp>

#include "cpu/msr.h"
#include "cpu/spec/bits.h"
#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::TestVp;

namespace {

void run(Vp& vp, u64 instructions) {
    StepEngine engine;
    vp.begin_slice(0, instructions);
    (void)engine.run(vp);
}

constexpr u64 kCode = TestVp::kFree;

}  // namespace

TEST_CASE("events: a SIPI that arrives before the INIT is taken starts the processor", "[cpu][events]") {
    // One processor sends INIT and SIPI back to back while the other has not run. SDM 3A "MP Initialization Protocol".
    TestVp t;
    Vp ap({t.memory, t.events, t.log, t.model, t.apic_bus, t.platform}, "vp1", 1, 1);
    ap.request_init();
    ap.request_sipi(0x05);
    while (ap.event_pending() && ap.activity() != Activity::Active) (void)ap.take_event();
    CHECK(ap.activity() == Activity::Active);
    CHECK(ap.state().segment(Seg::CS).base == 0x5000);
    CHECK(ap.state().rip == 0);
}

TEST_CASE("events: a SIPI before an INIT starts nothing", "[cpu][events]") {
    TestVp t;
    Vp ap({t.memory, t.events, t.log, t.model, t.apic_bus, t.platform}, "vp1", 1, 1);
    ap.request_sipi(0x05);
    ap.request_init();
    for (int i = 0; i < 4 && ap.event_pending(); ++i) (void)ap.take_event();
    CHECK(ap.activity() == Activity::WaitForSipi);
}

TEST_CASE("events: MOV SS makes no single-step trap of its own", "[cpu][events]") {
    TestVp t;
    t.enter_long_mode(0);
    t.write(kCode, {0x8e, 0xd0, 0xf1, 0x90});  // mov ss, ax; icebp; nop
    VpState& s = t.vp->state();
    s.rip = kCode;
    s.gpr[RAX] = TestVp::kKernelSs;
    s.gpr[RSP] = TestVp::kHandlerStack;
    s.rflags |= flag::TF;
    run(*t.vp, 16);
    CHECK(t.faulted() == kDebug);
    CHECK(t.frame().rip == kCode + 3);  // one #DB, after ICEBP
    CHECK(s.dr[6] == 0xffff0ff0);
}

TEST_CASE("events: an IRET to an outer level leaves the base of a segment that it makes null", "[cpu][events]") {
    TestVp t;
    t.enter_long_mode(0);
    t.map_user(kCode, 1);
    t.write(kCode, {0x48, 0xcf, 0xeb, 0xfe});  // iretq; jmp $
    VpState& s = t.vp->state();
    s.segment(Seg::GS).base = 0x400000;
    s.rip = kCode;
    s.cr4 &= ~cr4::SMEP;
    s.gpr[RSP] = TestVp::kHandlerStack - 40;
    const u64 frame[] = {kCode + 2, TestVp::kUserCs, flag::Always1, kCode + 0x800, TestVp::kUserSs};
    t.memory.write(Spa(s.gpr[RSP]), frame, sizeof frame);
    run(*t.vp, 1);
    CHECK(s.cpl == 3);
    CHECK(s.segment(Seg::GS).selector == 0);
    CHECK_FALSE(s.segment(Seg::GS).usable());
    CHECK(s.segment(Seg::GS).base == 0x400000);
}

TEST_CASE("msr: MISC_ENABLE hides execute-disable and the leaves above 2", "[cpu][msr]") {
    TestVp t("verdigris-v2");
    t.enter_long_mode(0);
    constexpr u32 kMiscEnable = 0x1a0, kEfer = 0xc0000080;
    u64 before = 0, value = 0;
    REQUIRE(read_msr(*t.vp, kMiscEnable, before));
    REQUIRE(write_msr(*t.vp, kMiscEnable, before | misc_enable::LimitCpuid | misc_enable::XdDisable));
    REQUIRE(read_msr(*t.vp, kMiscEnable, value));
    CHECK(value == (before | misc_enable::LimitCpuid | misc_enable::XdDisable));
    CHECK(cpuid(*t.vp, 0, 0).eax == 2);
    CHECK((cpuid(*t.vp, 0x80000001, 0).edx >> 20 & 1) == 0);
    CHECK_FALSE(write_msr(*t.vp, kEfer, efer::LME | efer::NXE));
    CHECK_FALSE(t.vp->paging_mode().nxe);

    REQUIRE(write_msr(*t.vp, kMiscEnable, 1));  // the read-only bits stay, without a fault
    REQUIRE(read_msr(*t.vp, kMiscEnable, value));
    CHECK(value == ((before & 0x1880) | 1));
    CHECK(write_msr(*t.vp, kEfer, efer::LME | efer::NXE));
    CHECK_FALSE(write_msr(*t.vp, kMiscEnable, before | u64{1} << 63));
}

TEST_CASE("msr: AMD's four legacy performance counters exist, Intel has none of them", "[cpu][msr]") {
    TestVp amd("verdigris-v2-amd"), intel("verdigris-v2");
    u64 value = 1;
    for (u32 msr = 0xc0010000; msr < 0xc0010008; ++msr) {
        CHECK(write_msr(*amd.vp, msr, 0));
        CHECK(read_msr(*amd.vp, msr, value));
        CHECK(value == 0);
        CHECK_FALSE(read_msr(*intel.vp, msr, value));
    }
    CHECK_FALSE(read_msr(*amd.vp, 0xc0010008, value));
}

TEST_CASE("events: a TF that SYSRET sets traps before the caller's first instruction", "[cpu][events]") {
    TestVp t("verdigris-v2-amd");
    t.enter_long_mode(0);
    t.map_user(kCode, 1);
    t.write(kCode, {0x48, 0x0f, 0x07, 0x90, 0x90});  // sysretq; nop; nop
    VpState& s = t.vp->state();
    s.star = u64{TestVp::kKernelCs} << 32 | u64{0x10} << 48;
    s.rip = kCode;
    s.gpr[RCX] = kCode + 3;
    s.gpr[R11] = flag::Always1 | flag::TF;
    run(*t.vp, 16);
    CHECK(t.faulted() == kDebug);
    CHECK(t.frame().rip == kCode + 3);
    CHECK((s.dr[6] & 1 << 14) != 0);
}

TEST_CASE("events: data breakpoints trap after the access", "[cpu][events]") {
    // SDM 3B "Debug Registers": a 4-byte write to any byte of the watched 4 bytes; reads do not count here.
    constexpr u64 kWatched = kCode + 0x1000;
    struct {
        u64 address;
        bool hit;
    } const cases[] = {{kWatched, true}, {kWatched + 3, true}, {kWatched - 3, true}, {kWatched + 4, false}, {kWatched - 4, false}};
    for (const auto& each : cases) {
        TestVp t;
        t.enter_long_mode(0);
        t.write(kCode, {0x8b, 0x03, 0x89, 0x03, 0x90, 0xf4});  // mov eax, [rbx]; mov [rbx], eax; nop; hlt
        VpState& s = t.vp->state();
        s.rip = kCode;
        s.gpr[RBX] = each.address;
        s.gpr[RSP] = TestVp::kHandlerStack;
        s.dr[1] = kWatched;
        s.dr[7] = 0x00d00408;  // DR1, global, write, 4 bytes
        run(*t.vp, 16);
        CHECK((t.faulted() == kDebug) == each.hit);
        if (!each.hit) continue;
        CHECK(t.frame().rip == kCode + 4);
        CHECK(s.dr[6] == 0xffff0ff2);
    }
}

TEST_CASE("events: MOV SS holds its data breakpoint back until ICEBP's trap", "[cpu][events]") {
    TestVp t;
    t.enter_long_mode(0);
    constexpr u64 kWatched = kCode + 0x1000;
    t.write(kCode, {0x8e, 0x13, 0xf1, 0x90});  // mov ss, [rbx]; icebp
    t.memory.write<u16>(Spa(kWatched), TestVp::kKernelSs);
    VpState& s = t.vp->state();
    s.rip = kCode;
    s.gpr[RBX] = kWatched;
    s.gpr[RSP] = TestVp::kHandlerStack;
    s.dr[0] = kWatched;
    s.dr[7] = 0x000f0402;  // DR0, global, read or write, 4 bytes
    run(*t.vp, 16);
    CHECK(t.faulted() == kDebug);
    CHECK(t.frame().rip == kCode + 3);
    CHECK(s.dr[6] == 0xffff0ff1);
}

TEST_CASE("msr: machine-check banks take what an OS writes", "[cpu][msr]") {
    TestVp t("verdigris-v2");
    constexpr u32 kCtl = 0x400, kStatus = 0x401, kAddr = 0x402;
    CHECK(write_msr(*t.vp, kCtl, ~u64{0}));
    CHECK_FALSE(write_msr(*t.vp, kCtl, 0xaa));
    CHECK(write_msr(*t.vp, kStatus, 0));
    CHECK_FALSE(write_msr(*t.vp, kStatus, 1));
    CHECK(write_msr(*t.vp, kAddr, ~u64{0}));
}

TEST_CASE("apic: a one-shot counter that ran out stays at zero when the mode becomes periodic", "[cpu][apic]") {
    // SDM 3A "APIC Timer": counting begins with a write to the initial-count register.
    constexpr u32 kSvr = 0xf0, kLvtTimer = 0x320, kInitial = 0x380, kCurrent = 0x390, kDivide = 0x3e0;
    constexpr u32 kPeriodic = 1 << 17, kVector = 0xee;
    TestVp t;
    Apic& apic = t.vp->apic();
    const auto pass = [&](VTime ns) {
        t.clock.set(t.clock.now() + ns);
        t.events.run_due(t.clock.now());
    };
    apic.mmio_write(kSvr, 0x1ff);
    apic.mmio_write(kDivide, 0xb);
    apic.mmio_write(kLvtTimer, kVector);
    apic.mmio_write(kInitial, 10'000);
    pass(4'000);
    apic.mmio_write(kLvtTimer, kPeriodic | kVector);
    CHECK(apic.mmio_read(kCurrent) == 6'000);
    pass(7'000);
    CHECK(apic.mmio_read(kCurrent) == 9'000);
    apic.mmio_write(kLvtTimer, kVector);
    CHECK(apic.mmio_read(kCurrent) == 9'000);
    pass(9'500);
    CHECK(apic.mmio_read(kCurrent) == 0);
    apic.mmio_write(kLvtTimer, kPeriodic | kVector);
    CHECK(apic.mmio_read(kCurrent) == 0);
    pass(50'000);
    CHECK(apic.mmio_read(kCurrent) == 0);
    apic.mmio_write(kInitial, 10'000);
    CHECK(apic.mmio_read(kCurrent) == 10'000);
}

TEST_CASE("events: an NMI waits for the instruction after STI", "[cpu][events]") {
    TestVp t;
    t.enter_long_mode(0);
    t.write(kCode, {0xfb, 0x90, 0x90, 0xf4});  // sti; nop; nop; hlt
    VpState& s = t.vp->state();
    s.rip = kCode;
    s.rflags &= ~flag::IF;
    s.gpr[RSP] = TestVp::kHandlerStack;
    run(*t.vp, 1);
    t.vp->request_nmi();
    run(*t.vp, 16);
    CHECK(t.faulted() == kNmi);
    CHECK(t.frame().rip == kCode + 2);
}

TEST_CASE("events: two NMIs that come between two slices are both taken", "[cpu][events]") {
    TestVp t;
    t.enter_long_mode(0);
    VpState& s = t.vp->state();
    s.gpr[RSP] = TestVp::kHandlerStack;
    for (int i = 0; i < 3; ++i) t.vp->request_nmi();
    CHECK(s.nmi_pending == 2);
    (void)t.vp->take_event();
    CHECK(s.nmi_blocked == 1);
    CHECK(s.nmi_pending == 1);  // latched until IRET
    t.vp->request_nmi();
    CHECK(s.nmi_pending == 1);
}

TEST_CASE("system: instructions outside CPL 0 that are #UD, not #GP", "[cpu][system]") {
    // SDM 2 "CLAC", "STAC", "MONITOR", "MWAIT": #UD if the current privilege level is not 0.
    struct Row {
        std::vector<u8> code;
        unsigned cpl;
        int vector;
    };
    const Row rows[] = {{{0x0f, 0x01, 0xca}, 3, kInvalidOpcode}, {{0x0f, 0x01, 0xcb}, 3, kInvalidOpcode},
                        {{0x0f, 0x01, 0xc8}, 3, kInvalidOpcode}, {{0x0f, 0x01, 0xc9}, 3, kInvalidOpcode},
                        {{0x0f, 0x01, 0xca}, 0, -1},             {{0x0f, 0x01, 0xcb}, 0, -1},
                        {{0x0f, 0x01, 0xd1}, 3, kGeneralProtection},  // XSETBV
                        {{0x0f, 0x00, 0xd0}, 3, kGeneralProtection},  // LLDT
                        {{0x0f, 0x00, 0xd8}, 3, kGeneralProtection}};  // LTR
    for (const Row& row : rows) {
        TestVp t;
        t.enter_long_mode(row.cpl);
        if (row.cpl == 3) t.map_user(kCode, 1);
        t.write(kCode, row.code);
        t.vp->state().rip = kCode;
        t.vp->state().gpr[RCX] = 0;
        run(*t.vp, 2);
        INFO("0f " << unsigned{row.code[1]} << " " << unsigned{row.code[2]} << " at CPL " << row.cpl);
        CHECK(t.faulted() == row.vector);
    }
}

TEST_CASE("system: XSETBV without CR4.OSXSAVE is #UD at any privilege", "[cpu][system]") {
    for (const unsigned cpl : {0u, 3u}) {
        TestVp t;
        t.enter_long_mode(cpl);
        if (cpl == 3) t.map_user(kCode, 1);
        t.write(kCode, {0x0f, 0x01, 0xd1});
        t.vp->state().cr4 &= ~cr4::OSXSAVE;
        t.vp->state().rip = kCode;
        t.vp->state().gpr[RSP] = TestVp::kHandlerStack;
        run(*t.vp, 2);
        CHECK(t.faulted() == kInvalidOpcode);
    }
}
