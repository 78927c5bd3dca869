// VT-x: see rounds.h.
#define CATCH_CONFIG_MAIN
#include "bench/micro/rounds.h"
#include "tests/cpu/vmx_stage.h"

using namespace vg;
using namespace vg::bench;
using test::VmxStage;

namespace {

/// The guest's space is the host's, through EPT and with a VPID: as hypervisors of today run guests.
void add_second_level(VmxStage& t) {
    using namespace cpu::vmx;
    constexpr u64 kPml4 = 0x40000, kPdpt = 0x41000, kPd = 0x42000;
    mmu::PhysicalMemory& memory = t.machine.memory;
    memory.write<u64>(Spa(kPml4), kPdpt | 7);
    memory.write<u64>(Spa(kPdpt), kPd | 7);
    for (u64 n = 0; n < 512; ++n) memory.write<u64>(Spa(kPd + 8 * n), n << 21 | 0xb7);
    t.add(Field::proc2_controls, proc2::kEpt | proc2::kVpid);
    t.write(Field::ept_pointer, kPml4 | 0x1e);
    t.write(Field::vpid, 1);
}

void measure(VmxStage& t, const char* name) {
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
    report(name, round, run(t, **engine, kCodeWithout, kRounds));
}

}  // namespace

TEST_CASE("VMX: CPUID, VMREAD reason and RIP, VMWRITE RIP, VMRESUME") {
    VmxStage with, without;
    with.prepare();
    add_second_level(with);
    measure(with, "VMX with EPT and VPID");
    without.prepare();
    measure(without, "VMX without, where each entry and exit flushes");
}
