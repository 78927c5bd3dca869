// What the translator promises beyond equal states: exact budgets, code that changes, bounded memory, use of its
// caches.
#include <catch2/catch.hpp>

#include "tests/jit/jit_machine.h"

using namespace vg;
using namespace vg::test;

namespace {

std::unique_ptr<jit::JitEngine> engine_for(JitMachine& m, const jit::Options& options = {}) {
    auto engine = jit::JitEngine::create(m.memory, options);
    REQUIRE(engine.has_value());
    return std::move(*engine);
}

/// mov ecx, count; loop: add eax, 1; dec ecx; jnz loop; hlt
std::vector<u8> counting_loop(u32 count) {
    std::vector<u8> code = {0xb9, 0, 0, 0, 0, 0x83, 0xc0, 0x01, 0xff, 0xc9, 0x75, 0xf9, 0xf4};
    std::memcpy(&code[1], &count, 4);
    return code;
}

}  // namespace

TEST_CASE("jit: a slice ends after exactly its instructions", "[jit]") {
    JitMachine m;
    m.load(kCodePhysical, counting_loop(1000000));
    const auto engine = engine_for(m);
    u64 now = 0;
    for (const u64 slice : {1u, 2u, 3u, 4u, 5u, 100u, 101u, 102u, 1000u}) {
        m.vp->begin_slice(now, now + slice);
        REQUIRE(engine->run(*m.vp) == cpu::Stop::Budget);
        CHECK(m.s().budget == 0);
        now += slice;
        // One MOV, then three instructions per round.
        CHECK((m.s().gpr[cpu::RAX] & 0xffffffff) == (now + 1) / 3);
    }
}

TEST_CASE("jit: a hot loop runs without the dispatcher", "[jit]") {
    JitMachine m;
    m.load(kCodePhysical, counting_loop(100000));
    m.s().gpr[cpu::RAX] = 0;
    const auto engine = engine_for(m);
    m.vp->begin_slice(0, 1000000);
    REQUIRE(engine->run(*m.vp) == cpu::Stop::Halt);
    CHECK(m.s().gpr[cpu::RAX] == 100000);
    CHECK(m.vp->now() == 1 + 3 * 100000 + 1);
    CHECK(engine->stats().dispatches < 10);
    CHECK(engine->stats().links >= 1);
}

TEST_CASE("jit: a block that changes itself leaves right after the store", "[jit]") {
    // loop: inc dword [rip+imm of the next]; mov eax, imm32; add rbx, rax; dec ecx; jnz loop; hlt
    const std::vector<u8> code = {0xff, 0x05, 0x01, 0,    0,    0,    0xb8, 0,    0,   0,
                                  0,    0x48, 0x01, 0xc3, 0xff, 0xc9, 0x75, 0xee, 0xf4};
    JitMachine m;
    m.load(kCodePhysical, code);
    m.s().gpr[cpu::RBX] = 0;
    m.s().gpr[cpu::RCX] = 50;
    const auto engine = engine_for(m);
    m.vp->begin_slice(0, 1000000);
    REQUIRE(engine->run(*m.vp) == cpu::Stop::Halt);
    CHECK(m.s().gpr[cpu::RBX] == 50 * 51 / 2);
    CHECK(m.vp->now() == 50 * 5 + 1);
    CHECK(engine->stats().invalidations >= 50);
}

TEST_CASE("jit: bytes written from outside are executed at once", "[jit]") {
    JitMachine m;
    m.load(kCodePhysical, counting_loop(1000000));
    m.s().gpr[cpu::RAX] = 0;
    const auto engine = engine_for(m);
    m.vp->begin_slice(0, 301);
    REQUIRE(engine->run(*m.vp) == cpu::Stop::Budget);
    CHECK(m.s().gpr[cpu::RAX] == 100);
    m.memory.write<u8>(Spa(kCodePhysical + 7), 5);  // add eax, 5
    m.vp->begin_slice(301, 601);
    REQUIRE(engine->run(*m.vp) == cpu::Stop::Budget);
    CHECK(m.s().gpr[cpu::RAX] == 100 + 5 * 100);
}

TEST_CASE("jit: one translation serves every address of its page", "[jit]") {
    // lea rax, [rip]; hlt
    const std::vector<u8> code = {0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xf4};
    JitMachine m;
    m.load(kCodePhysical, code);
    const auto engine = engine_for(m);
    for (const u64 base : {kCode, kCodeAlias}) {
        m.s().rip = base;
        m.s().activity = cpu::Activity::Active;
        m.vp->begin_slice(0, 100);
        REQUIRE(engine->run(*m.vp) == cpu::Stop::Halt);
        CHECK(m.s().gpr[cpu::RAX] == base + 7);
    }
    CHECK(engine->stats().blocks == 1);
}

TEST_CASE("jit: a full cache is emptied and the guest goes on", "[jit]") {
    // 4096 bytes of: add eax, 1; jmp +0 — one block per pair, run round after round.
    std::vector<u8> code;
    while (code.size() < 0x3f00) code.insert(code.end(), {0x83, 0xc0, 0x01, 0xeb, 0x00});
    code.push_back(0xe9);
    const u32 back = static_cast<u32>(-static_cast<s32>(code.size() + 4));
    for (unsigned k = 0; k < 4; ++k) code.push_back(static_cast<u8>(back >> (8 * k)));
    JitMachine m;
    m.load(kCodePhysical, code);
    m.s().gpr[cpu::RAX] = 0;
    const auto engine = engine_for(m, {.code_bytes = 128u << 10});
    m.vp->begin_slice(0, 100000);
    REQUIRE(engine->run(*m.vp) == cpu::Stop::Budget);
    const u64 pairs = (code.size() - 5) / 5, round = pairs * 2 + 1;
    const u64 rest = 100000 % round;
    CHECK(m.s().gpr[cpu::RAX] == 100000 / round * pairs + (rest + 1) / 2);
    CHECK(engine->stats().flushes > 5);
}

TEST_CASE("jit: a VP stops on request at the next slice boundary at the latest", "[jit]") {
    JitMachine m;
    m.load(kCodePhysical, counting_loop(1000000));
    const auto engine = engine_for(m);
    m.vp->begin_slice(0, 1000);
    m.vp->request_stop();
    CHECK(engine->run(*m.vp) == cpu::Stop::Request);
}

TEST_CASE("jit: code reached over a change of privilege is translated for the new one", "[jit]") {
    // Kernel code returns to a user block that exists already, which jumps to one that does not: a CLI, which must fault.
    constexpr u64 kUser = kCode + 0x100, kUserNext = kCode + 0x200, kEntry = kCode + 0x40, kTss = kGdt + 0x200;
    EngineMachine m(true);
    const auto at = [&](u64 address, const std::vector<u8>& bytes) { m.load(kCodePhysical + (address - kCode), bytes); };
    // mov ecx, kUser; mov r11d, 2; sysretq
    const std::vector<u8> return_to_user = {0xb9, 0x00, 0x01, 0x40, 0x00, 0x41, 0xbb, 2, 0, 0, 0, 0x48, 0x0f, 0x07};
    std::vector<u8> entry = {0xff, 0xc0};  // inc eax
    entry.insert(entry.end(), return_to_user.begin(), return_to_user.end());
    at(kEntry, entry);
    at(kUser, {0x85, 0xc0, 0x0f, 0x85, 0xf8, 0, 0, 0, 0x0f, 0x05});  // test eax, eax; jnz kUserNext; syscall
    at(kUserNext, {0xfa, 0x0f, 0x0b});                              // cli; ud2
    cpu::VpState& s = m.s();
    const u64 entry_of_page = kTables + 0x3000 + (kCode >> 21) * 0x1000 + (kCode >> 12 & 511) * 8;
    m.memory.write<u64>(Spa(entry_of_page), m.memory.read<u64>(Spa(entry_of_page)) | 4);
    s.segment(cpu::Seg::TR) = {kTss, 0x67, 0x28, 0x8b};
    m.memory.write<u64>(Spa(kTss + 4), kStackTop - 0x100);
    s.star = u64{0x8} << 32 | u64{0x10} << 48;
    s.lstar = kEntry;
    s.gpr[cpu::RAX] = 0;
    REQUIRE(m.run(return_to_user) == cpu::Stop::Halt);
    CHECK(m.faulted() == cpu::kGeneralProtection);
    u64 frame[2] = {};
    REQUIRE(m.vp->memory().peek(s.gpr[cpu::RSP], frame, sizeof frame));
    CHECK(frame[1] == kUserNext);
    CHECK((s.gpr[cpu::RAX] & 0xff) == 1);
}

TEST_CASE("jit: a string instruction cut short has RF set until its last iteration", "[jit]") {
    // SDM 3B "Instruction-Breakpoint Exception Condition": as an interrupt between two iterations would push it.
    JitMachine m;
    m.load(kCodePhysical, {0xf3, 0xaa, 0x90, 0xf4});  // rep stosb; nop; hlt
    m.s().gpr[cpu::RDI] = kData;
    m.s().gpr[cpu::RCX] = 10;
    const auto engine = engine_for(m);
    for (const u64 until : {4u, 8u, 10u}) {
        m.vp->begin_slice(m.vp->now(), until);
        REQUIRE(engine->run(*m.vp) == cpu::Stop::Budget);
        CHECK(m.s().gpr[cpu::RCX] == 10 - until);
        CHECK(((m.s().rflags & cpu::flag::RF) != 0) == (until != 10));
    }
    CHECK(m.s().rip == kCode + 2);
}

TEST_CASE("jit: pages that share a place in the TLB are told apart without C++", "[jit]") {
    constexpr u64 kApart = u64{mmu::kTlbEntries} * kPageSize, kRounds = 2000;
    const std::vector<u8> code = {
        0x48, 0x8b, 0x06,                    // loop: mov rax, [rsi]
        0x48, 0x03, 0x07,                    // add rax, [rdi]
        0x48, 0x89, 0x47, 0x08,              // mov [rdi+8], rax
        0x48, 0x01, 0x46, 0x08,              // add [rsi+8], rax
        0x03, 0x54, 0x9e, 0x10,              // add edx, [rsi+rbx*4+16]
        0x67, 0x33, 0x57, 0x14,              // xor edx, [edi+20]: the host address itself
        0x03, 0x54, 0x9f, 0x18,              // add edx, [rdi+rbx*4+24]
        0x0f, 0x28, 0x44, 0x9e, 0x2c,        // movaps xmm0, [rsi+rbx*4+44]
        0x0f, 0x29, 0x44, 0x9f, 0x2c,        // movaps [rdi+rbx*4+44], xmm0
        0x89, 0x54, 0x9e, 0x20,              // mov [rsi+rbx*4+32], edx
        0xff, 0xc9, 0x75, 0xd4, 0xf4};       // dec ecx; jnz loop; hlt
    const auto prepare = [&](JitMachine& m) {
        const u64 other = kData + kApart, table = kTables + 0x3000 + (other >> 21) * 0x1000;
        m.memory.write<u64>(Spa(kTables + 0x2000 + (other >> 21) * 8), table | 7);
        m.memory.write<u64>(Spa(table + ((other >> 12) & 511) * 8), (kDataPhysical + 0x1000) | 0x63);
        for (u64 k = 0; k < 0x2000; k += 8) m.memory.write<u64>(Spa(kDataPhysical + k), k * 0x9e3779b97f4a7c15);
        m.load(kCodePhysical, code);
        m.s().gpr[cpu::RSI] = kData;
        m.s().gpr[cpu::RDI] = other;
        m.s().gpr[cpu::RBX] = 1;
        m.s().gpr[cpu::RCX] = kRounds;
        m.vp->begin_slice(0, 1000000);
    };
    JitMachine translated, stepped;
    prepare(translated);
    prepare(stepped);
    const auto engine = engine_for(translated);
    REQUIRE(engine->run(*translated.vp) == cpu::Stop::Halt);
    cpu::StepEngine stepper;
    REQUIRE(stepper.run(*stepped.vp) == cpu::Stop::Halt);
    CHECK(translated.s().gpr[cpu::RCX] == 0);
    CHECK(translated.hash() == stepped.hash());
    CHECK(engine->stats().refills < 50);
    CHECK(engine->stats().slow_accesses == 0);
}

TEST_CASE("jit: targets that share a place in the jump cache are both found", "[jit]") {
    static_assert((kCodeAlias - kCode) % (4 * mmu::kJumpEntries) == 0);
    // loop: call rax; call rbx; dec ecx; jnz loop; hlt; inc edx; ret
    const std::vector<u8> code = {0xff, 0xd0, 0xff, 0xd3, 0xff, 0xc9, 0x75, 0xf8, 0xf4, 0xff, 0xc2, 0xc3};
    constexpr u64 kRounds = 2000, kFunction = 9;
    JitMachine m;
    m.load(kCodePhysical, code);
    m.s().gpr[cpu::RAX] = kCode + kFunction;
    m.s().gpr[cpu::RBX] = kCodeAlias + kFunction;
    m.s().gpr[cpu::RCX] = kRounds;
    m.s().gpr[cpu::RDX] = 0;
    const auto engine = engine_for(m);
    m.vp->begin_slice(0, 1000000);
    REQUIRE(engine->run(*m.vp) == cpu::Stop::Halt);
    CHECK(m.s().gpr[cpu::RDX] == 2 * kRounds);
    CHECK(engine->stats().slow_jumps < 20);
}
