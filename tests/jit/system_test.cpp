// System instructions that are translated: their results, and what they leave to the interpreter.
#include <catch2/catch.hpp>

#include "tests/jit/jit_machine.h"

using namespace vg;
using namespace vg::test;

namespace {

constexpr u8 kVector = 31;
constexpr int kHaltedHere = -1;

struct Run : EngineMachine {
    explicit Run(bool translated) : EngineMachine(translated) {
        constexpr u64 kDataEntries = kTables + 0x3000 + (kData >> 21) * 0x1000 + ((kData >> 12) & 511) * 8;
        memory.write<u64>(Spa(kDataEntries + 5 * 8), 0xfee00000 | 0x63);
        constexpr u32 kSpuriousVectorRegister = 0xf0, kEnabled = 0x1ff;
        vp->apic().mmio_write(kSpuriousVectorRegister, kEnabled);
        s().gpr[cpu::RBX] = kData + 0x5000;
        s().gpr[cpu::RAX] = s().gpr[cpu::RDX] = 0;
    }
};

/// Both engines in slices of every length: equal states.
template <class Prepare>
void compare(const std::vector<u8>& bytes, Prepare prepare, u64 instructions) {
    for (u64 slice = 1; slice <= instructions + 1; ++slice) {
        u64 hashes[2];
        for (const bool translated : {false, true}) {
            Run run(translated);
            prepare(run);
            cpu::Stop stop = run.run(bytes, slice);
            for (unsigned k = 0; k < 100 && stop == cpu::Stop::Budget; ++k) stop = run.go_on(slice);
            CHECK(stop == cpu::Stop::Halt);
            hashes[translated] = run.hash();
        }
        CHECK(hashes[0] == hashes[1]);
    }
}

/// cli; inc eax; sti; inc eax; inc edx; hlt
const std::vector<u8> kShadowed = {0xfa, 0xff, 0xc0, 0xfb, 0xff, 0xc0, 0xff, 0xc2, 0xf4};

/// Answers RDTSC itself, and counts PAUSE.
class TimeOwner final : public cpu::virt::ExitOwner {
  public:
    cpu::virt::Action on_exit(cpu::Vp&, cpu::virt::Exit& exit) override {
        if (exit.reason == cpu::virt::ExitReason::Pause) ++pauses;
        exit.value = 0x12345678'9abcdef0;
        return cpu::virt::Action::Complete;
    }
    unsigned pauses = 0;
};

}  // namespace

TEST_CASE("jit: STI without anything waiting goes on", "[jit][system]") {
    compare(
        kShadowed, [](Run&) {}, 6);
    Run run(true);
    CHECK(run.run(kShadowed) == cpu::Stop::Halt);
    CHECK((run.s().rflags & cpu::flag::IF) != 0);
    CHECK(run.s().interrupt_shadow == 0);
    CHECK(run.s().gpr[cpu::RDX] == 1);
}

TEST_CASE("jit: an interrupt that waits for STI comes behind the next instruction", "[jit][system]") {
    const auto raise = [](Run& run) { run.vp->apic().accept(kVector, false); };
    compare(kShadowed, raise, 6);
    Run run(GENERATE(false, true));
    raise(run);
    CHECK(run.run(kShadowed) == cpu::Stop::Halt);
    CHECK(run.faulted() == kVector);
    CHECK(run.s().gpr[cpu::RAX] == 2);
    CHECK(run.s().gpr[cpu::RDX] == 0);
    CHECK(run.return_rip() == kCode + 6);
}

TEST_CASE("jit: an interrupt that a store in the same block raises waits for STI", "[jit][system]") {
    // cli; inc eax; mov dword [rbx+300h], self-IPI; inc eax; sti; inc eax; inc edx; hlt
    const std::vector<u8> code = {0xfa, 0xff, 0xc0, 0xc7, 0x83, 0x00, 0x03, 0x00, 0x00, kVector, 0x40,
                                  0x04, 0x00, 0xff, 0xc0, 0xfb, 0xff, 0xc0, 0xff, 0xc2, 0xf4};
    compare(
        code, [](Run&) {}, 8);
    Run run(GENERATE(false, true));
    CHECK(run.run(code) == cpu::Stop::Budget);  // the slice ends where an interrupt becomes deliverable
    CHECK(run.go_on() == cpu::Stop::Halt);
    CHECK(run.faulted() == kVector);
    CHECK(run.s().gpr[cpu::RAX] == 3);
    CHECK(run.s().gpr[cpu::RDX] == 0);
}

TEST_CASE("jit: an NMI that waits is held back by STI for one instruction at most", "[jit][system]") {
    compare(
        kShadowed, [](Run& run) { run.vp->request_nmi(); }, 6);
    compare(
        kShadowed,
        [](Run& run) {
            run.vp->request_nmi();
            run.s().nmi_blocked = 1;
        },
        6);
}

TEST_CASE("jit: STI as the last instruction of a slice leaves its shadow", "[jit][system]") {
    const bool translated = GENERATE(false, true);
    for (const std::vector<u8>& code : {kShadowed, std::vector<u8>{0xfa, 0xff, 0xc0, 0xfb, 0xeb, 0x00, 0xf4}}) {
        Run run(translated);
        CHECK(run.run(code, 3) == cpu::Stop::Budget);
        CHECK(run.s().interrupt_shadow == cpu::shadow::Sti);
        CHECK(run.s().rip == kCode + 4);
    }
}

TEST_CASE("jit: the time stamp is exact at every place in a block", "[jit][system]") {
    // rdtsc; mov r8, rax; nop; rdtscp; mov r9, rax; jz over; rdtsc; over: mov r10, rax; pause; rdtsc; hlt
    const std::vector<u8> code = {0x0f, 0x31, 0x49, 0x89, 0xc0, 0x90, 0x0f, 0x01, 0xf9, 0x49, 0x89, 0xc1,
                                  0x74, 0x02, 0x0f, 0x31, 0x49, 0x89, 0xc2, 0xf3, 0x90, 0x0f, 0x31, 0xf4};
    const auto prepare = [](Run& run) {
        run.s().tsc_offset = 0xfffffff0'00000123;
        run.s().tsc_aux = 0x89abcdef;
        run.s().gpr[cpu::RCX] = run.s().gpr[cpu::RDX] = ~u64{0};
        run.s().rflags |= 0x8d5;
    };
    compare(code, prepare, 12);
    Run run(true);
    prepare(run);
    const u64 start = run.vp->tsc();
    CHECK(run.run(code) == cpu::Stop::Halt);
    CHECK(run.s().gpr[8] == static_cast<u32>(start));
    CHECK(run.s().gpr[9] == static_cast<u32>(start + 3));
    CHECK(run.s().gpr[cpu::RCX] == 0x89abcdef);
    CHECK(run.s().gpr[cpu::RDX] == start >> 32);
    CHECK((run.s().rflags & 0x8d5) == 0x8d5);
}

TEST_CASE("jit: a level that wants RDTSC and PAUSE gets them", "[jit][system]") {
    // rdtsc; pause; hlt
    const std::vector<u8> code = {0x0f, 0x31, 0xf3, 0x90, 0xf4};
    Run run(GENERATE(false, true));
    CHECK(run.run(code) == cpu::Stop::Halt);  // translated for nobody who asks
    TimeOwner owner;
    cpu::virt::Level level;
    level.owner = &owner;
    level.controls.rdtsc = level.controls.pause = true;
    run.vp->levels().push_back(level);
    run.vp->update_context();
    CHECK(run.run(code) == cpu::Stop::Halt);
    CHECK(run.s().gpr[cpu::RAX] == 0x9abcdef0);
    CHECK(run.s().gpr[cpu::RDX] == 0x12345678);
    CHECK(owner.pauses == 1);
    run.vp->levels().clear();
    run.vp->update_context();
}

TEST_CASE("jit: CR4.TSD keeps RDTSC from programs only", "[jit][system]") {
    const bool translated = GENERATE(false, true);
    constexpr int kProtection = 13;
    for (const u8 cpl : {u8{0}, u8{3}}) {
        Run run(translated);
        run.s().cr4 |= cpu::cr4::TSD;
        if (cpl == 3) {  // all pages are open to it
            for (u64 entry = kTables + 0x3000; entry < kTables + 0x8000; entry += 8) {
                const u64 value = run.memory.read<u64>(Spa(entry));
                if (value != 0) run.memory.write<u64>(Spa(entry), value | 4);
            }
            run.s().cpl = 3;
            run.s().segment(cpu::Seg::CS) = {0, 0xffffffff, 8 | 3, 0xa0fb};
            run.s().segment(cpu::Seg::SS) = {0, 0xffffffff, 16 | 3, 0xc0f3};
            run.s().segment(cpu::Seg::TR) = {kData + 0x2000, 0x67, 16, 0x8b};
            run.memory.write<u64>(Spa(kDataPhysical + 0x2004), kStackTop - 0x100);
        }
        run.vp->update_context();
        CHECK(run.run({0x0f, 0x31, 0xf4}) == cpu::Stop::Halt);
        CHECK(run.faulted() == (cpl == 3 ? kProtection : kHaltedHere));
    }
}

TEST_CASE("jit: control registers are read without touching the flags", "[jit][system]") {
    // stc; mov rax, cr0; mov r9, cr2; mov rcx, cr3; mov r12, cr4; mov rdx, cr8; hlt
    const std::vector<u8> code = {0xf9, 0x0f, 0x20, 0xc0, 0x41, 0x0f, 0x20, 0xd1, 0x0f, 0x20,
                                  0xd9, 0x41, 0x0f, 0x20, 0xe4, 0x44, 0x0f, 0x20, 0xc2, 0xf4};
    const auto prepare = [](Run& run) { run.s().cr2 = 0x123456789; };
    compare(code, prepare, 7);
    Run run(true);
    prepare(run);
    CHECK(run.run(code) == cpu::Stop::Halt);
    CHECK(run.s().gpr[cpu::RAX] == run.s().cr0);
    CHECK(run.s().gpr[9] == 0x123456789);
    CHECK(run.s().gpr[cpu::RCX] == run.s().cr3);
    CHECK(run.s().gpr[12] == run.s().cr4);
    CHECK((run.s().rflags & cpu::flag::CF) != 0);
}

TEST_CASE("jit: an instruction that puts the VP to sleep is the last that it executes", "[jit][system]") {
    for (const bool translated : {false, true}) {
        Run run(translated);
        run.platform.on_port_read = [&] { run.s().activity = cpu::Activity::Idle; };  // as reading GUEST_IDLE does (M-24)
        // mov eax, 1; in al, dx; inc ebx; inc ebx; hlt
        run.s().gpr[cpu::RBX] = 0;
        CHECK(run.run({0xb8, 1, 0, 0, 0, 0xec, 0xff, 0xc3, 0xff, 0xc3, 0xf4}) == cpu::Stop::Halt);
        CHECK(run.s().activity == cpu::Activity::Idle);
        CHECK(run.s().rip == kCode + 6);
        CHECK(run.s().gpr[cpu::RBX] == 0);
        CHECK(run.vp->now() == 2);
    }
}
