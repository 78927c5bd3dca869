// VT-x: see rounds.h.
#define CATCH_CONFIG_MAIN
#include "bench/micro/rounds.h"
#include "tests/cpu/vmx_stage.h"

using namespace vg;
using namespace vg::bench;
using test::VmxStage;

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
