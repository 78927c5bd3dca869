// x87 and MMX in both engines: exceptions, availability, and what the host's unit is like while C++ runs.
#include <catch2/catch.hpp>

#include <cstdio>
#include <cstring>

#include "tests/jit/jit_machine.h"

using namespace vg;
using namespace vg::test;

namespace {

constexpr u64 kPointer = kData + 0x400;
constexpr u16 kDefaultControl = 0x37f, kZeroDivideUnmasked = 0x37b, kSinglePrecision = 0x07f;
constexpr int kUndefined = 6, kNotAvailable = 7, kPageFaulted = 14, kNumericError = 16;

struct Run : EngineMachine {
    explicit Run(bool translated) : EngineMachine(translated) {
        s().gpr[cpu::RBX] = kPointer;
        s().x87.fcw = kDefaultControl;
        s().x87.ftw = 0;
    }
    void word(u64 offset, u16 value) { memory.write<u16>(Spa(kDataPhysical + 0x400 + offset), value); }
    /// Offset in the code of what faulted.
    [[nodiscard]] u64 fault_offset() { return return_rip() - kCode; }
};

std::vector<u8> code(std::initializer_list<std::initializer_list<u8>> instructions) {
    std::vector<u8> bytes;
    for (const auto& instruction : instructions) bytes.insert(bytes.end(), instruction);
    bytes.push_back(0xf4);
    return bytes;
}

#define FNINIT \
    { 0xdb, 0xe3 }
#define FLD1 \
    { 0xd9, 0xe8 }
#define FLDZ \
    { 0xd9, 0xee }
#define FDIVP \
    { 0xde, 0xf9 }
#define FLDCW_RBX \
    { 0xd9, 0x2b }
#define FNSTSW_AX \
    { 0xdf, 0xe0 }

/// What the host's x87 unit gives to C++: double-extended precision and an empty stack.
void check_host_unit() {
    u16 control;
    u32 environment[7];
    asm volatile("fnstcw %0\n\tfnstenv %1\n\tfldenv %1" : "=m"(control), "=m"(environment));
    CHECK(control == kDefaultControl);
    CHECK((environment[2] & 0xffff) == 0xffff);
    volatile long double one = 1, three = 3;
    const long double third = one / three;
    CHECK(third == 1.0L / 3);
    char text[64];
    std::snprintf(text, sizeof text, "%.20Lf", third);
    CHECK(std::strcmp(text, "0.33333333333333333334") == 0);
}

}  // namespace

TEST_CASE("x87: an exception that is unmasked later waits for the next waiting instruction", "[jit][x87]") {
    Run run(GENERATE(false, true));
    run.word(0, kZeroDivideUnmasked);
    const auto bytes =
        code({FNINIT, FLD1, FLDZ, FDIVP, FNSTSW_AX, {0x89, 0xc1}, FLDCW_RBX, FNSTSW_AX, {0xd9, 0x7b, 0x08}, FLD1});
    CHECK(run.run(bytes) == cpu::Stop::Halt);
    CHECK(run.faulted() == kNumericError);
    CHECK(run.fault_offset() == bytes.size() - 3);
    constexpr u16 kZeroDivide = 4, kErrorSummary = 0x80;
    CHECK((run.s().gpr[cpu::RCX] & (kErrorSummary | kZeroDivide)) == kZeroDivide);
    CHECK((run.s().gpr[cpu::RAX] & (kErrorSummary | kZeroDivide)) == (kErrorSummary | kZeroDivide));
    CHECK(run.memory.read<u16>(Spa(kDataPhysical + 0x408)) == kZeroDivideUnmasked);
}

TEST_CASE("x87: where an unmasked exception happened is kept until the guest has seen it", "[jit][x87]") {
    Run run(GENERATE(false, true));
    run.word(0, kZeroDivideUnmasked);
    run.word(2, kDefaultControl);
    // fdiv dword [rbx+0x40] divides by zero; fldcw [rbx+2] would be the next waiting instruction; fnstenv sees FIP.
    const auto bytes =
        code({FNINIT, FLDCW_RBX, FLD1, {0xd8, 0x73, 0x40}, {0xd9, 0x73, 0x10}, {0xdb, 0xe2}, {0xd9, 0x6b, 0x02}, FLD1});
    CHECK(run.run(bytes) == cpu::Stop::Halt);
    CHECK(run.faulted() == -1);
    CHECK(run.memory.read<u32>(Spa(kDataPhysical + 0x410 + 12)) == kCode + 6);
    CHECK(run.memory.read<u32>(Spa(kDataPhysical + 0x410 + 20)) == kPointer + 0x40);
    CHECK(run.s().x87.fip == 0);
    CHECK(run.s().x87.fcw == kDefaultControl);
}

TEST_CASE("x87: CR0.TS and CR0.EM stop the instruction behind", "[jit][x87]") {
    const bool translated = GENERATE(false, true);
    struct Bit {
        u8 bit;
        std::initializer_list<u8> instruction;
        int vector;
    };
    const Bit bits[] = {{8, {0xd9, 0xe8}, kNotAvailable},    {8, {0x0f, 0xef, 0xc0}, kNotAvailable},
                        {8, {0x9b}, kNotAvailable},          {4, {0xd9, 0xe8}, kNotAvailable},
                        {4, {0x0f, 0xef, 0xc0}, kUndefined}, {4, {0x9b}, -1},
                        {4, {0xdf, 0xe0}, kNotAvailable},    {8, {0x0f, 0xae, 0x03}, kNotAvailable}};
    for (const Bit& b : bits) {
        Run run(translated);
        const auto bytes =
            code({FNINIT, FLD1, {0x0f, 0x20, 0xc0}, {0x83, 0xc8, b.bit}, {0x0f, 0x22, 0xc0}, b.instruction});
        CHECK(run.run(bytes) == cpu::Stop::Halt);
        CHECK(run.faulted() == b.vector);
        CHECK(run.s().x87.ftw == 0x80);
    }
}

TEST_CASE("x87: C++ runs with the host's own control word and an empty stack", "[jit][x87]") {
    u64 hashes[2];
    for (const bool translated : {false, true}) {
        Run run(translated);
        run.word(0, kSinglePrecision);
        unsigned calls = 0;
        run.platform.on_port_read = [&] {
            ++calls;
            check_host_unit();
        };
        // With eight registers in use as numbers, then as MMX registers: in al, dx.
        const auto bytes = code({FNINIT,
                                 FLDCW_RBX,
                                 FLD1,
                                 FLD1,
                                 FLD1,
                                 FLD1,
                                 FLD1,
                                 FLD1,
                                 FLD1,
                                 FLD1,
                                 {0xec},
                                 {0xde, 0xc1},
                                 {0x0f, 0x6e, 0xc3},
                                 {0xec},
                                 {0x0f, 0xfe, 0xc0},
                                 {0x0f, 0x7f, 0x43, 0x20}});
        CHECK(run.run(bytes) == cpu::Stop::Halt);
        CHECK(calls == 2);
        check_host_unit();
        CHECK(run.faulted() == -1);
        CHECK(run.s().x87.fcw == kSinglePrecision);
        CHECK(run.memory.read<u32>(Spa(kDataPhysical + 0x420)) == static_cast<u32>(2 * kPointer));
        hashes[translated] = run.hash();
    }
    CHECK(hashes[0] == hashes[1]);
}

TEST_CASE("x87: ten bytes across pages are read and written as a whole or not at all", "[jit][x87]") {
    const bool translated = GENERATE(false, true);
    SECTION("both pages are there") {
        Run run(translated);
        run.s().gpr[cpu::RBX] = kData + 0x1000 - 3;
        CHECK(run.run(code({FNINIT, {0xd9, 0xeb}, {0xdb, 0x3b}, {0xdb, 0x2b}})) == cpu::Stop::Halt);
        CHECK(run.faulted() == -1);
        constexpr u8 kPi[10] = {0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40};
        CHECK(std::memcmp(run.s().x87.st[0], kPi, sizeof kPi) == 0);
    }
    SECTION("the second page is read-only") {
        Run run(translated);
        run.s().gpr[cpu::RBX] = kData + 0x4000 - 3;
        CHECK(run.run(code({FNINIT, {0xd9, 0xeb}, {0xdb, 0x3b}})) == cpu::Stop::Halt);
        CHECK(run.faulted() == kPageFaulted);
        CHECK(run.s().cr2 == kData + 0x4000);
        CHECK(run.s().x87.ftw == 0x80);
        CHECK(run.memory.read<u16>(Spa(kDataPhysical + 0x4000 - 2)) == 0);
    }
}

TEST_CASE("x87: MMX instructions use all registers and put the top at 0, EMMS frees them", "[jit][x87]") {
    Run run(GENERATE(false, true));
    CHECK(run.run(code({FNINIT, FLD1, {0x0f, 0xef, 0xd2}, FNSTSW_AX, {0x90}})) == cpu::Stop::Halt);
    CHECK(run.s().x87.ftw == 0xff);
    CHECK((run.s().gpr[cpu::RAX] & 0x3800) == 0);
    CHECK(run.run(code({FNINIT, FLD1, {0x0f, 0xef, 0xd2}, {0x0f, 0x77}, FNSTSW_AX})) == cpu::Stop::Halt);
    CHECK(run.s().x87.ftw == 0);
    CHECK((run.s().gpr[cpu::RAX] & 0x3800) == 0);
}

TEST_CASE("x87: instructions with all exceptions masked are translated, control words are not waited for",
          "[jit][x87]") {
    JitMachine m;
    auto engine = *jit::JitEngine::create(m.memory, {});
    m.s().x87.fcw = kDefaultControl;
    m.s().gpr[cpu::RBX] = kPointer;
    m.memory.write<u16>(Spa(kDataPhysical + 0x400), kSinglePrecision);
    m.load(kCodePhysical, code({FNINIT,
                                FLDCW_RBX,
                                FLD1,
                                {0xdb, 0x3b},
                                {0xdf, 0xe9},
                                {0xda, 0xc9},
                                {0x9b},
                                {0x0f, 0xef, 0xc0},
                                {0x0f, 0x77},
                                {0xd9, 0x7b, 0x10},
                                {0xdd, 0x7b, 0x12}}));
    m.vp->begin_slice(0, 1000);
    CHECK(engine->run(*m.vp) == cpu::Stop::Halt);
    CHECK(engine->stats().helpers == 1);  // HLT
}

TEST_CASE("x87: a control word that unmasks an exception is noticed across pages, too", "[jit][x87]") {
    Run run(GENERATE(false, true));
    run.s().gpr[cpu::RBX] = kData + 0x1000 - 1;
    run.memory.write<u16>(Spa(kDataPhysical + 0x1000 - 1), kZeroDivideUnmasked);
    const auto bytes = code({FNINIT, FLD1, FLDZ, FDIVP, FLDCW_RBX, {0xdd, 0xd8}});
    CHECK(run.run(bytes) == cpu::Stop::Halt);
    CHECK(run.faulted() == kNumericError);
    CHECK(run.fault_offset() == bytes.size() - 3);
    check_host_unit();
}
