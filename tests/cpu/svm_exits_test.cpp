// What exits say, and what they leave behind. AMD APM 2 "Instruction Intercepts" and the sections behind it.
#include "tests/cpu/svm_stage.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::SvmStage;
using namespace vg::cpu::svm;
using enum svm::Field;
namespace why = svm::code;

TEST_CASE("svm: instructions exit by their intercepts, with what decode assists tell", "[cpu][svm]") {
    struct Row {
        std::vector<u8> code;
        u32 exit;
        u64 info_1, info_2;
    };
    constexpr u64 kRip = SvmStage::kGuestCode;
    const Row rows[] = {
        {{0x0f, 0xa2}, why::kCpuid, 0, 0},
        {{0x0f, 0xaa}, why::kRsm, 0, 0},
        {{0xf4}, why::kHlt, 0, 0},
        {{0x0f, 0x08}, why::kInvd, 0, 0},
        {{0x0f, 0x09}, why::kWbinvd, 0, 0},
        {{0x0f, 0x01, 0xd9}, why::kVmmcall, 0, 0},
        {{0x0f, 0x01, 0xd8}, why::kVmrun, 0, 0},
        {{0x0f, 0x01, 0xda}, why::kVmload, 0, 0},
        {{0x0f, 0x01, 0xdb}, why::kVmsave, 0, 0},
        {{0x0f, 0x01, 0xdc}, why::kStgi, 0, 0},
        {{0x0f, 0x01, 0xdd}, why::kClgi, 0, 0},
        {{0x0f, 0x01, 0xdf}, why::kInvlpga, 0, 0},
        {{0x0f, 0x31}, why::kRdtsc, 0, 0},
        {{0x0f, 0x01, 0xf9}, why::kRdtscp, 0, 0},
        {{0x0f, 0x33}, why::kRdpmc, 0, 0},
        {{0xf3, 0x90}, why::kPause, 0, 0},
        {{0x9c}, why::kPushf, 0, 0},
        {{0x9d}, why::kPopf, 0, 0},
        {{0x48, 0xcf}, why::kIret, 0, 0},
        {{0xcd, 0x81}, why::kSoftwareInterrupt, 0x81, 0},
        {{0xf1}, why::kIcebp, 0, 0},
        {{0x0f, 0x01, 0x3c, 0x25, 0x34, 0x12, 0, 0}, why::kInvlpg, 0x1234, 0},
        {{0x0f, 0x32}, why::kMsr, 0, 0},
        {{0x0f, 0x30}, why::kMsr, 1, 0},
        {{0xe4, 0x80}, why::kIoio, 0x80 << 16 | 4 << 7 | 1 << 4 | 1, kRip + 2},
        {{0x66, 0xef}, why::kIoio, 0x3f8 << 16 | 4 << 7 | 2 << 4, kRip + 2},
        // rep outs dx, gs:[esi]
        {{0x67, 0x65, 0xf3, 0x6e}, why::kIoio, 0x3f8 << 16 | 5 << 10 | 2 << 7 | 1 << 4 | 1 << 3 | 1 << 2, kRip + 4},
        {{0x0f, 0x22, 0xd8}, why::kCrWrite + 3, kByMov | 0, 0},
        {{0x41, 0x0f, 0x20, 0xd9}, why::kCrRead + 3, kByMov | 9, 0},
        {{0x0f, 0x20, 0xc3}, why::kCrRead + 0, kByMov | 3, 0},
        {{0x0f, 0x20, 0xd3}, why::kCrRead + 2, kByMov | 3, 0},
        {{0x0f, 0x22, 0xd3}, why::kCrWrite + 2, kByMov | 3, 0},
        {{0x44, 0x0f, 0x20, 0xc3}, why::kCrRead + 8, kByMov | 3, 0},
        {{0x0f, 0x06}, why::kCrWrite + 0, 0, 0},
        {{0x0f, 0x01, 0xe3}, why::kCrRead + 0, 0, 0},
        {{0x0f, 0x01, 0xf3}, why::kCrWrite + 0, 0, 0},
        {{0x0f, 0x21, 0xfb}, why::kDrRead + 7, kByMov | 3, 0},
        {{0x0f, 0x23, 0xc1}, why::kDrWrite + 0, kByMov | 1, 0},
        {{0x0f, 0x01, 0x10}, why::kGdtrWrite, 0, 0},
        {{0x0f, 0x01, 0x18}, why::kIdtrWrite, 0, 0},
        {{0x0f, 0x01, 0x00}, why::kGdtrRead, 0, 0},
        {{0x0f, 0x01, 0x08}, why::kIdtrRead, 0, 0},
        {{0x0f, 0x00, 0xc0}, why::kLdtrRead, 0, 0},
        {{0x0f, 0x00, 0xc8}, why::kTrRead, 0, 0},
        {{0x0f, 0x00, 0xd0}, why::kLdtrWrite, 0, 0},
        {{0x0f, 0x00, 0xd8}, why::kTrWrite, 0, 0},
        {{0x66, 0x0f, 0x38, 0x82, 0x03}, why::kInvpcid, 0, 0},
        {{0x0f, 0x01, 0xd1}, why::kXsetbv, 0, 0},
    };
    for (const Row& row : rows) {
        SvmStage t;
        t.intercept(row.exit);
        t.s().gpr[RDX] = 0x3f8;
        t.s().gpr[RCX] = 3;
        t.set(guest_rax, 0x7000);
        for (u64 n = 0; n < kMsrpmSize; n += 8) t.machine.memory.write<u64>(Spa(SvmStage::kMsrpm + n), ~u64{0});
        for (u64 n = 0; n < 0x3000; n += 8) t.machine.memory.write<u64>(Spa(SvmStage::kIopm + n), ~u64{0});
        INFO("exit " << row.exit << " code " << +row.code[0] << " " << +row.code.back());
        CHECK(t.exit_of(row.code) == row.exit);
        CHECK(t.get(exit_info_1) == row.info_1);
        CHECK(t.get(exit_info_2) == row.info_2);
        CHECK(t.get(guest_rip) == kRip);
        CHECK(t.get(next_rip) == kRip + row.code.size());
        CHECK(t.get(exit_int_info) == 0);
    }
}

TEST_CASE("svm: maps let ports and MSRs pass", "[cpu][svm]") {
    SvmStage t;
    t.intercept(why::kIoio);
    t.intercept(why::kMsr);
    CHECK(t.exit_of({0xe6, 0x81, 0xe4, 0x80, 0xf4}) == why::kHlt);
    t.machine.memory.write<u8>(Spa(SvmStage::kIopm + 0x80 / 8), 2);
    CHECK(t.exit_of({0xe4, 0x80, 0xe6, 0x81, 0xf4}) == why::kIoio);
    CHECK(t.get(exit_info_1) >> 16 == 0x81);
    CHECK(t.exit_of({0x66, 0xe5, 0x80}) == why::kIoio);  // a word that touches 81H
    // rdmsr, then wrmsr, of C0000082H: only the write's bit is set
    t.machine.memory.write<u8>(Spa(SvmStage::kMsrpm + 0x800 + 0x82 / 4), 0x20);
    CHECK(t.exit_of({0xb9, 0x82, 0, 0, 0xc0, 0x0f, 0x32, 0x0f, 0x30}) == why::kMsr);
    CHECK(t.get(exit_info_1) == 1);
    CHECK(t.exit_of({0xb9, 0, 0, 0, 0x40, 0x0f, 0x32}) == why::kMsr);  // in no range
    CHECK(t.exit_of({0xb9, 0x15, 0, 1, 0xc0, 0x0f, 0x32, 0xf4}) == why::kHlt);
    t.machine.memory.write<u8>(Spa(SvmStage::kMsrpm + 0x1000 + 0x15 / 4), 1 << 2);
    CHECK(t.exit_of({0xb9, 0x15, 0, 1, 0xc0, 0x0f, 0x32, 0xf4}) == why::kMsr);
}

TEST_CASE("svm: a selective CR0 write is one that changes more than TS and MP", "[cpu][svm]") {
    SvmStage t;
    t.intercept(why::kCr0SelectiveWrite);
    CHECK(t.exit_of({0x0f, 0x06, 0xf4}) == why::kHlt);  // CLTS
    // mov guest_rax,cr0; or eax,8; mov guest_cr0,rax; hlt
    CHECK(t.exit_of({0x0f, 0x20, 0xc0, 0x83, 0xc8, 8, 0x0f, 0x22, 0xc0, 0xf4}) == why::kHlt);
    // the same with AM
    CHECK(t.exit_of({0x0f, 0x20, 0xc0, 0x0d, 0, 0, 4, 0, 0x0f, 0x22, 0xc0, 0xf4}) == why::kCr0SelectiveWrite);
    CHECK(t.exit_of({0x0f, 0x01, 0xf0, 0xf4}) == why::kCr0SelectiveWrite);  // LMSW
    t.intercept(why::kCrWrite);
    CHECK(t.exit_of({0x0f, 0x20, 0xc0, 0x0d, 0, 0, 4, 0, 0x0f, 0x22, 0xc0, 0xf4}) == why::kCrWrite);
}

TEST_CASE("svm: debug registers exit behind the checks of their use", "[cpu][svm]") {
    SvmStage t;
    t.set(intercept_dr, 0xffffffff);
    t.add(guest_cr4, cr4::DE);
    CHECK(t.exit_of({0x0f, 0x21, 0xe3}) == why::kHlt);  // #UD: DR4
    CHECK(t.get(guest_rip) == SvmStage::handler(6));
    t.set(guest_rsp, SvmStage::kGuestStack);
    CHECK(t.exit_of({0x0f, 0x21, 0xf3}) == why::kDrRead + 6);
}

TEST_CASE("svm: exceptions exit with error code, address and the instruction's bytes", "[cpu][svm]") {
    SvmStage t;
    for (const u32 vector : {1u, 3u, 6u, 14u}) t.intercept(why::kException + vector);
    CHECK(t.exit_of({0x0f, 0x0b}) == why::kException + 6);
    CHECK(t.get(next_rip) == 0);
    CHECK(t.exit_of({0xcc}) == why::kException + 3);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode);
    CHECK(t.get(next_rip) == SvmStage::kGuestCode + 1);
    t.set(guest_cr2, 7);
    // mov guest_rax,[abs 0x1ffffffff8]: not mapped
    CHECK(t.exit_of({0x48, 0xa1, 0xf8, 0xff, 0xff, 0xff, 0x1f, 0, 0, 0, 0xf4}) == why::kException + 14);
    CHECK(t.get(exit_info_1) == 0);
    CHECK(t.get(exit_info_2) == 0x1ffffffff8);
    CHECK(t.get(guest_cr2) == 7);
    CHECK(t.get(insn_bytes_low) == 0x1f'ffff'fff8'a148'0a);
    CHECK(t.get(insn_bytes_high) == 0);
    // A single step: DR6 is the handler's already.
    t.set(guest_rflags, flag::Always1 | flag::TF);
    CHECK(t.exit_of({0x90, 0x90, 0xf4}) == why::kException + 1);
    CHECK((t.get(guest_dr6) & dr6::BS) != 0);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode + 1);
    // INT1 has its own intercept.
    t.set(guest_rflags, flag::Always1);
    CHECK(t.exit_of({0xf1}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::handler(1));
}

TEST_CASE("svm: nested page faults say what was tried, what is there and where", "[cpu][svm]") {
    SvmStage t;
    t.nest();
    const std::vector<u8> load = {0x8a, 0x04, 0x25, 0x08, 0x70, 0, 0, 0xf4},
                          store = {0x88, 0x04, 0x25, 0x08, 0x70, 0, 0, 0xf4};
    CHECK(t.exit_of(load) == why::kHlt);
    const auto set_page = [&](u64 page, u64 entry) {
        t.set_nested(page, entry);
        t.vp().tlb().flush_all();
        t.vp().tlb().flush_slat(0);
    };
    set_page(0x7000, 0);
    CHECK(t.exit_of(load) == why::kNestedPageFault);
    CHECK(t.get(exit_info_1) == (npf::kFinal | npf::kUser));
    CHECK(t.get(exit_info_2) == 0x7008);
    CHECK((t.get(insn_bytes_low) & 0xff) == 7);
    CHECK(t.get(next_rip) == 0);
    set_page(0x7000, 0x7005);
    CHECK(t.exit_of(load) == why::kHlt);
    CHECK(t.exit_of(store) == why::kNestedPageFault);
    CHECK(t.get(exit_info_1) == (npf::kFinal | npf::kUser | npf::kWrite | npf::kPresent));
    set_page(0x7000, 0x7003);  // the supervisor's
    CHECK(t.exit_of(load) == why::kNestedPageFault);
    CHECK(t.get(exit_info_1) == (npf::kFinal | npf::kUser | npf::kPresent));
    set_page(0x7000, 0x7007 | u64{1} << 50);
    CHECK(t.exit_of(load) == why::kNestedPageFault);
    CHECK(t.get(exit_info_1) == (npf::kFinal | npf::kUser | npf::kPresent | npf::kReserved));
    set_page(0x7000, 0x7007);
    set_page(SvmStage::kGuestCode, SvmStage::kGuestCode | 7 | u64{1} << 63);
    CHECK(t.exit_of(load) == why::kNestedPageFault);
    CHECK(t.get(exit_info_1) == (npf::kFinal | npf::kUser | npf::kPresent | npf::kFetch));
    CHECK(t.get(exit_info_2) == SvmStage::kGuestCode);
    CHECK(t.get(insn_bytes_low) == 0);
    set_page(SvmStage::kGuestCode, SvmStage::kGuestCode | 7);
    set_page(0x102000, 0x102000 | 5);  // the guest's page directory: walks write
    CHECK(t.exit_of(load) == why::kNestedPageFault);
    CHECK((t.get(exit_info_1) & ~npf::kFetch) == (npf::kWalk | npf::kUser | npf::kWrite | npf::kPresent));
    CHECK((t.get(exit_info_2) & ~u64{0xfff}) == 0x102000);
}

TEST_CASE("svm: physical interrupts exit by the host's IF with V_INTR_MASKING, by the guest's without", "[cpu][svm]") {
    SvmStage t;
    t.intercept(why::kIntr);
    Apic& apic = t.vp().apic();
    apic.mmio_write(0xf0, 0x1ff);
    apic.accept(0x51, false);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kHlt);
    t.set(guest_rflags, flag::Always1 | flag::IF);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kIntr);
    CHECK(apic.requested(0x51));
    t.set(int_ctl, svm::virq::kMasking);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kHlt);  // the host's IF is clear
    t.s().rflags |= flag::IF;
    t.set(guest_rflags, flag::Always1);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kIntr);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode);
    // Not intercepted it is the guest's, whatever its IF.
    t.s().rflags |= flag::IF;
    t.intercept(why::kIntr, false);
    CHECK(t.exit_of({0x90, 0x90}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::handler(0x51));
}

TEST_CASE("svm: while GIF is clear nothing interrupts, STGI lets it in", "[cpu][svm]") {
    SvmStage t;
    t.intercept(why::kNmi);
    t.vp().request_nmi();
    CHECK(t.exit_of({0x90, 0xf4}) == why::kNmi);
    CHECK(t.s().nmi_pending == 1);
    CHECK_FALSE(t.vp().event_pending());
    CHECK(t.unit().blocks_init());
    CHECK_FALSE(t.run({0x0f, 0x01, 0xdc}));
    CHECK(t.vp().event_pending());
    t.step();
    CHECK(t.s().rip == SvmStage::handler(2));
    CHECK(t.s().nmi_pending == 0);
}

TEST_CASE("svm: a virtual interrupt waits for IF, priority, shadow and virtual GIF", "[cpu][svm]") {
    constexpr u32 kPending = svm::virq::kIrq | 5 << 16 | svm::virq::kMasking;
    const std::vector<u8> sti = {0xfb, 0x90, 0x90, 0xf4};
    SvmStage t;
    t.set(int_vector, 0x61);
    t.set(svm::Field::int_ctl, kPending);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode + 1);
    CHECK(t.exit_of(sti) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::handler(0x61));
    CHECK(t.machine.memory.read<u64>(Spa(t.get(guest_rsp))) == SvmStage::kGuestCode + 2);
    CHECK((t.get(svm::Field::int_ctl) & svm::virq::kIrq) == 0);

    t.set(guest_rflags, flag::Always1);
    t.set(svm::Field::int_ctl, kPending | 5);  // V_TPR
    CHECK(t.exit_of(sti) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode + 3);
    t.set(guest_rflags, flag::Always1 | flag::IF);
    // xor eax,eax; mov cr8,rax; hlt
    CHECK(t.exit_of({0x31, 0xc0, 0x44, 0x0f, 0x22, 0xc0, 0xf4}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::handler(0x61));
    CHECK(t.vp().apic().tpr() == 0);
    t.set(guest_rflags, flag::Always1 | flag::IF);
    t.set(svm::Field::int_ctl, kPending | 5 | svm::virq::kIgnoreTpr);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::handler(0x61));

    t.set(guest_rflags, flag::Always1 | flag::IF);
    t.set(svm::Field::int_ctl, kPending | svm::virq::kGifEnable);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kHlt);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode + 1);
    CHECK(t.exit_of({0x90, 0x0f, 0x01, 0xdc, 0x90, 0xf4}) == why::kHlt);  // STGI
    CHECK(t.get(guest_rip) == SvmStage::handler(0x61));
    CHECK((t.get(svm::Field::int_ctl) & svm::virq::kGif) != 0);

    t.intercept(why::kVintr);
    t.set(guest_rflags, flag::Always1);
    t.set(svm::Field::int_ctl, kPending);
    CHECK(t.exit_of(sti) == why::kVintr);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode + 2);
    CHECK((t.get(svm::Field::int_ctl) & svm::virq::kIrq) != 0);
}

TEST_CASE("svm: the interrupt shadow is saved and loaded", "[cpu][svm]") {
    SvmStage t;
    t.intercept(why::kCpuid);
    CHECK(t.exit_of({0xfb, 0x0f, 0xa2}) == why::kCpuid);
    CHECK(t.get(int_state) == 1);
    t.intercept(why::kVintr);
    t.set(int_vector, 0x61);
    t.set(svm::Field::int_ctl, svm::virq::kIrq | 5 << 16);
    CHECK(t.exit_of({0x90, 0x90, 0xf4}) == why::kVintr);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode + 1);
    CHECK(t.get(int_state) == 0);
}

TEST_CASE("svm: PAUSE exits when the filter's count is used up", "[cpu][svm]") {
    SvmStage t;
    t.intercept(why::kPause);
    t.set(pause_filter_count, 3);
    const std::vector<u8> pauses = {0xf3, 0x90, 0xf3, 0x90, 0xf3, 0x90, 0xf3, 0x90, 0xf4};
    CHECK(t.exit_of(pauses) == why::kPause);
    CHECK(t.get(guest_rip) == SvmStage::kGuestCode + 4);
    t.set(pause_filter_threshold, 2);
    // with three NOPs between them no PAUSE is close enough to the last
    CHECK(t.exit_of({0xf3, 0x90, 0x90, 0x90, 0x90, 0xf3, 0x90, 0x90, 0x90, 0x90, 0xf3, 0x90, 0x90, 0x90, 0x90, 0xf3,
                     0x90, 0xf4}) == why::kHlt);
}

TEST_CASE("svm: a triple fault exits as a shutdown", "[cpu][svm]") {
    SvmStage t;
    t.intercept(why::kShutdown);
    t.set(idtr_limit, 0);
    CHECK(t.exit_of({0x0f, 0x0b}) == why::kShutdown);
    CHECK(t.machine.platform.shutdowns == 0);
}
