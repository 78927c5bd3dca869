// The step engine: budgets, repetition, faults in the middle, fetching, traps; and the states of the FPU.
#include <catch2/catch.hpp>

#include <cstring>

#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::TestVp;

namespace {

constexpr u64 kUser = 0x10000000;  // opened page by page where a test needs it

struct Fixture {
    Fixture() {
        m.enter_long_mode(3);
        m.map_user(kUser, 8);
        s().rip = kUser;
        s().gpr[RSP] = kUser + 0x2000;
    }
    VpState& s() { return m.vp->state(); }
    void code(const std::vector<u8>& bytes, u64 at = kUser) { m.write(at, bytes); }
    Stop run(u64 budget) {
        m.vp->begin_slice(m.clock.now(), m.clock.now() + budget);
        const Stop stop = engine.run(*m.vp);
        m.clock.set(m.vp->now());
        return stop;
    }
    TestVp m;
    StepEngine engine;
};

}  // namespace

TEST_CASE("step engine: a repeated instruction counts each iteration and stops in the middle", "[cpu][interp]") {
    Fixture f;
    f.code({0xf3, 0xa4, 0x90});  // rep movsb; nop
    f.s().gpr[RSI] = kUser + 0x3000;
    f.s().gpr[RDI] = kUser + 0x4ff0;
    f.s().gpr[RCX] = 100;
    for (unsigned n = 0; n < 100; ++n) f.m.memory.write<u8>(Spa(kUser + 0x3000 + n), static_cast<u8>(n + 1));
    CHECK(f.run(10) == Stop::Budget);
    CHECK(f.s().budget == 0);
    CHECK(f.s().rip == kUser);
    CHECK(f.s().gpr[RCX] == 90);
    CHECK(f.s().gpr[RDI] == kUser + 0x4ffa);
    CHECK(f.run(90) == Stop::Budget);
    CHECK(f.s().rip == kUser + 2);
    CHECK(f.s().gpr[RCX] == 0);
    CHECK(f.m.memory.read<u8>(Spa(kUser + 0x5053)) == 100);
    CHECK(f.run(1) == Stop::Budget);
    CHECK(f.s().rip == kUser + 3);
}

TEST_CASE("step engine: a fault in iteration k leaves the state of k-1 iterations", "[cpu][interp]") {
    Fixture f;
    f.code({0xf3, 0x48, 0xab});  // rep stosq
    f.s().gpr[RAX] = 0x1122334455667788;
    f.s().gpr[RDI] = kUser + 0x8000 - 24;
    f.s().gpr[RCX] = 10;
    CHECK(f.run(4) == Stop::Halt);  // three iterations and the handler's HLT
    CHECK(f.m.faulted() == kPageFault);
    CHECK(f.s().cr2 == kUser + 0x8000);
    CHECK(f.s().gpr[RCX] == 7);
    CHECK(f.m.frame().rip == kUser);
    CHECK(f.m.memory.read<u64>(Spa(kUser + 0x7ff8)) == 0x1122334455667788);
    CHECK(f.s().budget == 0);
}

TEST_CASE("step engine: overlapping REP MOVSB propagates as byte moves do", "[cpu][interp]") {
    Fixture f;
    f.code({0xf3, 0xa4});
    f.m.write(kUser + 0x3000, {1, 2, 3, 0, 0, 0, 0, 0, 0});
    f.s().gpr[RSI] = kUser + 0x3000;
    f.s().gpr[RDI] = kUser + 0x3003;
    f.s().gpr[RCX] = 6;
    f.run(6);
    std::vector<u8> bytes(9);
    f.m.memory.read(Spa(kUser + 0x3000), bytes.data(), bytes.size());
    CHECK(bytes == std::vector<u8>{1, 2, 3, 1, 2, 3, 1, 2, 3});
}

TEST_CASE("step engine: an instruction that ends with its page does not touch the next", "[cpu][interp]") {
    Fixture f;
    const u64 at = kUser + 0x8000 - 3;
    f.code({0x48, 0x89, 0xc3}, at);  // mov rbx, rax
    f.s().rip = at;
    f.s().gpr[RAX] = 42;
    CHECK(f.run(1) == Stop::Budget);
    CHECK(f.s().gpr[RBX] == 42);
    CHECK(f.run(1) == Stop::Halt);
    CHECK(f.m.faulted() == kPageFault);
    CHECK(f.s().cr2 == kUser + 0x8000);
}

TEST_CASE("step engine: an instruction across a page that is not there faults at the page", "[cpu][interp]") {
    Fixture f;
    const u64 at = kUser + 0x8000 - 2;
    f.code({0x48, 0x89}, at);
    f.s().rip = at;
    CHECK(f.run(1) == Stop::Halt);
    CHECK(f.m.faulted() == kPageFault);
    CHECK(f.s().cr2 == kUser + 0x8000);
    CHECK(f.m.frame().rip == at);
}

TEST_CASE("step engine: code that changes the next instruction sees the change at once", "[cpu][interp]") {
    Fixture f;
    f.code({0xc6, 0x05, 0x01, 0x00, 0x00, 0x00, 0x43,  // mov byte [rip+1], 0x43: REX.X becomes REX.XB
            0x90, 0x40, 0x50});                        // nop; push rax, then push r8
    f.s().gpr[RAX] = 1;
    f.s().gpr[R8] = 2;
    for (int round = 0; round < 2; ++round) {
        f.s().rip = kUser;
        f.s().gpr[RSP] = kUser + 0x2000;
        CHECK(f.run(3) == Stop::Budget);
        CHECK(f.m.memory.read<u64>(Spa(kUser + 0x1ff8)) == 2);
    }
}

TEST_CASE("step engine: TF traps after one instruction", "[cpu][interp]") {
    Fixture f;
    f.code({0x90, 0x90});
    f.s().rflags |= flag::TF;
    CHECK(f.run(5) == Stop::Halt);
    CHECK(f.m.faulted() == kDebug);
    CHECK(f.m.frame().rip == kUser + 1);
    CHECK((f.s().dr[6] & (1 << 14)) != 0);
}

TEST_CASE("step engine: a handler that faults for ever uses up the budget", "[cpu][interp]") {
    Fixture f;
    f.code({0x0f, 0x0b});
    f.m.memory.write<u16>(Spa(TestVp::kHandlers + 6 * 16), 0x0b0f);  // the #UD handler is UD2
    // Each delivery pushes a frame; an IST-like stack that starts anew each time never overflows.
    f.m.memory.write<u8>(Spa(TestVp::kIdt + 6 * 16 + 4), 1);
    f.m.memory.write<u64>(Spa(TestVp::kTss + 0x24), TestVp::kHandlerStack);
    CHECK(f.run(1000) == Stop::Budget);
}

TEST_CASE("step engine: a write that is refused leaves a locked exchange undone", "[cpu][interp]") {
    Fixture f;
    f.m.map_user(kUser + 0x6000, 1, false);
    f.code({0xf0, 0x48, 0x0f, 0xb1, 0x0f});  // lock cmpxchg [rdi], rcx
    f.s().gpr[RDI] = kUser + 0x6000;
    f.s().gpr[RAX] = 1;
    f.m.memory.write<u64>(Spa(kUser + 0x6000), 7);
    CHECK(f.run(1) == Stop::Halt);
    CHECK(f.m.faulted() == kPageFault);
    CHECK((f.m.frame().error & 7) == 7);  // present, write, user
    CHECK(f.s().gpr[RAX] == 1);
}

TEST_CASE("interpreter: FPU and SSE availability follow CR0 and CR4", "[cpu][interp]") {
    const std::vector<u8> fld1{0xd9, 0xe8}, addps{0x0f, 0x58, 0xc1}, vaddps{0xc5, 0xf0, 0x58, 0xc1}, paddb{0x0f, 0xfc, 0xc1};
    struct Row {
        std::vector<u8> code;
        u64 cr0_set, cr4_clear;
        int vector;
    };
    const Row rows[] = {{fld1, cr0::TS, 0, kDeviceNotAvailable}, {fld1, cr0::EM, 0, kDeviceNotAvailable},
                        {addps, cr0::TS, 0, kDeviceNotAvailable}, {addps, cr0::EM, 0, kInvalidOpcode},
                        {addps, 0, cr4::OSFXSR, kInvalidOpcode}, {vaddps, 0, cr4::OSXSAVE, kInvalidOpcode},
                        {vaddps, cr0::TS, 0, kDeviceNotAvailable}, {paddb, cr0::EM, 0, kInvalidOpcode},
                        {{0x9b}, cr0::TS | cr0::MP, 0, kDeviceNotAvailable}};
    for (const Row& row : rows) {
        Fixture f;
        f.code(row.code);
        f.s().cr0 |= row.cr0_set;
        f.s().cr4 &= ~row.cr4_clear;
        CHECK(f.run(1) == Stop::Halt);
        CHECK(f.m.faulted() == row.vector);
    }
}

TEST_CASE("interpreter: an unmasked x87 exception waits for the next waiting instruction", "[cpu][interp]") {
    Fixture f;
    f.code({0xd9, 0xee, 0xd9, 0xe8, 0xd8, 0xf1, 0xdf, 0xe0, 0xd9, 0xe8});  // fldz; fld1; fdiv st0,st1; fnstsw ax; fld1
    f.s().x87.fcw = 0x37b;                                               // divide by zero unmasked
    CHECK(f.run(4) == Stop::Budget);
    CHECK((f.s().gpr[RAX] & 0x8084) == 0x8084);
    CHECK(f.s().x87.fip == kUser + 4);
    CHECK(f.run(1) == Stop::Halt);
    CHECK(f.m.faulted() == kX87Error);
}

TEST_CASE("interpreter: XSAVE and XRSTOR keep what is in use and initialise the rest", "[cpu][interp]") {
    Fixture f;
    const u64 area = kUser + 0x3000;
    f.s().gpr[RDI] = area;
    f.s().gpr[RAX] = 7;
    f.s().gpr[RDX] = 0;
    std::memset(f.s().ymm[3], 0x5a, 32);
    SECTION("standard format") {
        f.code({0x48, 0x0f, 0xae, 0x27, 0x48, 0x0f, 0xae, 0x2f});  // xsave64 [rdi]; xrstor64 [rdi]
        CHECK(f.run(1) == Stop::Budget);
        CHECK(f.m.memory.read<u64>(Spa(area + 512)) == 6);
        CHECK(f.m.memory.read<u64>(Spa(area + 520)) == 0);
        CHECK(f.m.memory.read<u8>(Spa(area + 160 + 48)) == 0x5a);
        CHECK(f.m.memory.read<u8>(Spa(area + 576 + 48)) == 0x5a);
    }
    SECTION("compacted format") {
        f.code({0x48, 0x0f, 0xc7, 0x27, 0x48, 0x0f, 0xae, 0x2f});  // xsavec64 [rdi]; xrstor64 [rdi]
        CHECK(f.run(1) == Stop::Budget);
        CHECK(f.m.memory.read<u64>(Spa(area + 512)) == 6);
        CHECK(f.m.memory.read<u64>(Spa(area + 520)) == (u64{1} << 63 | 7));
    }
    std::memset(f.s().ymm, 0x11, sizeof f.s().ymm);
    f.s().x87.fsw = 0x3800;
    f.s().x87.ftw = 0xff;
    CHECK(f.run(1) == Stop::Budget);
    CHECK(f.s().ymm[3][0] == 0x5a);
    CHECK(f.s().ymm[3][31] == 0x5a);
    CHECK(f.s().ymm[4][0] == 0);
    CHECK(f.s().x87.fsw == 0);
    CHECK(f.s().x87.ftw == 0);
}

TEST_CASE("interpreter: XRSTOR refuses a bad header and a misaligned area", "[cpu][interp]") {
    const auto vector_with = [](u64 offset, u64 value, u64 address) {
        Fixture f;
        f.code({0x48, 0x0f, 0xae, 0x2f});
        f.s().gpr[RDI] = address;
        f.s().gpr[RAX] = 7;
        f.m.memory.write<u64>(Spa(kUser + 0x3000 + offset), value);
        f.run(1);
        return f.m.faulted();
    };
    CHECK(vector_with(512, 7, kUser + 0x3000) == -1);
    CHECK(vector_with(512, 8, kUser + 0x3000) == kGeneralProtection);          // not in XCR0
    CHECK(vector_with(520, 1, kUser + 0x3000) == kGeneralProtection);          // XCOMP_BV in standard format
    CHECK(vector_with(528, 1, kUser + 0x3000) == kGeneralProtection);          // reserved
    CHECK(vector_with(24, 0x10000, kUser + 0x3000) == kGeneralProtection);     // MXCSR
    CHECK(vector_with(512, 0, kUser + 0x3008) == kGeneralProtection);          // alignment
    CHECK(vector_with(520, u64{1} << 63 | 2, kUser + 0x3000) == -1);
}

TEST_CASE("interpreter: FXSAVE64 and FXRSTOR64 are inverse", "[cpu][interp]") {
    Fixture f;
    f.code({0x48, 0x0f, 0xae, 0x07, 0x48, 0x0f, 0xae, 0x0f});
    f.s().gpr[RDI] = kUser + 0x3000;
    f.s().mxcsr = 0x1fa0;
    f.s().x87.fsw = 0x3800;
    f.s().x87.ftw = 0x80;
    std::memset(f.s().x87.st[0], 0x77, 10);
    std::memset(f.s().ymm[15], 0x66, 16);
    const VpState before = f.s();
    CHECK(f.run(1) == Stop::Budget);
    CHECK(f.m.memory.read<u32>(Spa(kUser + 0x3000 + 28)) == 0xffff);
    std::memset(f.s().ymm, 0, sizeof f.s().ymm);
    f.s().x87 = {};
    f.s().mxcsr = 0x1f80;
    CHECK(f.run(1) == Stop::Budget);
    CHECK(std::memcmp(&before.x87, &f.s().x87, 160) == 0);
    CHECK(std::memcmp(before.ymm, f.s().ymm, sizeof before.ymm) == 0);
    CHECK(f.s().mxcsr == before.mxcsr);
}

TEST_CASE("interpreter: an unmasked SIMD exception is #XM, or #UD without OSXMMEXCPT", "[cpu][interp]") {
    for (const bool enabled : {true, false}) {
        Fixture f;
        f.code({0x0f, 0x5e, 0xc1});  // divps xmm0, xmm1
        if (!enabled) f.s().cr4 &= ~cr4::OSXMMEXCPT;
        f.s().mxcsr = 0x1f80 & ~(1u << 9);
        f.s().ymm[0][3] = 0x3f;
        CHECK(f.run(1) == Stop::Halt);
        CHECK(f.m.faulted() == (enabled ? kSimdError : kInvalidOpcode));
        CHECK(f.s().ymm[0][3] == 0x3f);
    }
}

TEST_CASE("interpreter: VCVTPS2PH reports a denormal result when underflow is unmasked, exact or not", "[cpu][interp]") {
    TestVp m("verdigris-v3");
    m.enter_long_mode(0);
    VpState& s = m.vp->state();
    s.cr4 |= cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
    s.xcr0 = 7;
    m.write(0x1000, {0xc4, 0xe3, 0x79, 0x1d, 0xc8, 0x04});  // vcvtps2ph xmm0, xmm1, 4
    Insn insn;
    s.rip = 0x1000;
    REQUIRE(fetch_decode(*m.vp, insn));
    constexpr u32 kUnderflowMask = 1 << 11, kFlushToZero = 1 << 15, kUnderflow = 1 << 4, kDefault = 0x1f80;
    const auto convert = [&](u32 single, u32 mxcsr) {
        std::memset(s.ymm, 0, sizeof s.ymm);
        std::memcpy(s.ymm[1], &single, sizeof single);
        s.mxcsr = mxcsr;
        return execute(m.vp->interp(), insn);
    };
    constexpr u32 kTwoToMinus24 = 0x33800000, kTwoToMinus14 = 0x38800000;  // the least denormal half, the least normal one
    for (const u32 flush : {u32{0}, kFlushToZero}) {
        CHECK(convert(kTwoToMinus24, kDefault | flush) == Exec::Next);
        CHECK(s.mxcsr == (kDefault | flush));
        CHECK(s.ymm[0][0] == 1);
        CHECK(convert(kTwoToMinus24, (kDefault | flush) & ~kUnderflowMask) == Exec::Fault);
        CHECK(m.vp->fault().vector == kSimdError);
        CHECK((s.mxcsr & 0x3f) == kUnderflow);
        CHECK(s.ymm[0][0] == 0);
        CHECK(convert(kTwoToMinus14, (kDefault | flush) & ~kUnderflowMask) == Exec::Next);
    }
}

TEST_CASE("interpreter: without their features TZCNT and LZCNT are BSF and BSR, others are #UD", "[cpu][interp]") {
    TestVp m("verdigris-v2-amd");
    m.enter_long_mode(0);
    Interp& in = m.vp->interp();
    const auto run = [&](const std::vector<u8>& bytes) {
        m.vp->state().rip = 0x1000;
        m.write(0x1000, bytes);
        Insn insn;
        REQUIRE(fetch_decode(*m.vp, insn));
        return execute(in, insn);
    };
    m.vp->state().gpr[RCX] = 0x50;
    CHECK(run({0xf3, 0x48, 0x0f, 0xbc, 0xc1}) == Exec::Next);
    CHECK(m.vp->state().gpr[RAX] == 4);
    CHECK(run({0xf3, 0x48, 0x0f, 0xbd, 0xc1}) == Exec::Next);
    CHECK(m.vp->state().gpr[RAX] == 6);  // the index, not the count of zeros
    CHECK(run({0xc4, 0xe2, 0xf0, 0xf2, 0xc1}) == Exec::Fault);  // ANDN
    CHECK(m.vp->fault().vector == kInvalidOpcode);
}
