// VMRUN's checks, what it loads and injects. AMD APM 2 "VMRUN Instruction", "Event Injection".
#include "cpu/msr.h"
#include "tests/cpu/svm_stage.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::SvmStage;
using namespace vg::cpu::svm;
using enum svm::Field;
namespace why = svm::code;

namespace {

constexpr u64 kException = u64{event::kException} << 8 | event::kValid;

}  // namespace

TEST_CASE("svm: each rule of VMRUN is broken by its field and gives VMEXIT_INVALID", "[cpu][svm]") {
    struct Row {
        Field field;
        u64 value;  ///< the whole field
        const char* text;
    };
    const u64 beyond = u64{1} << 48;
    SvmStage plain;
    const Row rows[] = {
        {guest_efer, plain.get(guest_efer) & ~cpu::efer::SVME, "EFER.SVME is 1"},
        {guest_cr0, plain.get(guest_cr0) | cpu::cr0::NW, "CR0.NW is 0 if CR0.CD is"},
        {guest_cr0, plain.get(guest_cr0) | u64{1} << 32, "the upper half of CR0 is 0"},
        {guest_cr3, beyond, "CR3 has no reserved bit"},
        {guest_cr3, u64{1} << 63, "CR3 has no reserved bit"},
        {guest_cr4, plain.get(guest_cr4) | u64{1} << 31, "CR4 has no reserved bit"},
        {guest_dr6, u64{1} << 32, "the upper half of DR6 is 0"},
        {guest_dr7, u64{1} << 32, "the upper half of DR7 is 0"},
        {guest_efer, plain.get(guest_efer) | u64{1} << 9, "EFER has no reserved bit"},
        {guest_cr4, plain.get(guest_cr4) & ~cpu::cr4::PAE, "CR4.PAE is 1 in long mode with paging"},
        {guest_cr0, plain.get(guest_cr0) & ~cpu::cr0::PE, "CR0.PE is 1 in long mode with paging"},
        {cs_attributes, plain.get(cs_attributes) | 0x400, "CS.L and CS.D are not both 1 in long mode with paging"},
        {intercept_4, 0, "VMRUN is intercepted"},
        {msrpm_base, beyond - 0x2000, "the MSR permission map is within physical addresses"},
        {iopm_base, beyond - 0x2000, "the I/O permission map is within physical addresses"},
        {event_inj, event::kValid | 1 << 8, "the type of the event to inject exists"},
        {event_inj, event::kValid | 5 << 8, "the type of the event to inject exists"},
        {event_inj, kException | 32, "the exception to inject exists in the guest's mode"},
        {event_inj, kException | 2, "the exception to inject exists in the guest's mode"},
        {event_inj, kException | 4, "the exception to inject exists in the guest's mode"},
        {int_ctl, virq::kNmiEnable, "NMIs are intercepted if they are virtual"},
        {guest_asid, 0, "the ASID is not 0"},
        {guest_asid, kAsids, "the ASID is one of those that there are"},
        {nested_cr3, beyond, "nCR3 has no reserved bit"},
        {g_pat, 0x02, "G_PAT holds memory types"},
    };
    for (const Row& row : rows) {
        SvmStage t;
        t.nest();
        CHECK(t.exit_of({0xf4}) == why::kHlt);
        t.set(row.field, row.value);
        INFO(row.text);
        CHECK(t.exit_of({0xf4}) == svm::code::kInvalid);
        REQUIRE(t.unit().last_violation());
        CHECK(t.unit().last_violation()->text == row.text);
        CHECK(t.unit().last_violation()->value == row.value);
        CHECK(t.get(guest_rip) == SvmStage::kGuestCode);
        CHECK_FALSE(t.unit().global_interrupts());
    }
}

TEST_CASE("svm: VMRUN needs SVME, protected mode, CPL 0 and an aligned address", "[cpu][svm]") {
    SvmStage t;
    CHECK(t.vmrun(SvmStage::kVmcb + 8) == kGeneralProtection);
    CHECK(t.vmrun(u64{1} << 48) == kGeneralProtection);
    t.s().cpl = 3;
    t.vp().update_context();
    t.machine.map_user(SvmStage::kCode, 1);
    CHECK(t.vmrun() == kGeneralProtection);
    t.s().cpl = 0;
    t.s().efer &= ~efer::SVME;
    t.vp().update_context();
    CHECK(t.vmrun() == kInvalidOpcode);
}

TEST_CASE("svm: an exit brings back the host, and saves what the guest had", "[cpu][svm]") {
    SvmStage t;
    t.s().gpr[RBX] = 5;
    t.set(guest_rax, 7);
    t.set(guest_cr2, 0x1234);
    t.set(guest_dr6, 0xffff0ff1);
    t.set(es_base, 0xffff'8000'0000);  // made canonical
    // stc; mov ebx,9; hlt
    CHECK(t.exit_of({0xf9, 0xbb, 9, 0, 0, 0, 0xf4}) == why::kHlt);
    CHECK(t.s().gpr[RAX] == SvmStage::kVmcb);
    CHECK(t.s().gpr[RSP] == SvmStage::kStack);
    CHECK(t.s().gpr[RBX] == 9);  // general registers are nobody's
    CHECK(t.get(guest_rax) == 7);
    CHECK(t.get(guest_rsp) == SvmStage::kGuestStack);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode + 6);
    CHECK(t.get(next_rip) == SvmStage::kGuestCode + 7);
    CHECK((t.get(guest_rflags) & flag::CF) != 0);
    CHECK(t.get(guest_cr2) == 0x1234);
    CHECK(t.get(guest_dr6) == 0xffff0ff1);
    CHECK(t.get(es_base) == 0xffff'8000'0000 + 0xffff'0000'0000'0000);
    CHECK((t.s().rflags & flag::CF) == 0);
    CHECK(t.s().dr[7] == 0x400);
    CHECK_FALSE(t.unit().global_interrupts());
}

TEST_CASE("svm: an injected event is delivered first, and a fault in its delivery tells of it", "[cpu][svm]") {
    SvmStage t;
    t.set(event_inj, kException | event::kErrorCode | 13 | u64{0x1234} << 32);
    CHECK(t.exit_of({0x0f, 0xa2}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::handler(13));
    CHECK(t.machine.memory.read<u64>(Spa(t.get(guest_rsp))) == 0x1234);
    CHECK(t.get(event_inj) == 0);

    t.set(guest_rsp, 0x1ffffffff0);  // a stack that is not there
    t.intercept(why::kException + 14);
    t.set(event_inj, u64{event::kSoftwareInterrupt} << 8 | event::kValid | 0x80);
    t.set(next_rip, SvmStage::kGuestCode + 2);
    CHECK(t.exit_of({0xcd, 0x80}) == why::kException + 14);
    CHECK(t.get(exit_int_info) == (u64{event::kSoftwareInterrupt} << 8 | event::kValid | 0x80));
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode);
    CHECK(t.get(next_rip) == 0);

    // What INT n pushes is the nRIP of the VMCB, wherever that is.
    t.set(guest_rsp, SvmStage::kGuestStack);
    t.set(event_inj, u64{event::kSoftwareInterrupt} << 8 | event::kValid | 0x80);
    t.set(next_rip, 0x123456789);
    CHECK(t.exit_of({0xcd, 0x80}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::handler(0x80));
    CHECK(t.machine.memory.read<u64>(Spa(t.get(guest_rsp))) == 0x123456789);
}

TEST_CASE("svm: a host that single-steps traps behind its VMRUN, after the exit", "[cpu][svm]") {
    SvmStage t;
    t.s().rflags |= flag::TF;
    CHECK(t.exit_of({0x90, 0xf4}) == why::kHlt);
    CHECK(t.s().debug_pending == 1);
    t.step();
    CHECK(t.s().rip == SvmStage::handler(1));
    CHECK((t.s().dr[6] & dr6::BS) != 0);
    CHECK(t.machine.memory.read<u64>(Spa(t.s().gpr[RSP])) == SvmStage::kHostCode);
}

TEST_CASE("svm: a guest starts in real mode", "[cpu][svm]") {
    SvmStage t;
    t.set(guest_efer, efer::SVME);
    t.set(guest_cr0, cr0::ET);
    t.set(guest_cr4, 0);
    t.set(cs_selector, 0);
    t.set(cs_attributes, 0x9b);
    t.set(cs_limit, 0xffff);
    t.set(guest_cpl, 3);  // counts for nothing there
    // mov ax,0x1234; hlt
    CHECK(t.exit_of({0xb8, 0x34, 0x12, 0xf4}) == why::kHlt);
    CHECK(t.get(guest_rax) == 0x1234);
    CHECK(t.get(guest_cpl) == 0);
    CHECK(t.vp().long_mode());
}

TEST_CASE("svm: with nested paging the guest has a PAT of its own", "[cpu][svm]") {
    SvmStage t;
    t.nest();
    t.set(g_pat, 0x0606060606060606);
    const u64 host = t.s().pat;
    // mov ecx,0x277; rdmsr; hlt
    CHECK(t.exit_of({0xb9, 0x77, 2, 0, 0, 0x0f, 0x32, 0xf4}) == why::kHlt);
    CHECK(t.get(guest_rax) == 0x06060606);
    CHECK(t.s().pat == host);
}

TEST_CASE("svm: the TSC of a guest has its offset and ratio, the host's has not", "[cpu][svm]") {
    SvmStage t;
    t.set(tsc_offset, u64{1} << 40);
    CHECK(t.exit_of({0x0f, 0x31, 0xf4}) == why::kHlt);
    CHECK(t.s().gpr[RDX] == 1u << 8);
    CHECK(t.vp().tsc() < u64{1} << 40);
    t.set(tsc_offset, 0);
    t.s().tsc_offset += u64{1} << 36;
    CHECK(t.unit().write_tsc_ratio(kTscRatioOne * 4));
    CHECK_FALSE(t.unit().write_tsc_ratio(u64{1} << 40));
    CHECK(t.exit_of({0x0f, 0x31, 0xf4}) == why::kHlt);
    CHECK(t.s().gpr[RDX] == 1u << 6);
    // the same through the MSR
    CHECK(t.exit_of({0xb9, 0x10, 0, 0, 0, 0x0f, 0x32, 0xf4}) == why::kHlt);
    CHECK(t.s().gpr[RDX] == 1u << 6);
}

TEST_CASE("svm: translations are tagged by ASID, and flushed where TLB_CONTROL asks for it", "[cpu][svm]") {
    SvmStage t;
    t.nest();
    // mov al,[0x7008]; hlt
    const std::vector<u8> load = {0x8a, 0x04, 0x25, 0x08, 0x70, 0, 0, 0xf4};
    CHECK(t.exit_of(load) == why::kHlt);
    t.set_nested(0x7000, 0);
    CHECK(t.exit_of(load) == why::kHlt);  // still there
    t.set(guest_asid, 2);
    CHECK(t.exit_of(load) == why::kNestedPageFault);
    t.set(guest_asid, 1);
    CHECK(t.exit_of(load) == why::kHlt);
    t.set(svm::Field::tlb_control, svm::tlb_flush::kGuest);
    CHECK(t.exit_of(load) == why::kNestedPageFault);
}

// ---- branch records: jmp +2; nop; nop; hlt at kGuestCode -----------------------------------------------------------

TEST_CASE("svm: branches are recorded, and the one before an interrupt is kept", "[cpu][svm]") {
    SvmStage t;
    VpState& s = t.s();
    u64 value = 0;
    CHECK(write_msr(t.vp(), 0x1d9, debugctl::Lbr));
    CHECK_FALSE(write_msr(t.vp(), 0x1db, 0));
    s.rip = SvmStage::kCode;
    // jmp +2; nop; nop; jz (not taken); int 0x80
    t.machine.write(SvmStage::kCode, {0xeb, 2, 0x90, 0x90, 0x74, 0x10, 0xcd, 0x80});
    t.step(2);
    const auto record = [&](u32 msr) {
        CHECK(read_msr(t.vp(), msr, value));
        return value;
    };
    CHECK(record(0x1db) == SvmStage::kCode);
    CHECK(record(0x1dc) == SvmStage::kCode + 4);
    CHECK(record(0x1dd) == 0);
    t.step();
    CHECK(s.rip == SvmStage::handler(0x80));
    CHECK(record(0x1db) == SvmStage::kCode + 6);
    CHECK(record(0x1dc) == SvmStage::handler(0x80));
    CHECK(record(0x1dd) == SvmStage::kCode);
    CHECK(record(0x1de) == SvmStage::kCode + 4);
    // A #DB ends the records, and is in none.
    s.rip = SvmStage::kCode;
    t.machine.write(SvmStage::kCode, {0xf1});
    t.step();
    CHECK(s.rip == SvmStage::handler(1));
    CHECK((s.debugctl & debugctl::Lbr) == 0);
    CHECK(record(0x1db) == SvmStage::kCode + 6);
    // Other models have no records, and run as fast with LBR as without.
    test::TestVp other("verdigris-v3-amd");
    CHECK(write_msr(*other.vp, 0x1d9, debugctl::Lbr));
    CHECK_FALSE(other.vp->stepping());
}

TEST_CASE("svm: without LBR virtualization a guest has the host's branch records, with it its own", "[cpu][svm]") {
    const std::vector<u8> branches = {0xeb, 2, 0x90, 0x90, 0xf4};
    for (const bool own : {false, true}) {
        SvmStage t;
        INFO(own);
        t.s().debugctl = own ? 0 : debugctl::Lbr;
        const u64 host[4] = {1, 2, 3, 4};
        std::copy(std::begin(host), std::end(host), t.s().last_branch);
        t.set(dbgctl, 0xff01);
        t.set(br_from, 5);
        t.set(last_excp_to, 6);
        t.set(virt_ext, own ? extras::kLbr : 0);
        CHECK(t.exit_of(branches) == why::kHlt);
        CHECK(t.get(br_from) == (own ? SvmStage::kGuestCode : 5));
        CHECK(t.get(br_to) == (own ? SvmStage::kGuestCode + 4 : 0));
        CHECK(t.get(last_excp_to) == 6);
        CHECK(t.get(dbgctl) == (own ? debugctl::Lbr : 0xff01));  // bits that do not exist are not loaded
        CHECK(t.s().debugctl == (own ? 0 : debugctl::Lbr));
        CHECK(t.s().last_branch[0] == (own ? 1 : SvmStage::kGuestCode));
        CHECK(t.s().last_branch[1] == (own ? 2 : SvmStage::kGuestCode + 4));
        CHECK(t.s().last_branch[3] == 4);
    }
}

TEST_CASE("svm: a virtual NMI is taken once, unless one is being handled", "[cpu][svm]") {
    SvmStage t;
    t.intercept(why::kNmi);
    t.set(int_ctl, virq::kNmiEnable | virq::kNmi);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::handler(2));
    CHECK(t.get(int_ctl) == (virq::kNmiEnable | virq::kNmiMask));
    CHECK(t.s().nmi_blocked == 0);  // the host's
    // Masked: it stays pending. mov ax; hlt
    t.set(int_ctl, virq::kNmiEnable | virq::kNmi | virq::kNmiMask);
    t.set(guest_rsp, SvmStage::kGuestStack);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode + 1);
    CHECK(t.get(int_ctl) == (virq::kNmiEnable | virq::kNmi | virq::kNmiMask));
    // So does one while a virtual GIF is clear.
    t.set(int_ctl, virq::kNmiEnable | virq::kNmi | virq::kGifEnable);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode + 1);
    t.set(int_ctl, virq::kNmiEnable | virq::kNmi | virq::kGifEnable | virq::kGif);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::handler(2));
}
