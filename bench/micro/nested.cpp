// What VM exits and entries cost the host: a guest executes CPUID again and again, and its hypervisor, a dozen instructions,
// steps behind it and goes back. All of it translated, on the stages of tests/cpu. Processor time of one round, and of a round of
// the same instructions without a guest.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>

#include <ctime>

#include <fmt/format.h>

#include "jit/engine.h"
#include "tests/cpu/svm_stage.h"
#include "tests/cpu/vmx_stage.h"

namespace {

using namespace vg;
using test::SvmStage;
using test::VmxStage;

constexpr u64 kRounds = 1'000'000;

double processor_seconds() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Runs from `rip` until the processor halts, `rounds` in R15. Nanoseconds a round.
template <class Stage>
double run(Stage& t, jit::JitEngine& engine, u64 rip, u64 rounds) {
    cpu::VpState& s = t.s();
    s.rip = rip;
    s.gpr[cpu::R15] = rounds;
    s.activity = cpu::Activity::Active;
    s.rflags = cpu::flag::Always1;
    t.vp().update_context();
    const double begin = processor_seconds();
    while (s.activity == cpu::Activity::Active) {
        t.vp().begin_slice(t.vp().now(), t.vp().now() + 1'000'000);
        (void)engine.run(t.vp());
        t.vp().end_slice();
    }
    REQUIRE(s.gpr[cpu::R15] == 0);
    REQUIRE_FALSE(t.vp().guest_mode());
    return (processor_seconds() - begin) * 1e9 / static_cast<double>(rounds);
}

void report(const char* name, double round, double without) {
    fmt::print("{}: {:.0f} ns a round, {:.0f} ns of it without exit and entry\n", name, round, without);
}

constexpr u64 kCodeWithout = 0x6000;
const std::vector<u8> kGuest = {0x0f, 0xa2, 0xeb, 0xfc};  // cpuid; jmp

}  // namespace

TEST_CASE("VMX: CPUID, VMREAD reason and RIP, VMWRITE RIP, VMRESUME") {
    VmxStage t;
    t.prepare();
    // mov eax,4402h; vmread rcx,rax; mov eax,681eh; vmread rcx,rax; add rcx,2; vmwrite rax,rcx; dec r15
    const std::vector<u8> handler = {0xb8, 0x02, 0x44, 0, 0, 0x0f, 0x78, 0xc1, 0xb8, 0x1e, 0x68, 0,    0,
                                     0x0f, 0x78, 0xc1, 0x48, 0x83, 0xc1, 2, 0x0f, 0x79, 0xc1, 0x49, 0xff, 0xcf};
    std::vector<u8> host = handler, alone = handler;
    // jz to the hlt; vmresume; hlt
    host.insert(host.end(), {0x74, 3, 0x0f, 0x01, 0xc3, 0xf4});
    // jnz to the beginning; hlt
    alone.insert(alone.end(), {0x75, static_cast<u8>(-static_cast<int>(handler.size()) - 2), 0xf4});
    t.machine.write(VmxStage::kGuestCode, kGuest);
    t.machine.write(VmxStage::kHostCode, host);
    t.machine.write(kCodeWithout, alone);
    t.machine.write(VmxStage::kCode, {0x0f, 0x01, 0xc2});  // vmlaunch
    t.write(cpu::vmx::Field::guest_rip, VmxStage::kGuestCode);
    t.machine.write(VmxStage::kCode, {0x0f, 0x01, 0xc2});
    auto engine = jit::JitEngine::create(t.machine.memory, {});
    REQUIRE(engine);
    const double first = run(t, **engine, VmxStage::kCode, 1000);
    CHECK(first > 0);
    // From the second run on the VMCS is launched, and the guest goes on where it was.
    t.machine.write(VmxStage::kCode, {0x0f, 0x01, 0xc3});
    const double round = run(t, **engine, VmxStage::kCode, kRounds);
    run(t, **engine, kCodeWithout, 1000);
    report("VMX", round, run(t, **engine, kCodeWithout, kRounds));
}

TEST_CASE("SVM: CPUID, RIP from nRIP, VMRUN") {
    SvmStage t;
    t.intercept(cpu::svm::code::kCpuid);
    // mov rcx,[VMCB + 0c8h]; mov [VMCB + 578h],rcx; dec r15
    const std::vector<u8> handler = {0x48, 0x8b, 0x0c, 0x25, 0xc8, 0x10, 0x01, 0, 0x48, 0x89, 0x0c, 0x25, 0x78,
                                     0x15, 0x01, 0,    0x49, 0xff, 0xcf};
    std::vector<u8> host = {0xb8, 0, 0x10, 0x01, 0, 0x0f, 0x01, 0xd8};  // mov eax,VMCB; vmrun
    std::vector<u8> alone = handler;
    host.insert(host.end(), handler.begin(), handler.end());
    host.insert(host.end(), {0x75, static_cast<u8>(-static_cast<int>(host.size()) - 2), 0xf4});
    alone.insert(alone.end(), {0x75, static_cast<u8>(-static_cast<int>(handler.size()) - 2), 0xf4});
    t.machine.write(SvmStage::kGuestCode, kGuest);
    t.machine.write(SvmStage::kCode, host);
    t.machine.write(kCodeWithout, alone);
    auto engine = jit::JitEngine::create(t.machine.memory, {});
    REQUIRE(engine);
    run(t, **engine, SvmStage::kCode, 1000);
    const double round = run(t, **engine, SvmStage::kCode, kRounds);
    run(t, **engine, kCodeWithout, 1000);
    report("SVM", round, run(t, **engine, kCodeWithout, kRounds));
}
