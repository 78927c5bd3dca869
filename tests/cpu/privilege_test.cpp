// Which exception comes first when an instruction may not be executed here.
#include <catch2/catch.hpp>

#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::TestVp;

namespace {

constexpr u64 kCode = TestVp::kFree;

/// The exception of one instruction at CPL 3 in 64-bit mode, with these CR4 and EFER bits cleared.
int at_cpl3(const char* model, const std::vector<u8>& code, u64 cr4_off = 0, u64 efer_off = 0) {
    TestVp t(model);
    t.enter_long_mode(3);
    t.map_user(kCode, 1);
    t.write(kCode, code);
    VpState& s = t.vp->state();
    s.cr4 &= ~cr4_off;
    s.efer &= ~efer_off;
    s.rip = kCode;
    s.gpr[RSP] = kCode + 0x800;
    StepEngine engine;
    t.vp->begin_slice(0, 2);
    (void)engine.run(*t.vp);
    return t.faulted();
}

/// The exception of one instruction in virtual-8086 mode.
int in_v8086(const std::vector<u8>& code) {
    TestVp t("verdigris-v3");
    t.enter_protected();
    for (u64 vector = 0; vector < 32; ++vector) {
        const u64 handler = TestVp::kHandlers + vector * 16;
        t.memory.write<u64>(Spa(TestVp::kIdt + vector * 8), (handler & 0xffff) | u64{TestVp::kCode32} << 16 |
                                                                u64{0x8e00} << 32 | (handler >> 16) << 48);
    }
    t.memory.write<u32>(Spa(TestVp::kTss + 4), TestVp::kHandlerStack);
    t.memory.write<u16>(Spa(TestVp::kTss + 8), TestVp::kData32);
    t.write(0x1000, code);
    VpState& s = t.vp->state();
    s.rflags |= flag::VM;
    s.cpl = 3;
    for (unsigned n = 0; n < 6; ++n) s.seg[n] = {0, 0xffff, 0, 0xf3};
    s.rip = 0x1000;
    s.gpr[RSP] = 0x2000;
    t.vp->update_context();
    StepEngine engine;
    t.vp->begin_slice(0, 2);
    (void)engine.run(*t.vp);
    return t.faulted();
}

}  // namespace

TEST_CASE("privilege: instructions that do not exist outside CPL 0 give #UD there", "[cpu][privilege]") {
    // SDM 2A "CLAC", "STAC", "MONITOR", "MWAIT"; the same on AMD.
    const char* model = GENERATE("verdigris-v3,+monitor", "verdigris-v3-amd,+monitor");
    CHECK(at_cpl3(model, {0x0f, 0x01, 0xca}) == kInvalidOpcode);
    CHECK(at_cpl3(model, {0x0f, 0x01, 0xcb}) == kInvalidOpcode);
    CHECK(at_cpl3(model, {0x0f, 0x01, 0xc8}) == kInvalidOpcode);
    CHECK(at_cpl3(model, {0x0f, 0x01, 0xc9}) == kInvalidOpcode);
}

TEST_CASE("privilege: what is not switched on is #UD at any CPL", "[cpu][privilege]") {
    const std::vector<u8> xsetbv{0x0f, 0x01, 0xd1}, sysret{0x48, 0x0f, 0x07};
    CHECK(at_cpl3("verdigris-v3", xsetbv) == kGeneralProtection);
    CHECK(at_cpl3("verdigris-v3", xsetbv, cr4::OSXSAVE) == kInvalidOpcode);
    CHECK(at_cpl3("verdigris-v3", sysret) == kGeneralProtection);
    CHECK(at_cpl3("verdigris-v3", sysret, 0, efer::SCE) == kInvalidOpcode);
    // Measured: AMD checks CPL before it refuses SYSEXIT in long mode.
    CHECK(at_cpl3("verdigris-v3-amd", {0x0f, 0x35}) == kGeneralProtection);
}

TEST_CASE("privilege: LLDT and LTR do not exist in virtual-8086 mode", "[cpu][privilege]") {
    CHECK(in_v8086({0x0f, 0x00, 0xd0}) == kInvalidOpcode);
    CHECK(in_v8086({0x0f, 0x00, 0xd8}) == kInvalidOpcode);
    CHECK(in_v8086({0x0f, 0x01, 0x16, 0x00, 0x20}) == kGeneralProtection);  // lgdt [0x2000]
    CHECK(in_v8086({0xf4}) == kGeneralProtection);
}
