// The SVM instructions beside VMRUN, the MSRs and CPUID. AMD APM 2 "SVM Related MSRs", APM 3.
#include "base/state.h"
#include "cpu/msr.h"
#include "tests/cpu/svm_stage.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::SvmStage;
using namespace vg::cpu::svm;
using enum svm::Field;
namespace why = svm::code;

TEST_CASE("svm: CPUID and MSRs tell what is there", "[cpu][svm]") {
    SvmStage t;
    Vp& vp = t.vp();
    CHECK((cpuid(vp, 0x80000001, 0).ecx & 1u << 2) != 0);
    CHECK((cpuid(vp, 0x80000001, 0).ecx & 1u << 12) == 0);  // SKINIT
    const CpuidRegs svm = cpuid(vp, 0x8000000a, 0);
    CHECK(svm.eax == 1);
    CHECK(svm.ebx == kAsids);
    CHECK((svm.edx & 1) != 0);
    CHECK((svm.edx & 2) != 0);
    CHECK(CpuModel::create("verdigris-v3-amd").value().leaf(0x8000000a, 0) == CpuidRegs{});
    u64 value = 0;
    CHECK_FALSE(write_msr(vp, 0xc0010117, 0x1234));
    CHECK_FALSE(write_msr(vp, 0xc0010117, u64{1} << 48));
    CHECK(write_msr(vp, 0xc0010117, 0x5000));
    CHECK(read_msr(vp, 0xc0010117, value));
    CHECK(value == 0x5000);
    CHECK(read_msr(vp, 0xc0000104, value));
    CHECK(value == kTscRatioOne);
    CHECK_FALSE(write_msr(vp, 0xc0010114, vm_cr::kSvmDisable));  // while EFER.SVME is set
    CHECK(write_msr(vp, 0xc0000080, t.s().efer & ~efer::SVME));
    CHECK(write_msr(vp, 0xc0010114, vm_cr::kSvmDisable | vm_cr::kLock));
    CHECK_FALSE(write_msr(vp, 0xc0000080, t.s().efer | efer::SVME));
    CHECK(write_msr(vp, 0xc0010114, 0));
    CHECK(read_msr(vp, 0xc0010114, value));
    CHECK(value == (vm_cr::kSvmDisable | vm_cr::kLock));
    test::TestVp other("verdigris-v3-amd");
    CHECK_FALSE(read_msr(*other.vp, 0xc0010117, value));
}

TEST_CASE("svm: VMSAVE writes what VMLOAD reads", "[cpu][svm]") {
    SvmStage t;
    VpState& s = t.s();
    s.kernel_gs_base = 0x1111;
    s.star = 0x2222;
    s.lstar = 0x3333;
    s.sfmask = 0x4444;
    s.sysenter_eip = 0x5555;
    s.segment(Seg::FS).base = 0x6666;
    s.segment(Seg::LDTR) = {0x7777, 0x77, 0x38, 0x82};
    const SegmentReg tr = s.segment(Seg::TR);
    s.gpr[RAX] = SvmStage::kOther;
    CHECK_FALSE(t.run({0x0f, 0x01, 0xdb}));
    CHECK(t.machine.memory.read<u64>(Spa(SvmStage::kOther)) == 0);  // nothing else is written
    s.kernel_gs_base = s.star = s.lstar = s.sfmask = s.sysenter_eip = s.segment(Seg::FS).base = 0;
    s.segment(Seg::LDTR) = s.segment(Seg::TR) = {};
    CHECK_FALSE(t.run({0x0f, 0x01, 0xda}));
    CHECK(s.kernel_gs_base == 0x1111);
    CHECK(s.star == 0x2222);
    CHECK(s.lstar == 0x3333);
    CHECK(s.sfmask == 0x4444);
    CHECK(s.sysenter_eip == 0x5555);
    CHECK(s.segment(Seg::FS).base == 0x6666);
    CHECK(s.segment(Seg::LDTR).base == 0x7777);
    CHECK(s.segment(Seg::LDTR).limit == 0x77);
    CHECK(s.segment(Seg::TR).base == tr.base);
    CHECK(s.segment(Seg::TR).attributes == tr.attributes);
    s.gpr[RAX] = 8;
    CHECK(t.run({0x0f, 0x01, 0xda}) == kGeneralProtection);
}

TEST_CASE("svm: a guest's VMLOAD is guest-physical where that is virtualized", "[cpu][svm]") {
    SvmStage t;
    t.nest();
    t.set(virt_ext, svm::extras::kVmload);
    t.set(guest_rax, 0x7000);
    t.set_nested(0x7000, SvmStage::kOther | 7);
    t.machine.memory.write<u64>(Spa(SvmStage::kOther + field_row(star).offset), 0xabcd);
    CHECK(t.exit_of({0x0f, 0x01, 0xda, 0xf4}) == why::kHlt);
    CHECK(t.s().star == 0xabcd);
    t.set_nested(0x7000, 0);
    t.set(svm::Field::tlb_control, svm::tlb_flush::kEverything);
    CHECK(t.exit_of({0x0f, 0x01, 0xda, 0xf4}) == why::kNestedPageFault);
    CHECK(t.get(exit_info_2) == 0x7000);
}

TEST_CASE("svm: without SVME, or outside CPL 0, the instructions fault", "[cpu][svm]") {
    for (const u8 last : std::initializer_list<u8>{0xd8, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf}) {
        SvmStage t;
        t.machine.map_user(SvmStage::kCode, 1);
        INFO(+last);
        t.s().cpl = 3;
        t.vp().update_context();
        CHECK(t.run({0x0f, 0x01, last}) == (last == 0xde ? kInvalidOpcode : kGeneralProtection));  // no SKINIT at all
        t.s().efer &= ~efer::SVME;
        CHECK(t.run({0x0f, 0x01, last}) == kInvalidOpcode);
    }
    SvmStage t;
    CHECK(t.run({0x0f, 0x01, 0xde}) == kInvalidOpcode);  // SKINIT
    CHECK(t.run({0x0f, 0x01, 0xd9}) == kInvalidOpcode);  // VMMCALL without a hypervisor
}

TEST_CASE("svm: INVLPGA drops one page of one ASID", "[cpu][svm]") {
    SvmStage t;
    const std::vector<u8> load = {0x8a, 0x04, 0x25, 0x08, 0x70, 0, 0, 0xf4};
    t.machine.map_user(0, 512);  // 4 KiB pages
    t.intercept(why::kException + 14);
    CHECK(t.exit_of(load) == why::kHlt);
    const u64 table = t.machine.memory.read<u64>(Spa(test::TestVp::kTables + 0x2000)) & ~kPageMask;
    t.machine.memory.write<u64>(Spa(table + 8 * 7), 0);
    CHECK(t.exit_of(load) == why::kHlt);  // still there
    const auto invlpga = [&](u64 asid) {
        t.s().gpr[RAX] = 0x7008;
        t.s().gpr[RCX] = asid;
        CHECK_FALSE(t.run({0x0f, 0x01, 0xdf}));
    };
    invlpga(2);
    CHECK(t.exit_of(load) == why::kHlt);
    invlpga(1);
    CHECK(t.exit_of(load) == why::kException + 14);
}
