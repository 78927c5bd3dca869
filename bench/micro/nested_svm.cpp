// SVM: see rounds.h.
#include "bench/micro/rounds.h"
#include "tests/cpu/svm_stage.h"

using namespace vg;
using namespace vg::bench;
using test::SvmStage;

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
