// Details of single system instructions.
#include <catch2/catch.hpp>

#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::TestVp;

namespace {

constexpr u64 kCode = TestVp::kFree;

struct CountedDevice final : mmu::MmioHandler {
    u32 accesses = 0;
    u64 mmio_read(u64, unsigned) override { return ++accesses; }
    void mmio_write(u64, unsigned, u64) override { ++accesses; }
};

void run(TestVp& t, u64 instructions) {
    StepEngine engine;
    t.vp->begin_slice(0, instructions);
    (void)engine.run(*t.vp);
}

}  // namespace

TEST_CASE("system: CLFLUSH checks its address and does not read a device", "[cpu][system]") {
    TestVp t;
    CountedDevice device;
    REQUIRE(t.memory.add_mmio("device", Spa(0x80000000), 0x1000, device));
    t.enter_long_mode(0);
    t.write(kCode, {0x0f, 0xae, 0x3b, 0x66, 0x0f, 0xae, 0x3b, 0x66, 0x0f, 0xae, 0x33, 0x0f, 0xae, 0x3e});
    VpState& s = t.vp->state();
    s.rip = kCode;
    s.gpr[RBX] = 0x80000010;
    s.gpr[RSI] = u64{1} << 40;
    s.gpr[RSP] = TestVp::kHandlerStack;
    run(t, 3);  // clflush, clflushopt, clwb [rbx]
    CHECK(s.rip == kCode + 11);
    CHECK(device.accesses == 0);
    run(t, 4);
    CHECK(t.faulted() == kPageFault);
    CHECK(t.frame().rip == kCode + 11);
}

TEST_CASE("system: INVPCID's descriptor on the stack faults as stack", "[cpu][system]") {
    TestVp t;
    t.enter_long_mode(0);
    t.write(kCode, {0x66, 0x0f, 0x38, 0x82, 0x45, 0x00});  // invpcid rax, [rbp]
    VpState& s = t.vp->state();
    s.rip = kCode;
    s.gpr[RBP] = u64{1} << 63;
    s.gpr[RSP] = TestVp::kHandlerStack;
    run(t, 4);
    CHECK(t.faulted() == kStackFault);
}

TEST_CASE("system: XGETBV 1 and XSAVEC agree on what is in use", "[cpu][system]") {
    // Measured on an AMD processor: MXCSR counts with SSE.
    TestVp t("verdigris-v3-amd");
    t.enter_long_mode(0);
    t.write(kCode, {0x0f, 0x01, 0xd0, 0xf4});  // xgetbv; hlt
    VpState& s = t.vp->state();
    s.rip = kCode;
    s.gpr[RCX] = 1;
    s.mxcsr = GENERATE(0x1f80u, 0x1f81u);
    run(t, 4);
    CHECK(s.gpr[RAX] == (s.mxcsr == 0x1f80 ? 0 : 2));
}
