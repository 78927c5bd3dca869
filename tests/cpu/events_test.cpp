// Events between instructions, and exits to a level's owner.
#include <catch2/catch.hpp>
#include <functional>

#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;

namespace {

constexpr u64 kCode = 0x4000, kStack = 0x8000;

struct Fixture : test::TestVp {
    explicit Fixture(const std::vector<u8>& code, const char* model_name = "verdigris-v2") : TestVp(model_name) {
        enter_long_mode(0);
        write(kCode, code);
        s().rip = kCode;
        s().gpr[RSP] = kStack;
        REQUIRE(vp->apic().write_base(0xfee00900));
        vp->apic().mmio_write(0xf0, 0x1ff);
    }
    VpState& s() { return vp->state(); }
    Stop run(u64 instructions) {
        const u64 from = vp->now();
        vp->begin_slice(from, from + instructions);
        return engine.run(*vp);
    }
    StepEngine engine;
};

struct Owner : virt::ExitOwner {
    std::function<virt::Action(Vp&, virt::Exit&)> answer;
    u32 calls = 0;
    virt::Action on_exit(Vp& vp, virt::Exit& exit) override {
        ++calls;
        return answer(vp, exit);
    }
};

}  // namespace

TEST_CASE("events: STI and MOV SS hold an interrupt back for one instruction", "[cpu][system]") {
    const bool mov_ss = GENERATE(false, true);
    const std::vector<u8> sti{0xfa, 0xfb, 0x90, 0x90, 0x90};                   // cli sti nop nop nop
    const std::vector<u8> ss{0x8c, 0xd0, 0x8e, 0xd0, 0x90, 0x90};              // mov eax,ss  mov ss,eax  nop nop
    Fixture f(mov_ss ? ss : sti);
    f.run(1);
    f.vp->apic().accept(0x40, false);
    if (mov_ss) f.s().rflags &= ~flag::IF;
    f.run(1);
    if (mov_ss) f.s().rflags |= flag::IF;
    CHECK(f.faulted() == -1);
    CHECK(f.run(5) == Stop::Halt);
    CHECK(f.faulted() == 0x40);
    CHECK(f.frame().rip == kCode + (mov_ss ? 5 : 3));
    CHECK(f.vp->apic().in_service(0x40));
}

TEST_CASE("events: a halted VP wakes for an interrupt only with IF set", "[cpu][system]") {
    Fixture f({0xf4, 0x90});
    f.s().rflags &= ~flag::IF;
    CHECK(f.run(10) == Stop::Halt);
    f.vp->apic().accept(0x40, false);
    CHECK(f.run(10) == Stop::Halt);
    CHECK(f.faulted() == -1);
    f.s().rflags |= flag::IF;
    CHECK(f.run(10) == Stop::Halt);
    CHECK(f.faulted() == 0x40);
    CHECK(f.frame().rip == kCode + 1);
}

TEST_CASE("events: NMIs are blocked until IRET and come before interrupts", "[cpu][system]") {
    Fixture f({0x90, 0x90, 0x90});
    f.write(Fixture::kHandlers + 2 * 16, {0x48, 0xcf});  // vector 2: iretq
    f.vp->apic().accept(0x40, false);
    f.vp->request_nmi();
    f.run(0);
    f.vp->begin_slice(0, 100);
    REQUIRE(f.vp->take_event() == Exec::Resync);
    CHECK(f.s().rip == Fixture::kHandlers + 2 * 16);
    CHECK(f.s().nmi_blocked == 1);
    f.vp->request_nmi();
    CHECK_FALSE(f.vp->event_pending());
    f.engine.step(*f.vp);
    CHECK(f.s().rip == kCode);
    CHECK(f.s().nmi_blocked == 0);
    CHECK(f.vp->event_pending());
}

TEST_CASE("events: single step traps behind the instruction, with DR6.BS", "[cpu][system]") {
    Fixture f({0x90, 0x90});
    f.s().rflags |= flag::TF;
    CHECK(f.run(10) == Stop::Halt);
    CHECK(f.faulted() == kDebug);
    CHECK(f.frame().rip == kCode + 1);
    CHECK((f.frame().rflags & flag::TF) != 0);
    CHECK((f.s().dr[6] & 1 << 14) != 0);
    CHECK((f.s().rflags & flag::TF) == 0);
}

TEST_CASE("events: a triple fault shuts the VP down once", "[cpu][system]") {
    Fixture f({0x0f, 0x0b});
    f.s().idtr.limit = 0;
    CHECK(f.run(10) == Stop::Halt);
    CHECK(f.vp->activity() == Activity::Shutdown);
    CHECK(f.platform.shutdowns == 1);
    f.vp->request_nmi();
    CHECK_FALSE(f.vp->event_pending());
}

TEST_CASE("exits: the owner's answer decides how CPUID ends", "[cpu][system]") {
    const auto action = GENERATE(virt::Action::Complete, virt::Action::Skip, virt::Action::Default, virt::Action::Inject,
                                 virt::Action::Leave);
    Fixture f({0x0f, 0xa2, 0x90});
    Owner owner;
    owner.answer = [&](Vp& vp, virt::Exit& exit) {
        CHECK(exit.reason == virt::ExitReason::Cpuid);
        CHECK(exit.leaf == 0);
        exit.regs[0] = 0x1234;
        if (action == virt::Action::Skip) vp.state().gpr[RAX] = 0x5678;
        exit.fault.vector = kGeneralProtection;
        exit.fault.has_error = true;
        exit.fault.error_code = 0x18;
        return action;
    };
    virt::Level level;
    level.owner = &owner;
    level.controls.cpuid = true;
    f.vp->levels().push_back(level);
    f.s().gpr[RAX] = f.s().gpr[RCX] = 0;
    f.vp->begin_slice(0, 10);
    const Stop stop = f.engine.step(*f.vp);
    CHECK(owner.calls == 1);
    switch (action) {
        case virt::Action::Complete:
            CHECK(f.s().gpr[RAX] == 0x1234);
            CHECK(f.s().rip == kCode + 2);
            break;
        case virt::Action::Skip:
            CHECK(f.s().gpr[RAX] == 0x5678);
            CHECK(f.s().rip == kCode + 2);
            break;
        case virt::Action::Default: CHECK(f.s().gpr[RAX] == 0x1f); break;
        case virt::Action::Inject:
            CHECK(f.s().rip == Fixture::kHandlers + 13 * 16);
            CHECK(f.s().gpr[RAX] == 0);
            break;
        default:
            CHECK(stop == Stop::Leave);
            CHECK(f.s().rip == kCode);
            CHECK(f.s().gpr[RAX] == 0);
            break;
    }
}

TEST_CASE("exits: both hypercall opcodes reach a level and are undefined without one", "[cpu][system]") {
    const u8 last = GENERATE(u8{0xc1}, u8{0xd9});
    const char* model_name = GENERATE("verdigris-v2", "verdigris-v2-amd");
    Fixture f({0x0f, 0x01, last, 0x90}, model_name);
    CHECK(f.run(10) == Stop::Halt);
    CHECK(f.faulted() == kInvalidOpcode);
    Fixture g({0x0f, 0x01, last, 0x90}, model_name);
    Owner owner;
    owner.answer = [](Vp& vp, virt::Exit& exit) {
        CHECK(exit.insn_length == 3);
        vp.state().gpr[RAX] = 42;
        return virt::Action::Skip;
    };
    virt::Level level;
    level.owner = &owner;
    level.controls.hypercall = true;
    g.vp->levels().push_back(level);
    g.run(1);
    CHECK(g.s().rip == kCode + 3);
    CHECK(g.s().gpr[RAX] == 42);
}

TEST_CASE("exits: MSR ranges and port bitmaps intercept exactly their members", "[cpu][system]") {
    static constexpr virt::Controls::MsrRange kRanges[] = {{0x40000000, 0x40000001}};
    static std::bitset<65536> ports;
    ports.reset();
    ports[0x3f9] = true;
    Owner owner;
    owner.answer = [](Vp&, virt::Exit& exit) {
        exit.value = 0xabcdef0123456789;
        return virt::Action::Complete;
    };
    virt::Level level;
    level.owner = &owner;
    level.controls.msr_ranges = kRanges;
    level.controls.io_bitmap = &ports;
    const auto rdmsr = [&](u32 msr) {
        Fixture f({0x0f, 0x32});
        f.vp->levels().push_back(level);
        f.s().gpr[RCX] = msr;
        f.run(1);
        return f.s().rip == kCode + 2 && f.s().gpr[RDX] == 0xabcdef01 && f.s().gpr[RAX] == 0x23456789;
    };
    CHECK(rdmsr(0x40000000));
    CHECK(rdmsr(0x40000001));
    CHECK_FALSE(rdmsr(0x40000002));
    CHECK_FALSE(rdmsr(0x3fffffff));
    const auto in = [&](u16 port, const std::vector<u8>& code) {
        Fixture f(code);
        f.vp->levels().push_back(level);
        f.s().gpr[RDX] = port;
        f.s().gpr[RAX] = 0;
        f.run(1);
        return f.s().gpr[RAX];
    };
    CHECK(in(0x3f9, {0xec}) == 0x89);
    CHECK(in(0x3f8, {0xec}) == 0xff);
    CHECK(in(0x3fa, {0xec}) == 0xff);
    CHECK(in(0x3f8, {0x66, 0xed}) == 0x6789);  // the second byte is intercepted
    CHECK(in(0x3f6, {0xed}) == 0x23456789);
    CHECK(in(0x3f5, {0xed}) == 0xffffffff);
}

TEST_CASE("io: REP OUTS stops at the end of the budget and goes on", "[cpu][system]") {
    Fixture f({0xf3, 0x6e, 0x90});  // rep outsb
    f.s().gpr[RSI] = 0x5000;
    f.s().gpr[RCX] = 10;
    f.s().gpr[RDX] = 0x80;
    CHECK(f.run(4) == Stop::Budget);
    CHECK(f.s().gpr[RCX] == 6);
    CHECK(f.s().gpr[RSI] == 0x5004);
    CHECK(f.s().rip == kCode);
    CHECK(f.run(6) == Stop::Budget);
    CHECK(f.s().gpr[RCX] == 0);
    CHECK(f.s().rip == kCode + 2);
}

TEST_CASE("rdrand: the generator is the VP's own and repeats after reset", "[cpu][system]") {
    const auto draw = [] {
        Fixture f({0x48, 0x0f, 0xc7, 0xf0, 0x48, 0x0f, 0xc7, 0xf3}, "verdigris-v2,+rdrand");
        f.run(2);
        CHECK((f.s().rflags & flag::CF) != 0);
        CHECK(f.s().gpr[RAX] != f.s().gpr[RBX]);
        return f.s().gpr[RAX];
    };
    CHECK(draw() == draw());
}

TEST_CASE("events: a SIPI behind an INIT starts a processor that has seen neither yet", "[cpu][system]") {
    // SDM 3A "MP Initialization Protocol Algorithm": the sender may send both before the receiver executes anything.
    Fixture f({0x90});
    f.s().activity = Activity::WaitForSipi;
    f.vp->request_sipi(0x11);
    f.vp->request_init();
    CHECK(f.vp->take_event() == Exec::Resync);
    f.s().activity = Activity::WaitForSipi;  // as INIT leaves an application processor
    CHECK(f.vp->take_event() == Exec::Next);  // the SIPI before the INIT is void

    f.vp->request_init();
    f.vp->request_sipi(0x12);
    CHECK(f.vp->take_event() == Exec::Resync);
    f.s().activity = Activity::WaitForSipi;
    CHECK(f.vp->take_event() == Exec::Resync);
    CHECK(f.s().activity == Activity::Active);
    CHECK(f.s().segment(Seg::CS).base == 0x12000);
    CHECK(f.s().rip == 0);
}
