// What exits say, and what they leave behind. SDM 3C "VM Exits", "VMX Non-Root Operation".
#include "tests/cpu/vmx_stage.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::VmxStage;
using namespace vg::cpu::vmx;
using enum vmx::Field;
namespace why = vmx::reason;

namespace {

u64 qualification(VmxStage& t) { return t.read(exit_qualification); }

}  // namespace

TEST_CASE("vmx: instructions exit with reason, length and qualification", "[cpu][vmx]") {
    struct Row {
        std::vector<u8> code;
        u32 reason;
        u64 qualification;
        u64 proc, proc2;
    };
    const Row rows[] = {
        {{0x0f, 0xa2}, why::kCpuid, 0, 0, 0},
        {{0xf4}, why::kHlt, 0, 0, 0},
        {{0x0f, 0x08}, why::kInvd, 0, 0, 0},
        {{0x0f, 0x09}, why::kWbinvd, 0, 0, proc2::kWbinvd},
        {{0x0f, 0x01, 0xc1}, why::kVmcall, 0, 0, 0},
        {{0x0f, 0x01, 0xc2}, why::kVmlaunch, 0, 0, 0},
        {{0x0f, 0x01, 0xc4}, why::kVmxoff, 0, 0, 0},
        {{0x0f, 0x78, 0xc1}, why::kVmread, 0, 0, 0},
        {{0x0f, 0x31}, why::kRdtsc, 0, proc::kRdtsc, 0},
        {{0x0f, 0x01, 0xf9}, why::kRdtscp, 0, proc::kRdtsc, proc2::kRdtscp},
        {{0x0f, 0x33}, why::kRdpmc, 0, proc::kRdpmc, 0},
        {{0xf3, 0x90}, why::kPause, 0, proc::kPause, 0},
        {{0x0f, 0x01, 0x3c, 0x25, 0x34, 0x12, 0, 0}, why::kInvlpg, 0x1234, proc::kInvlpg, 0},
        {{0x0f, 0x32}, why::kRdmsr, 0, 0, 0},
        {{0x0f, 0x30}, why::kWrmsr, 0, 0, 0},
        {{0xe4, 0x80}, why::kIo, 0x80 << 16 | 1 << 6 | 1 << 3, proc::kUnconditionalIo, 0},
        {{0x66, 0xef}, why::kIo, u64{0x3f8} << 16 | 1, proc::kUnconditionalIo, 0},
        {{0x0f, 0x22, 0xd8}, why::kCrAccess, 3, proc::kCr3Load, 0},
        {{0x41, 0x0f, 0x20, 0xd9}, why::kCrAccess, 3 | 1 << 4 | 9 << 8, proc::kCr3Store, 0},
        {{0x44, 0x0f, 0x20, 0xc3}, why::kCrAccess, 8 | 1 << 4 | 3 << 8, proc::kCr8Store, 0},
        {{0x0f, 0x21, 0xfb}, why::kMovDr, 7 | 1 << 4 | 3 << 8, proc::kMovDr, 0},
        {{0x0f, 0x01, 0x53, 0x10}, why::kGdtrIdtr, 0x10, 0, proc2::kDescriptorTables},
        {{0x0f, 0x00, 0xc8}, why::kLdtrTr, 0, 0, proc2::kDescriptorTables},
    };
    for (const Row& row : rows) {
        VmxStage t;
        t.prepare();
        t.add(proc_controls, row.proc);
        t.add(proc2_controls, row.proc2);
        t.s().gpr[RDX] = 0x3f8;
        INFO("reason " << row.reason << " code " << +row.code[0] << " " << +row.code.back());
        CHECK(t.exit_of(row.code) == row.reason);
        CHECK(qualification(t) == row.qualification);
        CHECK(t.read(exit_insn_length) == row.code.size());
        CHECK(t.read(guest_rip) == VmxStage::kGuestCode);
        CHECK((t.read(entry_interruption) & interruption::kValid) == 0);
    }
}

TEST_CASE("vmx: without VM functions there is no VMFUNC", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.write(exception_bitmap, 1u << kInvalidOpcode);
    CHECK(t.exit_of({0x0f, 0x01, 0xd4}) == why::kExceptionOrNmi);
    CHECK((t.read(exit_interruption) & 0xff) == kInvalidOpcode);
}

TEST_CASE("vmx: bitmaps let ports and MSRs pass", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.add(proc_controls, proc::kIoBitmaps | proc::kMsrBitmaps);
    t.write(io_bitmap_a, 0x30000);
    t.write(io_bitmap_b, 0x31000);
    t.write(msr_bitmaps, 0x32000);
    CHECK(t.exit_of({0xe6, 0x81, 0xe4, 0x80, 0xf4}) == why::kHlt);
    CHECK(t.exit_of({0xb9, 0x10, 0, 0, 0, 0x0f, 0x32, 0xf4}) == why::kHlt);
    t.machine.memory.write<u8>(Spa(0x30000 + 0x80 / 8), 2);
    CHECK(t.exit_of({0xe4, 0x80, 0xe6, 0x81, 0xf4}) == why::kIo);
    CHECK(qualification(t) >> 16 == 0x81);
    CHECK(t.exit_of({0x66, 0xe5, 0x80}) == why::kIo);  // a word that touches 81H
    t.machine.memory.write<u8>(Spa(0x32000 + 0xc00 + 0x82 / 8), 4);
    CHECK(t.exit_of({0xb9, 0x82, 0, 0, 0xc0, 0x0f, 0x32, 0x0f, 0x30}) == why::kWrmsr);
    CHECK(t.exit_of({0xb9, 0, 0, 0, 0x40, 0x0f, 0x32}) == why::kRdmsr);  // in no range
}

TEST_CASE("vmx: control registers are split by mask and shadow", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.write(cr0_mask, cr0::TS | cr0::WP);
    t.write(cr0_shadow, cr0::TS);
    t.write(cr4_mask, cr4::VMXE);
    t.write(cr4_shadow, 0);
    // mov rax,cr0; mov rbx,cr4; hlt
    CHECK(t.exit_of({0x0f, 0x20, 0xc0, 0x0f, 0x20, 0xe3, 0xf4}) == why::kHlt);
    CHECK(t.s().gpr[RBX] == (t.s().cr4 & ~cr4::VMXE));
    CHECK(t.read(guest_rip) == VmxStage::kGuestCode + 6);
    // clts: the shadow says that TS is set
    CHECK(t.exit_of({0x0f, 0x06}) == why::kCrAccess);
}

TEST_CASE("vmx: CLTS exits if mask and shadow have TS, and does nothing if only the mask has", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.write(cr0_mask, cr0::TS);
    t.write(cr0_shadow, cr0::TS);
    CHECK(t.exit_of({0x0f, 0x06, 0xf4}) == why::kCrAccess);
    CHECK(qualification(t) == 2 << 4);
    t.write(cr0_shadow, 0);
    t.add(guest_cr0, cr0::TS);
    CHECK(t.exit_of({0x0f, 0x06, 0xf4}) == why::kHlt);
    CHECK((t.read(guest_cr0) & cr0::TS) != 0);
}

TEST_CASE("vmx: exceptions exit by bitmap, page faults by their error codes too", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.write(exception_bitmap, 1u << 6 | 1u << 3 | 1u << 14);
    CHECK(t.exit_of({0x0f, 0x0b}) == why::kExceptionOrNmi);
    CHECK(t.read(exit_interruption) == (interruption::kValid | 3 << 8 | 6));
    CHECK((t.read(guest_rflags) & flag::RF) != 0);
    CHECK(t.exit_of({0xcc}) == why::kExceptionOrNmi);
    CHECK(t.read(exit_interruption) == (interruption::kValid | 6 << 8 | 3));
    CHECK(t.read(exit_insn_length) == 1);
    // mov eax,[abs 0x1ffffffff8]: not mapped
    const std::vector<u8> load = {0x48, 0xa1, 0xf8, 0xff, 0xff, 0xff, 0x1f, 0, 0, 0, 0xf4};
    t.write(guest_rflags, flag::Always1);
    CHECK(t.exit_of(load) == why::kExceptionOrNmi);
    CHECK(t.read(exit_interruption) == (interruption::kValid | interruption::kErrorCode | 3 << 8 | 14));
    CHECK(qualification(t) == 0x1ffffffff8);
    t.write(page_fault_mask, 1);
    t.write(page_fault_match, 1);
    CHECK(t.exit_of(load) == why::kHlt);  // through the guest's own handler
    CHECK(t.read(guest_rip) == VmxStage::handler(14));
    CHECK(t.s().cr2 == 0x1ffffffff8);
}

TEST_CASE("vmx: an injected event is delivered first, and a fault in its delivery tells of it", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.write(entry_interruption, interruption::kValid | 3 << 8 | 1 << 11 | 13);
    t.write(entry_error_code, 0x1234);
    CHECK(t.exit_of({0x0f, 0xa2}) == why::kHlt);
    CHECK(t.read(guest_rip) == VmxStage::handler(13));
    CHECK(t.machine.memory.read<u64>(Spa(t.read(guest_rsp))) == 0x1234);

    t.write(guest_rip, VmxStage::kGuestCode);
    t.write(guest_rsp, 0x1ffffffff0);  // a stack that is not there
    t.write(exception_bitmap, 1u << 14);
    t.write(entry_interruption, interruption::kValid | 4 << 8 | 0x80);
    t.write(entry_insn_length, 2);
    CHECK(t.exit_of({0xcd, 0x80}) == why::kExceptionOrNmi);
    CHECK((t.read(exit_interruption) & 0xff) == 14);
    CHECK(t.read(vectoring) == (interruption::kValid | 4 << 8 | 0x80));
    CHECK(t.read(exit_insn_length) == 2);
    CHECK(t.read(guest_rip) == VmxStage::kGuestCode);
}

TEST_CASE("vmx: windows open with RFLAGS.IF and behind the shadow of STI", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.add(proc_controls, proc::kInterruptWindow);
    CHECK(t.exit_of({0x90, 0xfb, 0x90, 0x90, 0xf4}) == why::kInterruptWindow);
    CHECK(t.read(guest_rip) == VmxStage::kGuestCode + 3);
}

TEST_CASE("vmx: an external interrupt exits whatever IF says, acknowledged or not", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.add(pin_controls, pin::kExternalInterrupt);
    Apic& apic = t.vp().apic();
    apic.mmio_write(0xf0, 0x1ff);
    apic.accept(0x51, false);
    CHECK(t.exit_of({0x90, 0x90}) == why::kExternalInterrupt);
    CHECK(t.read(exit_interruption) == 0);
    CHECK(apic.requested(0x51));
    t.add(exit_controls, exits::kAcknowledge);
    CHECK(t.exit_of({0x90, 0x90}) == why::kExternalInterrupt);
    CHECK(t.read(exit_interruption) == (interruption::kValid | 0x51));
    CHECK(apic.in_service(0x51));
}

TEST_CASE("vmx: NMIs exit and block, virtual NMIs have a window", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.add(pin_controls, pin::kNmi | pin::kVirtualNmis);
    t.vp().request_nmi();
    CHECK(t.exit_of({0x90}) == why::kExceptionOrNmi);
    CHECK(t.read(exit_interruption) == (interruption::kValid | 2 << 8 | 2));
    CHECK(t.s().nmi_blocked == 1);
    t.s().nmi_blocked = 0;
    t.add(proc_controls, proc::kNmiWindow);
    t.write(guest_interruptibility, interruptibility::kNmi);
    // iretq to the next instruction: unblocks
    t.s().rip = VmxStage::kHostCode;
    const u64 frame[] = {VmxStage::kGuestCode + 2, 0x08, 2, VmxStage::kGuestStack, 0x10};
    t.machine.memory.write(Spa(VmxStage::kGuestStack), frame, sizeof frame);
    CHECK(t.exit_of({0x48, 0xcf, 0x90, 0xf4}) == why::kNmiWindow);
    CHECK(t.read(guest_rip) == VmxStage::kGuestCode + 2);
    CHECK(t.read(guest_interruptibility) == 0);
}

TEST_CASE("vmx: the monitor trap flag exits behind one instruction, or one delivery", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.add(proc_controls, proc::kMonitorTrap);
    CHECK(t.exit_of({0x90, 0x90, 0xf4}) == why::kMonitorTrap);
    CHECK(t.read(guest_rip) == VmxStage::kGuestCode + 1);
    t.write(entry_interruption, interruption::kValid | 3 << 8 | 6);
    CHECK(t.exit_of({0x90, 0x90, 0xf4}) == why::kMonitorTrap);
    CHECK(t.read(guest_rip) == VmxStage::handler(6));
}

TEST_CASE("vmx: a preemption timer of 0 exits before the first instruction", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.add(pin_controls, pin::kPreemptionTimer);
    CHECK(t.exit_of({0x90, 0xf4}) == why::kPreemptionTimer);
    CHECK(t.read(guest_rip) == VmxStage::kGuestCode);
    t.write(preemption_timer, 100);
    t.add(exit_controls, exits::kSavePreemptionTimer);
    CHECK(t.exit_of({0xf4}) == why::kHlt);
    const u64 left = t.read(preemption_timer);
    CHECK(left <= 100);
    CHECK(left >= 99);
}

TEST_CASE("vmx: EPT violations say what was tried, what was allowed and where", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    constexpr u64 kPml4 = 0x40000, kPdpt = 0x41000, kPd = 0x42000, kPt = 0x43000;
    mmu::PhysicalMemory& memory = t.machine.memory;
    memory.write<u64>(Spa(kPml4), kPdpt | 7);
    memory.write<u64>(Spa(kPdpt), kPd | 7);
    for (u64 n = 0; n < 512; ++n) memory.write<u64>(Spa(kPd + 8 * n), n << 21 | 0xb7);
    memory.write<u64>(Spa(kPd), kPt | 7);
    for (u64 n = 0; n < 512; ++n) memory.write<u64>(Spa(kPt + 8 * n), n << 12 | 0x37);
    t.add(proc2_controls, proc2::kEpt);
    t.write(ept_pointer, kPml4 | 0x1e);
    CHECK(t.exit_of({0xf4}) == why::kHlt);
    const auto set_page = [&](u64 page, u64 entry) {
        memory.write<u64>(Spa(kPt + 8 * (page >> 12)), entry);
        t.vp().tlb().flush_all();
    };
    const std::vector<u8> load = {0x8a, 0x04, 0x25, 0x08, 0x70, 0, 0, 0xf4}, store = {0x88, 0x04, 0x25, 0x08, 0x70, 0, 0, 0xf4};
    set_page(0x7000, 0);
    CHECK(t.exit_of(load) == why::kEptViolation);
    CHECK(qualification(t) == 0x181);
    CHECK(t.read(guest_physical_address) == 0x7008);
    CHECK(t.read(guest_linear_address) == 0x7008);
    set_page(0x7000, 0x7000 | 0x35);
    CHECK(t.exit_of(load) == why::kHlt);
    CHECK(t.read(guest_rip) == VmxStage::kGuestCode + 7);
    t.write(guest_rip, VmxStage::kGuestCode);
    CHECK(t.exit_of(store) == why::kEptViolation);
    CHECK(qualification(t) == (0x182 | 5 << 3));
    set_page(0x7000, 0x7000 | 0x34);  // execute-only
    CHECK(t.exit_of(load) == why::kEptViolation);
    CHECK(qualification(t) == (0x181 | 4 << 3));
    set_page(0x7000, 0x7000 | 0x32);  // write-only
    CHECK(t.exit_of(load) == why::kEptMisconfiguration);
    CHECK(t.read(guest_physical_address) == 0x7008);
    set_page(0x7000, 0x7000 | 0x37);
    set_page(VmxStage::kGuestCode, VmxStage::kGuestCode | 0x33);
    CHECK(t.exit_of(load) == why::kEptViolation);
    CHECK(qualification(t) == (0x184 | 3 << 3));
    set_page(VmxStage::kGuestCode, VmxStage::kGuestCode | 0x37);
    // the guest's own tables lie behind another entry: 2 MiB page 0 is split, they are at 1 MiB
    memory.write<u64>(Spa(kPt + 8 * 0x102), 0);
    t.vp().tlb().flush_all();
    CHECK(t.exit_of(load) == why::kEptViolation);
    CHECK((qualification(t) & 0x1ff) == 0x81);
    CHECK((t.read(guest_physical_address) & ~u64{0xfff}) == 0x102000);
}

TEST_CASE("vmx: what the guest had comes back at its next entry", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    // mov ax,0x10; mov gs,ax; stc; cpuid
    CHECK(t.exit_of({0x66, 0xb8, 0x10, 0, 0x8e, 0xe8, 0xf9, 0x0f, 0xa2}) == why::kCpuid);
    CHECK(t.read(guest_gs_selector) == 0x10);
    CHECK((t.read(guest_rflags) & flag::CF) != 0);
    CHECK((t.s().rflags & ~flag::Status) == flag::Always1);
    CHECK(t.s().segment(Seg::GS).selector == 0);
    CHECK(t.s().dr[7] == 0x400);
    CHECK(t.s().gpr[RSP] == VmxStage::kStack);
}

TEST_CASE("vmx: the TSC of a guest has its offset, the host's has not", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.add(proc_controls, proc::kTscOffset);
    t.write(tsc_offset, u64{1} << 40);
    CHECK(t.exit_of({0x0f, 0x31, 0xf4}) == why::kHlt);
    CHECK(t.s().gpr[RDX] == 1u << 8);
    CHECK(t.vp().tsc() < u64{1} << 40);
}
