// What single instructions cost as translated code: host nanoseconds per round of a loop around them. Not a test;
// run it with `test_jit "[cost]"`.
#include <catch2/catch.hpp>

#include <ctime>
#include <string_view>

#include "tests/jit/jit_machine.h"

using namespace vg;
using namespace vg::test;

namespace {

struct Subject {
    const char* name;
    const char* code;  ///< bytes in hexadecimal
};

constexpr Subject kSubjects[] = {
    {"rep movsb, 16 bytes", "b910000000be00006000bf00106000f3a4"},
    {"rep movsb, 300 bytes", "b92c010000be00006000bf00106000f3a4"},
    {"rep movsq, 4096 bytes", "b900020000be00006000bf00106000f348a5"},
    {"rep stosb, 40 bytes", "b928000000bf00106000f3aa"},
    {"rep stosq, 4096 bytes", "b900020000bf00106000f348ab"},
    {"repe cmpsb, 24 bytes", "b918000000be00016000bf00016000f3a6"},
    {"repne scasb, 24 bytes", "b918000000bf00206000b855000000f2ae"},
    {"lodsb, stosb", "be00006000bf00106000acaa"},
    {"movsq, cmpsd, scasw", "be00006000bf0010600048a5a766af"},
    {"cli, sti, nop", "fafb90"},
    {"pushfq, popfq", "9c9d"},
    {"rdtsc", "0f31"},
    {"rdtscp", "0f01f9"},
    {"pause", "f390"},
    {"stac, clac", "0f01cb0f01ca"},
    {"mov cr3 there and back", "0f20d80f22d8"},
    {"mov cr2 there and back", "0f20d00f22d0"},
    {"cpuid 1", "b8010000000fa2"},
    {"xgetbv", "31c90f01d0"},
    {"rdfsbase, wrfsbase", "f3480faec0f3480faed0"},
    {"rdmsr, wrmsr fs base", "b9000100c00f320f30"},
    {"stmxcsr, ldmxcsr", "0fae1b0fae13"},
    {"bts memory, register", "b84d000000480fab03"},
    {"lock bts memory, register", "b84d000000f0480fab03"},
    {"lock xadd", "f0480fc103"},
    {"lock cmpxchg", "f0480fb113"},
    {"cmpxchg, xadd registers", "480fb1d1480fc1d1"},
    {"mov ds", "8cd88ed8"},
    {"push fs, pop fs", "0fa00fa1"},
    {"lahf, sahf", "9f9e"},
    {"mov ah, memory", "8a238823"},
    {"loop", "b904000000e2fe"},
    {"jrcxz", "b901000000e300"},
    {"shld ax", "660fa4d003"},
    {"xlatb", "b803000000d7"},
    {"enter, leave", "c8200000c9"},
    {"far return", "6a08488d05030000005048cb"},
    {"iretq", "4889e06a10509c6a08488d05030000005048cf"},
    {"invlpg", "0f013b"},
    {"helper with vectors loaded: cpuid", "660fefc0b8010000000fa2"},
    {"fld, fadd, fstp", "dd03dc4308dd5b10"},
    {"fild, fmul, fistp", "db03d8c8db5b10"},
    {"fxch, fcomi", "d9e8d9eed9c9dff1ddd8"},
    {"mmx add", "0f6f030ffcc10f7f43080f77"},
    {"fxsave, fxrstor", "0fae030fae0b"},
};

std::vector<u8> from_hex(std::string_view text) {
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    std::vector<u8> bytes;
    for (std::size_t k = 0; k + 1 < text.size(); k += 2) bytes.push_back(static_cast<u8>(digit(text[k]) << 4 | digit(text[k + 1])));
    return bytes;
}

double cpu_ns() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

void put(std::vector<u8>& code, std::initializer_list<unsigned> bytes) {
    for (const unsigned b : bytes) code.push_back(static_cast<u8>(b));
}
void put_rel32(std::vector<u8>& code, std::size_t target) {
    const u32 rel = static_cast<u32>(target - (code.size() + 4));
    for (unsigned k = 0; k < 4; ++k) code.push_back(static_cast<u8>(rel >> (8 * k)));
}

/// mov r14d, rounds; loop: body; dec r14; jnz loop; hlt
std::vector<u8> loop_of(const std::vector<u8>& body, u32 rounds) {
    std::vector<u8> code;
    put(code, {0x41, 0xbe, rounds & 0xff, (rounds >> 8) & 0xff, (rounds >> 16) & 0xff, rounds >> 24});
    const std::size_t start = code.size();
    code.insert(code.end(), body.begin(), body.end());
    put(code, {0x49, 0xff, 0xce, 0x0f, 0x85});
    put_rel32(code, start);
    code.push_back(0xf4);
    return code;
}

/// Best of five, because the machine is shared.
double ns_per_round(const std::vector<u8>& body, void (*prepare)(JitMachine&) = nullptr) {
    constexpr u32 kRounds = 20000;
    double best = 1e12;
    JitMachine m;
    m.load(kCodePhysical, loop_of(body, kRounds));
    auto engine = jit::JitEngine::create(m.memory, {});
    REQUIRE(engine.has_value());
    m.s().cr4 |= cpu::cr4::FSGSBASE;
    m.s().gpr[cpu::RBX] = kData + 0x400;
    m.s().x87.fcw = 0x37f;
    if (prepare != nullptr) prepare(m);
    const cpu::VpState start = m.s();
    for (unsigned attempt = 0; attempt < 6; ++attempt) {
        std::memcpy(static_cast<void*>(&m.s()), &start, offsetof(cpu::VpState, budget));
        m.vp->update_context();
        m.vp->begin_slice(0, u64{kRounds} * 10000);
        const double before = cpu_ns();
        REQUIRE((*engine)->run(*m.vp) == cpu::Stop::Halt);
        const double spent = (cpu_ns() - before) / kRounds;
        REQUIRE((m.s().rip < kHandlers || m.s().rip >= kHandlers + 0x200));
        if (attempt != 0 && spent < best) best = spent;
    }
    return best;
}

/// The body runs at CPL 3, in pages made accessible to it; LSTAR leads to SYSRETQ.
void user_mode(JitMachine& m) {
    const auto open = [&](u64 va, u64 pages) {
        for (u64 k = 0; k < pages; ++k) {
            const Spa entry(kTables + 0x3000 + (va >> 21) * 0x1000 + (((va >> 12) & 511) + k) * 8);
            u64 value = 0;
            m.memory.read(entry, &value, sizeof value);
            m.memory.write<u64>(entry, value | 4);
        }
    };
    open(kCode, 4);
    open(kData, 4);
    open(kStackTop - 0x8000, 8);
    m.load(kCodePhysical + 0x3000, {0x48, 0x0f, 0x07});
    cpu::VpState& s = m.s();
    s.lstar = kCodeAlias + 0x3000;
    s.star = u64{0x8} << 32 | u64{0x13} << 48;
    s.sfmask = 0x200;
    s.cpl = 3;
    s.segment(cpu::Seg::CS).attributes |= 0x60;
    s.segment(cpu::Seg::SS).attributes |= 0x60;
}

}  // namespace

TEST_CASE("jit: cost of instructions", "[.][cost]") {
    const double empty = ns_per_round({});
    std::printf("%-40s %8.1f ns\n", "empty loop", empty);
    for (const Subject& subject : kSubjects)
        std::printf("%-40s %8.1f ns\n", subject.name, ns_per_round(from_hex(subject.code)) - empty);
}

TEST_CASE("jit: cost of a system call", "[.][cost]") {
    std::printf("%-40s %8.1f ns\n", "syscall, sysretq", ns_per_round(from_hex("0f05"), user_mode));
}
