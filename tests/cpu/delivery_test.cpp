// How events are delivered: what is pushed, what is left behind, and that time goes on.
#include <catch2/catch.hpp>

#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::TestVp;

namespace {

constexpr u64 kCode = TestVp::kFree;

Stop run(Vp& vp, u64 instructions) {
    StepEngine engine;
    vp.begin_slice(vp.now(), vp.now() + instructions);
    return engine.run(vp);
}

struct LongMode : TestVp {
    explicit LongMode(const std::vector<u8>& code) : TestVp("verdigris-v3-amd") {
        enter_long_mode(0);
        write(kCode, code);
        s().rip = kCode;
        s().gpr[RSP] = kHandlerStack;
    }
    VpState& s() { return vp->state(); }
};

}  // namespace

TEST_CASE("delivery: a breakpoint on the #DB handler itself does not stop time", "[cpu][events]") {
    // The handler's first instruction meets the breakpoint again, with RF clear and a fresh interrupt stack: a processor
    // hangs here, but its clock and its watchdog go on.
    LongMode t({0x90, 0x90});
    constexpr u64 kIst1 = TestVp::kIdt + kDebug * 16 + 4;
    t.memory.write<u8>(Spa(kIst1), 1);
    t.memory.write<u64>(Spa(TestVp::kTss + 0x24), TestVp::kHandlerStack);
    t.s().dr[0] = kCode;
    t.s().dr[1] = TestVp::kHandlers + kDebug * 16;
    t.s().dr[7] = 0x402 | 2 << 2;
    CHECK(run(*t.vp, 100) == Stop::Budget);
    CHECK(t.s().rip == TestVp::kHandlers + kDebug * 16);
}

TEST_CASE("delivery: general detect reports the data breakpoint that MOV SS held back", "[cpu][events]") {
    constexpr u64 kWatched = kCode + 0x1000;
    LongMode t({0x8e, 0x13, 0x0f, 0x23, 0xd8});  // mov ss, [rbx]; mov dr3, rax
    t.memory.write<u16>(Spa(kWatched), TestVp::kKernelSs);
    t.s().gpr[RBX] = kWatched;
    t.s().dr[0] = kWatched;
    t.s().dr[7] = 0x000f2402;  // DR0, global, read or write, 4 bytes; GD
    run(*t.vp, 16);
    CHECK(t.faulted() == kDebug);
    CHECK(t.frame().rip == kCode + 2);
    CHECK(t.s().dr[6] == 0xffff2ff1);
    CHECK((t.s().dr[7] & 1 << 13) == 0);
}

TEST_CASE("delivery: a software interrupt pushes RF clear, a fault pushes it set", "[cpu][events]") {
    // SDM 3B "Instruction-Breakpoint Exception Condition": "RF is pushed as 0, since it was cleared at the start of the
    // software interrupt".
    const auto [code, vector, set] = GENERATE(table<std::vector<u8>, int, bool>(
        {{{0xcd, 0x40}, 0x40, false}, {{0xcc}, kBreakpoint, false}, {{0xf1}, kDebug, false}, {{0x0f, 0x0b}, kInvalidOpcode, true}}));
    LongMode t(code);
    t.s().rflags |= flag::RF;
    run(*t.vp, 16);
    CHECK(t.faulted() == vector);
    CHECK(((t.frame().rflags & flag::RF) != 0) == set);
}

TEST_CASE("delivery: an IRET that is resumed with RF set keeps the RF that it loads", "[cpu][events]") {
    // The IRET itself was restarted behind a fault; what it returns to must not meet its breakpoint again.
    LongMode t({0x48, 0xcf, 0x90, 0xf4});  // iretq; nop; hlt
    t.s().rflags |= flag::RF;
    t.s().dr[0] = kCode + 2;
    t.s().dr[7] = 0x402;
    t.s().gpr[RSP] -= 40;
    const u64 frame[] = {kCode + 2, TestVp::kKernelCs, flag::Always1 | flag::RF, TestVp::kHandlerStack, TestVp::kKernelSs};
    t.memory.write(Spa(t.s().gpr[RSP]), frame, sizeof frame);
    CHECK(run(*t.vp, 16) == Stop::Halt);
    CHECK(t.s().rip == kCode + 4);
    CHECK((t.s().rflags & flag::RF) == 0);
}

TEST_CASE("delivery: IRET unblocks NMIs even if it faults", "[cpu][events]") {
    // SDM 3A "Handling Multiple NMIs": the NMI is unmasked before the handler of IRET's exception is invoked.
    LongMode t({0x48, 0xcf});
    t.s().nmi_blocked = 1;
    t.s().gpr[RSP] -= 40;
    const u64 frame[] = {u64{1} << 63, TestVp::kKernelCs, flag::Always1, TestVp::kHandlerStack, TestVp::kKernelSs};
    t.memory.write(Spa(t.s().gpr[RSP]), frame, sizeof frame);
    run(*t.vp, 16);
    CHECK(t.faulted() == kGeneralProtection);
    CHECK(t.s().nmi_blocked == 0);
}

TEST_CASE("delivery: an interrupt in real mode leaves NT alone", "[cpu][events]") {
    // SDM 2A "INT n", real-address mode: IF, TF and AC are cleared.
    TestVp t;
    t.enter_real();
    t.memory.write<u32>(Spa(0x40 * 4), 0x2000);
    t.write(0x1000, {0xcd, 0x40});
    VpState& s = t.vp->state();
    s.rip = 0x1000;
    s.gpr[RSP] = 0x8000;
    s.rflags = flag::Always1 | flag::NT | flag::IF | flag::AC;
    run(*t.vp, 1);
    CHECK(s.rip == 0x2000);
    CHECK(s.rflags == (flag::Always1 | flag::NT));
}

TEST_CASE("delivery: a bad handler address is found before anything is pushed", "[cpu][events]") {
    // SDM 2A "INT n": the target is checked before the pushes, so #GP(0) comes although the stack is not mapped.
    LongMode t({0xcd, 0x40});
    t.memory.write<u32>(Spa(TestVp::kIdt + 0x40 * 16 + 8), 0x00800000);
    t.memory.write<u8>(Spa(TestVp::kIdt + kGeneralProtection * 16 + 4), 1);
    t.memory.write<u64>(Spa(TestVp::kTss + 0x24), TestVp::kHandlerStack);
    t.s().gpr[RSP] = u64{1} << 40;  // canonical, not present
    run(*t.vp, 16);
    CHECK(t.faulted() == kGeneralProtection);
    CHECK(t.frame().error == 0);
    CHECK(t.frame().rip == kCode);
}

TEST_CASE("delivery: what interrupts a string instruction pushes RF set", "[cpu][events]") {
    // SDM 3B "Instruction-Breakpoint Exception Condition": after any iteration but the last.
    const u64 instructions = GENERATE(3u, 8u);
    LongMode t({0xf3, 0xaa, 0x90, 0x90, 0xf4});  // rep stosb; nop; nop; hlt
    t.s().gpr[RDI] = kCode + 0x1000;
    t.s().gpr[RCX] = 8;
    run(*t.vp, instructions);
    t.vp->request_nmi();
    run(*t.vp, 2);
    CHECK(t.faulted() == kNmi);
    CHECK(t.s().gpr[RCX] == 8 - instructions);
    CHECK(t.frame().rip == (instructions == 8 ? kCode + 2 : kCode));
    CHECK(((t.frame().rflags & flag::RF) != 0) == (instructions != 8));
}

TEST_CASE("delivery: a breakpoint on a string instruction traps once", "[cpu][events]") {
    LongMode t({0xf3, 0xaa, 0x90, 0xf4});
    t.write(TestVp::kHandlers + kDebug * 16, {0x81, 0x4c, 0x24, 0x10, 0, 0, 1, 0, 0xff, 0xc3, 0x48, 0xcf});  // or [rsp+16],RF; inc ebx; iretq
    t.s().gpr[RDI] = kCode + 0x1000;
    t.s().gpr[RCX] = 8;
    t.s().dr[0] = kCode;
    t.s().dr[7] = 0x402;
    for (int n = 0; n < 16; ++n) run(*t.vp, 1);
    CHECK(t.s().rip == kCode + 4);
    CHECK(t.s().gpr[RBX] == 1);
    CHECK((t.s().rflags & flag::RF) == 0);
}
