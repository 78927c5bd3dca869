// Debug registers and single-stepping, in both engines. SDM 3B "Debug Exceptions".
#include <catch2/catch.hpp>

#include "tests/jit/jit_machine.h"

using namespace vg;
using namespace vg::test;
using cpu::cr4::DE;

namespace {

constexpr u64 kDr6Reset = 0xffff0ff0, kSingleStep = 1 << 14;
constexpr u64 kBreakOnPort = 2;

/// DR7 with breakpoint `index` enabled globally; `length` as encoded.
constexpr u64 dr7(unsigned index, u64 kind, u64 length) {
    return 0x400 | u64{2} << (2 * index) | (kind | length << 2) << (16 + 4 * index);
}

}  // namespace

TEST_CASE("debug: I/O breakpoints trap behind IN and OUT of the ports they cover", "[jit][debug]") {
    const bool translated = GENERATE(false, true);
    struct {
        std::vector<u8> code;
        u16 port;
        u64 dr, length;
        bool hit;
    } const cases[] = {
        {{0xec}, 0x3f8, 0x3f8, 0, true},         // in al, dx
        {{0xec}, 0x3f9, 0x3f8, 0, false},
        {{0xec}, 0x3fb, 0x3f8, 3, true},         // the last of four ports
        {{0xec}, 0x3fc, 0x3f8, 3, false},
        {{0xef}, 0x3f5, 0x3f8, 0, true},         // out dx, eax: 3f5..3f8
        {{0xef}, 0x3f4, 0x3f8, 0, false},
        {{0x66, 0xed}, 0x3f8, 0x3fa, 1, false},  // in ax, dx: 3f8, 3f9; the breakpoint 3fa, 3fb
        {{0x66, 0xed}, 0x3f9, 0x3fb, 1, true},   // 3f9, 3fa; the address is aligned to the length
        {{0xe6, 0x80}, 0, 0x80, 0, true},        // out 80h, al
        {{0xe4, 0x81}, 0, 0x80, 0, false},       // in al, 81h
    };
    for (const auto& each : cases) {
        EngineMachine m(translated);
        std::vector<u8> code = each.code;
        code.insert(code.end(), {0x90, 0xf4});
        m.s().cr4 |= DE;
        m.s().dr[2] = each.dr;
        m.s().dr[7] = dr7(2, kBreakOnPort, each.length);
        m.s().gpr[cpu::RDX] = each.port;
        CAPTURE(each.code, each.port, each.dr);
        REQUIRE(m.run(code) == cpu::Stop::Halt);
        CHECK((m.faulted() == cpu::kDebug) == each.hit);
        CHECK(m.s().dr[6] == (each.hit ? kDr6Reset | 4 : kDr6Reset));
        if (each.hit) CHECK(m.return_rip() == kCode + each.code.size());
    }
}

TEST_CASE("debug: without CR4.DE, and for memory, an I/O breakpoint never matches", "[jit][debug]") {
    EngineMachine m(GENERATE(false, true));
    const bool de = GENERATE(false, true);
    if (de) m.s().cr4 |= DE;
    m.s().dr[0] = kData;
    m.s().dr[1] = 0x80;
    m.s().dr[7] = dr7(0, kBreakOnPort, 0) | dr7(1, kBreakOnPort, 0);
    m.s().gpr[cpu::RBX] = kData;
    REQUIRE(m.run({0x8a, 0x03, 0x88, 0x03, 0xe4, 0x80, 0xf4}) == cpu::Stop::Halt);  // mov al, [rbx]; mov [rbx], al; in
    CHECK(m.faulted() == (de ? int{cpu::kDebug} : -1));
    CHECK(m.s().dr[6] == (de ? kDr6Reset | 2 : kDr6Reset));
}

TEST_CASE("debug: REP OUTS and REP INS stop behind the iteration that met an I/O breakpoint", "[jit][debug]") {
    const bool translated = GENERATE(false, true);
    const u8 opcode = GENERATE(as<u8>{}, 0x6c, 0x6e);  // insb, outsb
    EngineMachine m(translated);
    m.s().cr4 |= DE;
    m.s().dr[3] = 0x80;
    m.s().dr[7] = dr7(3, kBreakOnPort, 0);
    m.s().gpr[cpu::RDX] = 0x80;
    m.s().gpr[cpu::RSI] = m.s().gpr[cpu::RDI] = kData;
    m.s().gpr[cpu::RCX] = 3;
    REQUIRE(m.run({0xf3, opcode, 0x90, 0xf4}) == cpu::Stop::Halt);
    CHECK(m.faulted() == cpu::kDebug);
    CHECK(m.s().gpr[cpu::RCX] == 2);
    CHECK(m.return_rip() == kCode);
    CHECK(m.s().dr[6] == (kDr6Reset | 8));
}

TEST_CASE("debug: REP MOVS and REP STOS stop behind the iteration that met a data breakpoint", "[jit][debug]") {
    const bool translated = GENERATE(false, true);
    const u8 opcode = GENERATE(as<u8>{}, 0xa4, 0xaa);  // movsb, stosb
    EngineMachine m(translated);
    m.s().dr[0] = kData + 0x105;
    m.s().dr[7] = dr7(0, 1, 0);
    m.s().gpr[cpu::RSI] = kData;
    m.s().gpr[cpu::RDI] = kData + 0x100;
    m.s().gpr[cpu::RCX] = 16;
    REQUIRE(m.run({0xf3, opcode, 0x90, 0xf4}) == cpu::Stop::Halt);
    CHECK(m.faulted() == cpu::kDebug);
    CHECK(m.s().gpr[cpu::RCX] == 10);
    CHECK(m.return_rip() == kCode);
}

TEST_CASE("debug: with DEBUGCTL.BTF only taken branches single-step", "[jit][debug]") {
    const bool translated = GENERATE(false, true);
    struct {
        std::vector<u8> code;
        u64 trap;  ///< offset that the trap is reported at; 0: none
    } const cases[] = {
        {{0x90, 0x90, 0xeb, 0x01, 0x90, 0x90, 0xf4}, 5},        // nop; nop; jmp +1
        {{0x90, 0x90, 0xeb, 0x00, 0x90, 0xf4}, 4},              // a jump to the next instruction is one
        {{0x31, 0xc0, 0x75, 0x02, 0x74, 0x01, 0x90, 0xf4}, 7},  // xor eax, eax; jnz (not taken); jz
        {{0xb9, 2, 0, 0, 0, 0xe2, 0xfe, 0xf4}, 5},              // mov ecx, 2; loop $ (taken once)
        {{0xe8, 0x01, 0, 0, 0, 0xf4, 0x90, 0xf4}, 6},           // call
        {{0x8d, 0x05, 0, 0, 0, 0, 0x90, 0xf4}, 0},              // no branch at all
    };
    for (const auto& each : cases) {
        EngineMachine m(translated);
        CAPTURE(each.code);
        m.s().debugctl = cpu::debugctl::Lbr | cpu::debugctl::Btf;
        m.s().rflags |= cpu::flag::TF;
        REQUIRE(m.run(each.code) == cpu::Stop::Halt);
        CHECK(m.faulted() == (each.trap != 0 ? int{cpu::kDebug} : -1));
        if (each.trap == 0) continue;
        CHECK(m.return_rip() == kCode + each.trap);
        CHECK(m.s().dr[6] == (kDr6Reset | kSingleStep));
        CHECK(m.s().debugctl == 0);  // "The processor clears the BTF flag when it generates a debug exception"
    }
}

TEST_CASE("debug: a far return is a branch for BTF, a WRMSR that sets BTF is none", "[jit][debug]") {
    EngineMachine m(GENERATE(false, true));
    // push 8; lea rax, [rip + 13]; push rax; mov ecx, 1d9h; wrmsr of 2; retfq
    const std::vector<u8> code = {0x6a, 0x08, 0x48, 0x8d, 0x05, 0x13, 0, 0, 0, 0x50, 0xb9, 0xd9, 0x01, 0, 0,
                                  0xb8, 2, 0, 0, 0, 0x31, 0xd2, 0x0f, 0x30, 0x48, 0xcb, 0x90, 0x90, 0x90, 0xf4};
    REQUIRE(m.run(code) == cpu::Stop::Halt);  // without TF: to the end
    REQUIRE(m.faulted() == -1);
    CHECK(m.s().debugctl == cpu::debugctl::Btf);
    m.s().rip = kCode;
    m.s().rflags |= cpu::flag::TF;
    REQUIRE(m.go_on() == cpu::Stop::Halt);
    CHECK(m.faulted() == cpu::kDebug);
    CHECK(m.return_rip() == kCode + 9 + 0x13);
    CHECK(m.s().debugctl == 0);
}
