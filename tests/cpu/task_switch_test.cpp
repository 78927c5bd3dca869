// Hardware task switches under paging and through task gates.
#include <catch2/catch.hpp>

#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::TestVp;

namespace {

constexpr u64 kCode = TestVp::kFree, kNewTss = 0x210000, kNewCode = 0x220000;
constexpr u16 kNewTssSelector = 0x50, kNewLdt = 0x58;

/// 32-bit protected mode with a second task that would begin at kNewCode.
struct Tasks : TestVp {
    Tasks() : TestVp("verdigris-v3") {
        enter_protected();
        memory.write<u64>(Spa(kGdt + kNewTssSelector), descriptor(kNewTss, 0x67, 0x89));
        const auto word = [&](u32 offset, u32 value) { memory.write<u32>(Spa(kNewTss + offset), value); };
        word(0x20, kNewCode);
        word(0x24, flag::Always1);
        word(0x38, 0x300000);  // ESP
        for (const u32 seg : {0x48u, 0x50u, 0x54u, 0x58u, 0x5cu}) word(seg, kData32);
        word(0x4c, kCode32);
        write(kNewCode, {0xf4});
        s().rip = kCode;
        s().gpr[RSP] = kHandlerStack;
    }
    static u64 descriptor(u64 base, u64 limit, u64 type) {
        return (limit & 0xffff) | (base & 0xffffff) << 16 | type << 40 | (base >> 24) << 56;
    }
    VpState& s() { return vp->state(); }
    void run(u64 instructions) {
        StepEngine engine;
        vp->begin_slice(0, instructions);
        (void)engine.run(*vp);
    }
};

}  // namespace

TEST_CASE("task: the new task's LDT is read in its own address space", "[cpu][task]") {
    // Two page directories that differ in where the GDT's page lies.
    constexpr u64 kDirectory[2] = {0x230000, 0x231000}, kTable[2] = {0x232000, 0x233000}, kOtherGdt = 0x234000;
    Tasks t;
    for (u32 n = 0; n < 2; ++n) {
        for (u32 i = 0; i < 1024; ++i) {
            t.memory.write<u32>(Spa(kDirectory[n] + i * 4), i << 22 | 0x83);  // 4 MiB, one to one
            t.memory.write<u32>(Spa(kTable[n] + i * 4), i << 12 | 3);
        }
        t.memory.write<u32>(Spa(kDirectory[n]), static_cast<u32>(kTable[n] | 3));
    }
    t.memory.write<u32>(Spa(kTable[1] + (TestVp::kGdt >> 12) * 4), kOtherGdt | 3);
    std::vector<u8> gdt(0x1000);
    t.memory.read(Spa(TestVp::kGdt), gdt.data(), gdt.size());
    t.memory.write(Spa(kOtherGdt), gdt.data(), gdt.size());
    t.memory.write<u64>(Spa(TestVp::kGdt + kNewLdt), Tasks::descriptor(0x111000, 0xff, 0x82));
    t.memory.write<u64>(Spa(kOtherGdt + kNewLdt), Tasks::descriptor(0x222000, 0xff, 0x82));
    t.memory.write<u32>(Spa(kNewTss + 0x1c), static_cast<u32>(kDirectory[1]));
    t.memory.write<u32>(Spa(kNewTss + 0x60), kNewLdt);
    t.write(kCode, {0xea, 0, 0, 0, 0, kNewTssSelector, 0});  // jmp far
    t.s().cr3 = kDirectory[0];
    t.s().cr4 |= cr4::PSE;
    t.s().cr0 |= cr0::PG;
    t.vp->update_context();
    t.run(1);
    CHECK(t.s().rip == kNewCode);
    CHECK(t.s().cr3 == kDirectory[1]);
    CHECK(t.s().segment(Seg::LDTR).base == 0x222000);
    u64 seen = 0;
    REQUIRE(t.vp->memory().read(TestVp::kGdt + kNewLdt, seen, As::Supervisor));
    CHECK(seen == Tasks::descriptor(0x222000, 0xff, 0x82));
}

TEST_CASE("task: a fault that switches tasks saves RF in the old task", "[cpu][task]") {
    // SDM 3B "Instruction-Breakpoint Exception Condition", as for the image that a fault pushes.
    const auto [code, vector, set] = GENERATE(
        table<std::vector<u8>, u64, bool>({{{0x0f, 0x0b}, kInvalidOpcode, true}, {{0xcd, 0x40}, 0x40, false}}));
    Tasks t;
    t.memory.write<u64>(Spa(TestVp::kIdt + vector * 8), u64{kNewTssSelector} << 16 | u64{0x85} << 40);
    t.write(kCode, code);
    t.run(2);
    CHECK(t.s().rip == kNewCode + 1);
    CHECK(((t.memory.read<u32>(Spa(TestVp::kTss + 0x24)) & flag::RF) != 0) == set);
}

TEST_CASE("task: paging in IA-32e mode is refused while TR holds a 16-bit TSS", "[cpu][task]") {
    // SDM 3A "IA-32e Mode Activation": the consistency checks.
    Tasks t;
    t.write(kCode, {0x0f, 0x22, 0xc0});  // mov cr0, eax
    t.s().segment(Seg::TR).attributes = 0x83;
    t.s().cr4 |= cr4::PAE;
    t.s().cr3 = TestVp::kTables;
    t.s().efer |= efer::LME;
    t.s().gpr[RAX] = t.s().cr0 | cr0::PG;
    t.memory.write<u64>(Spa(TestVp::kIdt + kGeneralProtection * 8),
                        (TestVp::kHandlers & 0xffff) | u64{TestVp::kCode32} << 16 | u64{0x8e00} << 32 |
                            (TestVp::kHandlers >> 16) << 48);
    t.run(2);
    CHECK((t.s().cr0 & cr0::PG) == 0);
    CHECK((t.s().efer & efer::LMA) == 0);
    CHECK(t.s().rip == TestVp::kHandlers + 1);
}
