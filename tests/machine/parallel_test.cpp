// VPs that execute at the same time: what they do to each other is what a multiprocessor's processors do.
#include <xbyak/xbyak.h>
#include <catch2/catch.hpp>

#include "cpu/guest_gate.h"
#include "machine/scheduler.h"
#include "machine/vp_engines.h"
#include "tests/jit/jit_machine.h"

using namespace vg;
using namespace vg::machine;
using namespace vg::test;
using namespace Xbyak::util;

namespace {

using Code = Xbyak::CodeGenerator;

/// VPs on the memory of a JitMachine, each with a stack and a program of its own, under the parallel scheduler.
struct Bed {
    JitMachine m{"verdigris-v3"};
    MachineClock clock;
    EventQueue events{clock};
    cpu::ApicBus bus;
    std::unique_ptr<VpEngines> engines;
    std::vector<std::unique_ptr<cpu::Vp>> vps;
    std::unique_ptr<Scheduler> scheduler;

    explicit Bed(const jit::Options& options = {}) {
        engines = *VpEngines::create(m.memory, options, m.log);
        scheduler = std::make_unique<Scheduler>(events, clock, *engines);
        scheduler->run_side_by_side(m.memory);
    }
    ~Bed() {
        for (const auto& vp : vps) scheduler->remove(*vp);
    }
    /// RBX = kData, RDI = number of the VP. Ends by HLT.
    template <class Program>
    void add(Program program) {
        const u64 number = vps.size();
        Code code(4096);
        program(code);
        code.hlt();
        m.load(kCodePhysical + number * 0x1000, {code.getCode(), code.getCode() + code.getSize()});
        const u32 id = static_cast<u32>(number);
        const cpu::VpEnvironment environment{m.memory, events, m.log, m.model, bus, m.platform};
        vps.push_back(std::make_unique<cpu::Vp>(environment, "vp" + std::to_string(number), id, id));
        cpu::Vp& vp = *vps.back();
        vp.reset();
        std::memcpy(&vp.state(), &m.s(), sizeof(cpu::VpState));
        vp.state().rip = kCode + number * 0x1000;
        vp.state().gpr[cpu::RSP] = kStackTop - number * 0x1000 - 64;
        vp.state().gpr[cpu::RBX] = kData;
        vp.state().gpr[cpu::RDI] = number;
        vp.update_context();
        scheduler->add(vp);
    }
    /// Until all have halted.
    void run() {
        REQUIRE(scheduler->run_until(60 * kVTimeHz) == Pause::Hang);
        for (const auto& vp : vps) REQUIRE(vp->linear_rip() - kCode < 0x4000);
    }
    [[nodiscard]] u64 data(u64 offset) { return m.memory.read<u64>(Spa(kDataPhysical + offset)); }
};

}  // namespace

TEST_CASE("parallel: locked instructions of all VPs add up, whichever way they are executed", "[machine][parallel]") {
    constexpr u32 kRounds = 30'000;
    Bed bed(GENERATE(jit::Options{}, jit::Options{.code_bytes = 64u << 10}, jit::Options{.native = false}));
    for (unsigned k = 0; k < 4; ++k) {
        bed.add([](Code& c) {
            Xbyak::Label again, held;
            c.mov(ecx, kRounds);
            c.L(again);
            c.lock();
            c.inc(c.qword[rbx]);
            c.mov(eax, 3);
            c.lock();
            c.xadd(c.ptr[rbx + 8], rax);
            c.lock();
            c.add(c.qword[rbx + 0xffc], 1);  // crosses a page: the interpreter's
            c.L(held);                       // a spin lock around what is not locked
            c.mov(eax, 1);
            c.xchg(c.ptr[rbx + 64], eax);
            c.test(eax, eax);
            c.jnz(held);
            c.inc(c.qword[rbx + 72]);
            c.mov(c.dword[rbx + 64], 0);
            c.dec(ecx);
            c.jnz(again);
        });
    }
    bed.run();
    CHECK(bed.data(0) == 4 * kRounds);
    CHECK(bed.data(8) == 4 * 3 * kRounds);
    CHECK(bed.data(0xffc) == 4 * kRounds);
    CHECK(bed.data(72) == 4 * kRounds);
}

TEST_CASE("parallel: MFENCE orders a store before a later load", "[machine][parallel]") {
    constexpr u32 kRounds = 60'000;
    Bed bed;
    for (unsigned k = 0; k < 2; ++k) {
        // Peterson's lock: interested[k] at 0 and 64, turn at 128, the counter that it guards at 192.
        bed.add([k](Code& c) {
            const int mine = k == 0 ? 0 : 64, other = 64 - mine;
            Xbyak::Label again, wait, in;
            c.mov(ecx, kRounds);
            c.L(again);
            c.mov(c.dword[rbx + mine], 1);
            c.mov(c.dword[rbx + 128], 1 - k);
            c.mfence();
            c.L(wait);
            c.cmp(c.dword[rbx + other], 0);
            c.je(in);
            c.cmp(c.dword[rbx + 128], 1 - k);
            c.je(wait);
            c.L(in);
            c.inc(c.qword[rbx + 192]);
            c.mov(c.dword[rbx + mine], 0);
            c.dec(ecx);
            c.jnz(again);
        });
    }
    bed.run();
    CHECK(bed.data(192) == 2 * kRounds);
}

TEST_CASE("parallel: code that one VP writes is what the other executes when it has been told", "[machine][parallel]") {
    constexpr u32 kRounds = 3'000;
    // In its own page, or beside other code of a page that both execute.
    const u64 place = GENERATE(kCode + 0x3000, kCode + 0x800);
    Bed bed(GENERATE(jit::Options{}, jit::Options{.code_bytes = 64u << 10}));
    // The function: MOV EAX, number; RET. The writer's number is at 0, the answer at 64.
    bed.m.load(kCodePhysical + (place - kCode), {0xb8, 0, 0, 0, 0, 0xc3});
    bed.add([place](Code& c) {
        Xbyak::Label again, wait;
        c.mov(ecx, 1);
        c.mov(rdx, place);
        c.L(again);
        c.mov(c.ptr[rdx + 1], ecx);
        c.mov(c.ptr[rbx], ecx);
        c.L(wait);
        c.cmp(c.ptr[rbx + 64], ecx);
        c.jne(wait);
        c.inc(ecx);
        c.cmp(ecx, kRounds);
        c.jne(again);
    });
    bed.add([place](Code& c) {
        Xbyak::Label again, wait, right;
        c.mov(esi, 1);
        c.mov(rdx, place);
        c.L(again);
        c.L(wait);
        c.cmp(c.ptr[rbx], esi);
        c.jne(wait);
        c.push(rbx);
        c.push(rdx);
        c.xor_(eax, eax);
        c.cpuid();  // serializes
        c.pop(rdx);
        c.pop(rbx);
        c.call(rdx);
        c.cmp(eax, esi);
        c.je(right);
        c.inc(c.qword[rbx + 128]);
        c.L(right);
        c.mov(c.ptr[rbx + 64], esi);
        c.inc(esi);
        c.cmp(esi, kRounds);
        c.jne(again);
    });
    bed.run();
    CHECK(bed.data(0) == kRounds - 1);
    CHECK(bed.data(64) == kRounds - 1);
    CHECK(bed.data(128) == 0);
}

TEST_CASE("parallel: time goes on for each VP alone, never backwards, never by a mark", "[machine][parallel]") {
    constexpr u32 kRounds = 100'000;
    Bed bed;
    bed.add([](Code& c) {  // RDTSC, and how often it was less than before or more than a second later
        Xbyak::Label again, fine;
        c.mov(ecx, kRounds);
        c.xor_(esi, esi);
        c.L(again);
        c.rdtsc();
        c.shl(rdx, 32);
        c.or_(rax, rdx);
        c.mov(rdx, rax);
        c.sub(rax, rsi);
        c.mov(rsi, rdx);
        c.cmp(rax, 1'000'000'000);
        c.jb(fine);
        c.inc(c.qword[rbx]);
        c.L(fine);
        c.dec(ecx);
        c.jnz(again);
    });
    bed.add([](Code& c) {  // calls the other one out of its code all the time: locked instructions by the interpreter
        Xbyak::Label again;
        c.mov(ecx, kRounds);
        c.L(again);
        c.lock();
        c.add(c.qword[rbx + 0xffc], 1);
        c.dec(ecx);
        c.jnz(again);
    });
    bed.run();
    CHECK(bed.data(0) == 0);
    CHECK(bed.data(0xffc) == kRounds);
}

TEST_CASE("parallel: a mark on a budget can be told from any budget, and taken off", "[machine][parallel]") {
    for (const s64 budget : {s64{0}, s64{1}, s64{-64}, s64{INT32_MAX}}) {
        CHECK_FALSE(cpu::marked(budget));
        CHECK(cpu::marked(cpu::with_mark(budget)));
        CHECK(cpu::with_mark(cpu::with_mark(budget)) == cpu::with_mark(budget));
        CHECK(cpu::with_mark(budget) < 0);
        CHECK(cpu::without_mark(cpu::with_mark(budget)) == budget);
        CHECK(cpu::without_mark(budget) == budget);
        CHECK(static_cast<u32>(cpu::with_mark(budget)) == static_cast<u32>(budget));
    }
}

TEST_CASE("parallel: a run ends when it is asked to, and goes on", "[machine][parallel]") {
    Bed bed;
    for (unsigned k = 0; k < 3; ++k) {
        bed.add([](Code& c) {
            Xbyak::Label again;
            c.L(again);
            c.lock();
            c.inc(c.qword[rbx]);
            c.cmp(c.dword[rbx + 64], 0);
            c.je(again);
        });
    }
    const auto timer = bed.events.add("stop", [&](VTime) { bed.scheduler->stop(); });
    bed.events.arm(timer, 2'500'000);
    CHECK(bed.scheduler->run_until(kVTimeHz) == Pause::Asked);
    CHECK(bed.scheduler->now() >= 2'500'000);
    CHECK(bed.scheduler->now() < 2'500'000 + 2 * Scheduler::kParallelQuantum);
    CHECK_FALSE(bed.scheduler->in_round());
    CHECK(bed.scheduler->run_until(20'000'000) == Pause::Reached);
    CHECK(bed.scheduler->now() >= 20'000'000);
    const u64 before = bed.data(0);
    CHECK(before > 0);
    bed.m.memory.write<u32>(Spa(kDataPhysical + 64), 1);
    bed.run();
    CHECK(bed.data(0) >= before);
}
