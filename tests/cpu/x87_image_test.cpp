// Layouts of the x87 state in memory by mode and operand size. SDM 1 "Protected Mode x87 FPU State Image in Memory",
// "Real Mode x87 FPU State Image in Memory", "FXSAVE Area"; 64-bit mode is compared with the host in tests/diff.
#include <catch2/catch.hpp>

#include <cstring>

#include "cpu/ops/fpu.h"
#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::TestVp;

namespace {

constexpr u64 kImage = 0x4000, kCodeAt = 0x1000;
constexpr u32 kEnv16 = 14, kEnv32 = 28, kStack = 80;

enum class Mode : u8 { Real, Virtual8086, Protected16, Protected32 };

void enter(TestVp& t, Mode mode) {
    VpState& s = t.vp->state();
    if (mode == Mode::Real) {
        t.enter_real();
    } else {
        t.enter_protected();
        if (mode == Mode::Protected16) t.set_segment(Seg::CS, TestVp::kCode16, 0, 0x9b, 0xffff);
        if (mode == Mode::Virtual8086) {
            for (unsigned n = 0; n < 6; ++n) s.seg[n] = {0, 0xffff, 0, 0xf3};
            s.rflags |= flag::VM;
            s.cpl = 3;
        }
    }
    t.vp->update_context();
}

/// A division by zero that waits, with pointers, TOP = 3 and registers 0, 2, 5 and 7 in use: valid, zero, infinity,
/// denormal.
void set_state(VpState& s) {
    X87State& x = s.x87;
    x = X87State{};
    x.fcw = 0x037b;
    x.fsw = 0x9884;
    x.ftw = 0xa5;
    x.fop = 0x5a5;
    x.fip = 0x89abcdef;
    x.fdp = 0x76543210;
    const auto put = [&](unsigned st, u16 exponent, u64 significand) {
        std::memcpy(x.st[st], &significand, 8);
        std::memcpy(x.st[st] + 8, &exponent, 2);
    };
    put(5, 0x3fff, u64{1} << 63);
    put(7, 0, 0);
    put(2, 0x7fff, u64{1} << 63);
    put(4, 0, 1);
}

struct Layout {
    Mode mode;
    bool wide;
    std::vector<u32> words;  ///< of 2 or 4 bytes
    u64 fop, fip, fdp;       ///< what FLDENV finds in them
};

const Layout kLayouts[] = {
    {Mode::Real, false, {0x037b, 0x9884, 0xbbdc, 0xcdef, 0xb5a5, 0x3210, 0x4000}, 0x5a5, 0xbcdef, 0x43210},
    {Mode::Virtual8086, false, {0x037b, 0x9884, 0xbbdc, 0xcdef, 0xb5a5, 0x3210, 0x4000}, 0x5a5, 0xbcdef, 0x43210},
    {Mode::Real, true,
     {0xffff037b, 0xffff9884, 0xffffbbdc, 0xffffcdef, 0x089ab5a5, 0xffff3210, 0x07654000}, 0x5a5, 0x89abcdef, 0x76543210},
    {Mode::Virtual8086, true,
     {0xffff037b, 0xffff9884, 0xffffbbdc, 0xffffcdef, 0x089ab5a5, 0xffff3210, 0x07654000}, 0x5a5, 0x89abcdef, 0x76543210},
    {Mode::Protected16, false, {0x037b, 0x9884, 0xbbdc, 0xcdef, 0, 0x3210, 0}, 0, 0xcdef, 0x3210},
    {Mode::Protected16, true,
     {0xffff037b, 0xffff9884, 0xffffbbdc, 0x89abcdef, 0x05a50000, 0x76543210, 0xffff0000}, 0x5a5, 0x89abcdef, 0x76543210},
    {Mode::Protected32, false, {0x037b, 0x9884, 0xbbdc, 0xcdef, 0, 0x3210, 0}, 0, 0xcdef, 0x3210},
    {Mode::Protected32, true,
     {0xffff037b, 0xffff9884, 0xffffbbdc, 0x89abcdef, 0x05a50000, 0x76543210, 0xffff0000}, 0x5a5, 0x89abcdef, 0x76543210},
};

std::vector<u8> bytes_of(const Layout& layout) {
    std::vector<u8> out;
    for (const u32 word : layout.words)
        for (unsigned n = 0; n < (layout.wide ? 4u : 2u); ++n) out.push_back(static_cast<u8>(word >> (8 * n)));
    return out;
}

/// opcode /reg with the operand at kImage, one instruction.
void run(TestVp& t, Mode mode, bool wide, std::vector<u8> opcode, unsigned reg) {
    std::vector<u8> code;
    const bool wide_code = mode == Mode::Protected32;
    if (wide != wide_code) code.push_back(0x66);
    code.insert(code.end(), opcode.begin(), opcode.end());
    code.push_back(static_cast<u8>(reg << 3 | (wide_code ? 5 : 6)));
    for (unsigned n = 0; n < (wide_code ? 4u : 2u); ++n) code.push_back(static_cast<u8>(kImage >> (8 * n)));
    t.write(kCodeAt, code);
    t.vp->state().rip = kCodeAt;
    t.vp->begin_slice(0, 1);
    StepEngine engine;
    (void)engine.run(*t.vp);
    REQUIRE(t.vp->state().rip == kCodeAt + code.size());
}

std::vector<u8> memory(TestVp& t, u64 size) {
    std::vector<u8> out(size);
    t.memory.read(Spa(kImage), out.data(), size);
    return out;
}

}  // namespace

TEST_CASE("x87: FNSTENV and FLDENV have a layout by mode and operand size", "[cpu][x87]") {
    const Layout layout = GENERATE(from_range(std::begin(kLayouts), std::end(kLayouts)));
    CAPTURE(static_cast<int>(layout.mode), layout.wide);
    TestVp t;
    enter(t, layout.mode);
    VpState& s = t.vp->state();
    set_state(s);
    t.write(kImage, std::vector<u8>(64, 0xee));
    run(t, layout.mode, layout.wide, {0xd9}, 6);
    std::vector<u8> expected = bytes_of(layout);
    const std::size_t size = expected.size();
    CHECK(size == (layout.wide ? kEnv32 : kEnv16));
    expected.resize(64, 0xee);
    CHECK(memory(t, 64) == expected);
    CHECK(s.x87.fcw == 0x037f);  // masked, so nothing is pending any more
    CHECK(s.x87.fsw == 0x1804);
    CHECK((s.x87.fop | s.x87.fip | s.x87.fdp) == 0);

    ops::init_x87(s.x87);
    run(t, layout.mode, layout.wide, {0xd9}, 4);
    CHECK(s.x87.fcw == 0x037b);
    CHECK(s.x87.fsw == 0x9884);
    CHECK(s.x87.ftw == 0xa5);
    CHECK(s.x87.fop == layout.fop);
    CHECK(s.x87.fip == layout.fip);
    CHECK(s.x87.fdp == layout.fdp);
}

TEST_CASE("x87: FNSAVE stores the registers behind the environment and initialises, FRSTOR brings all back", "[cpu][x87]") {
    const Layout layout = GENERATE(from_range(std::begin(kLayouts), std::end(kLayouts)));
    CAPTURE(static_cast<int>(layout.mode), layout.wide);
    TestVp t;
    enter(t, layout.mode);
    VpState& s = t.vp->state();
    set_state(s);
    const X87State before = s.x87;
    t.write(kImage, std::vector<u8>(128, 0xee));
    run(t, layout.mode, layout.wide, {0xdd}, 6);
    std::vector<u8> expected = bytes_of(layout);
    for (const auto& st : before.st) expected.insert(expected.end(), st, st + 10);
    CHECK(expected.size() == (layout.wide ? kEnv32 : kEnv16) + kStack);
    expected.resize(128, 0xee);
    CHECK(memory(t, 128) == expected);
    CHECK(s.x87.fcw == 0x037f);
    CHECK(s.x87.fsw == 0);
    CHECK(s.x87.ftw == 0);

    std::memset(s.x87.st, 0x55, sizeof s.x87.st);
    run(t, layout.mode, layout.wide, {0xdd}, 4);
    CHECK(s.x87.fcw == before.fcw);
    CHECK(s.x87.fsw == before.fsw);
    CHECK(s.x87.ftw == before.ftw);
    for (unsigned n = 0; n < 8; ++n) CHECK(std::memcmp(s.x87.st[n], before.st[n], 10) == 0);
}

TEST_CASE("x87: FXSAVE and FXRSTOR outside 64-bit mode have eight XMM registers and 32-bit pointers", "[cpu][x87]") {
    const Mode mode = GENERATE(Mode::Real, Mode::Protected16, Mode::Protected32);
    TestVp t;
    enter(t, mode);
    VpState& s = t.vp->state();
    set_state(s);
    s.x87.fip |= u64{0xabcd} << 32;
    s.x87.fdp |= u64{0xabcd} << 32;
    for (unsigned n = 0; n < 16; ++n) std::memset(s.ymm[n], static_cast<int>(0x10 + n), 32);
    t.write(kImage, std::vector<u8>(512, 0xee));
    run(t, mode, mode == Mode::Protected32, {0x0f, 0xae}, 0);
    const std::vector<u8> image = memory(t, 512);
    const u8 head[32] = {0x7b, 0x03, 0x84, 0x98, 0xa5, 0,    0xa5, 0x05, 0xef, 0xcd, 0xab, 0x89, 0, 0, 0, 0,
                         0x10, 0x32, 0x54, 0x76, 0,    0,    0,    0,    0x80, 0x1f, 0,    0,    0xff, 0xff, 0, 0};
    CHECK(std::memcmp(image.data(), head, sizeof head) == 0);
    for (unsigned n = 0; n < 8; ++n) {
        CHECK(std::memcmp(image.data() + 32 + 16 * n, s.x87.st[n], 10) == 0);
        CHECK(image[160 + 16 * n] == 0x10 + n);
        CHECK(image[175 + 16 * n] == 0x10 + n);
    }
    CHECK(image[160 + 128] == 0xee);

    const X87State saved = s.x87;
    ops::init_x87(s.x87);
    std::memset(s.ymm, 0, sizeof s.ymm);
    std::memset(s.ymm[8], 0x77, 32);
    run(t, mode, mode == Mode::Protected32, {0x0f, 0xae}, 1);
    CHECK(s.x87.fsw == saved.fsw);
    CHECK(s.x87.ftw == saved.ftw);
    CHECK(s.x87.fop == saved.fop);
    CHECK(s.x87.fip == static_cast<u32>(saved.fip));
    CHECK(s.x87.fdp == static_cast<u32>(saved.fdp));
    for (unsigned n = 0; n < 8; ++n) CHECK(s.ymm[n][0] == 0x10 + n);
    CHECK(s.ymm[7][16] == 0);     // the upper half is not part of it
    CHECK(s.ymm[8][0] == 0x77);
}

TEST_CASE("x87: an image that ends in a page that is not there changes neither memory nor state", "[cpu][x87]") {
    constexpr u64 kPage = 0x800000, kCode = TestVp::kFree;
    const u8 opcode = GENERATE(as<u8>{}, 0xd9, 0xdd);
    const unsigned reg = GENERATE(4u, 6u);
    TestVp t;
    t.enter_long_mode(0);
    t.map_user(kPage, 1);
    t.write(kCode, {opcode, static_cast<u8>(reg << 3 | 3)});
    VpState& s = t.vp->state();
    set_state(s);
    if (reg == 4) s.x87.fcw = 0x037f, s.x87.fsw = 0x1804;  // loads wait for pending exceptions
    const X87State before = s.x87;
    const std::vector<u8> pattern(16, 0xee);
    t.write(kPage + 0xff0, pattern);
    s.rip = kCode;
    s.gpr[RBX] = kPage + 0xff0;
    s.gpr[RSP] = TestVp::kHandlerStack;
    t.vp->begin_slice(0, 16);
    StepEngine engine;
    (void)engine.run(*t.vp);
    CHECK(t.faulted() == kPageFault);
    CHECK(s.cr2 == kPage + 0x1000);
    CHECK(std::memcmp(&before, &s.x87, sizeof before) == 0);
    std::vector<u8> left(16);
    t.memory.read(Spa(kPage + 0xff0), left.data(), left.size());
    CHECK(left == pattern);
}

TEST_CASE("x87: CR0.NE=0 where no board takes FERR# is #MF", "[cpu][x87]") {
    TestVp t;
    t.enter_long_mode(0);
    constexpr u64 kCode = TestVp::kFree;
    t.write(kCode, {0xdb, 0xe2, 0xd9, 0xee, 0x90});  // fnclex; fldz
    VpState& s = t.vp->state();
    set_state(s);
    s.cr0 &= ~cr0::NE;
    s.gpr[RSP] = TestVp::kHandlerStack;
    StepEngine engine;
    s.rip = kCode + 2;
    t.vp->begin_slice(0, 16);
    (void)engine.run(*t.vp);
    CHECK(t.faulted() == kX87Error);
    CHECK(s.ferr == 1);
    s.activity = Activity::Active;
    s.rip = kCode;
    t.vp->begin_slice(0, 2);
    (void)engine.run(*t.vp);
    CHECK(s.rip == kCode + 4);
    CHECK(s.ferr == 0);
}
