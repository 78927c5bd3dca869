// Which exits the VMCB asks for, and what each says. AMD APM 2 "Intercept Operation", "Instruction Intercepts",
// "Exception Intercepts", "Interrupt Intercepts", "Decode Assists".
#include "base/bits.h"
#include "cpu/isa/isa.h"
#include "cpu/spec/svm.h"
#include "cpu/svm/unit.h"
#include "cpu/virt/physical.h"

namespace vg::cpu::svm {

namespace {

using virt::Action;
using enum Field;

/// The intercept of an instruction of cpu/ops or of SVM; 0: none.
u32 instruction_code(Op op) {
    switch (op) {
        case Op::SIDT:
            return code::kIdtrRead;
        case Op::SGDT:
            return code::kGdtrRead;
        case Op::SLDT:
            return code::kLdtrRead;
        case Op::STR:
            return code::kTrRead;
        case Op::LIDT:
            return code::kIdtrWrite;
        case Op::LGDT:
            return code::kGdtrWrite;
        case Op::LLDT:
            return code::kLdtrWrite;
        case Op::LTR:
            return code::kTrWrite;
        case Op::PUSHF:
        case Op::PUSHFD:
        case Op::PUSHFQ:
            return code::kPushf;
        case Op::POPF:
        case Op::POPFD:
        case Op::POPFQ:
            return code::kPopf;
        case Op::IRET:
        case Op::IRETD:
        case Op::IRETQ:
            return code::kIret;
        case Op::INT:
            return code::kSoftwareInterrupt;
        case Op::INT1:
            return code::kIcebp;
        case Op::RSM:
            return code::kRsm;
        case Op::VMRUN:
            return code::kVmrun;
        case Op::VMMCALL:
            return code::kVmmcall;
        case Op::VMLOAD:
            return code::kVmload;
        case Op::VMSAVE:
            return code::kVmsave;
        case Op::STGI:
            return code::kStgi;
        case Op::CLGI:
            return code::kClgi;
        case Op::SKINIT:
            return code::kSkinit;
        case Op::INVLPGA:
            return code::kInvlpga;
        case Op::INVPCID:
            return code::kInvpcid;
        case Op::INVLPG:
            return code::kInvlpg;
        default:
            return 0;
    }
}

Action general_protection(virt::Exit& exit) {
    exit.fault = Fault{};
    exit.fault.vector = kGeneralProtection;
    exit.fault.has_error = true;
    return Action::Inject;
}

}  // namespace

/// RIP behind an instruction of the guest.
u64 Unit::behind(const Insn& insn) const {
    const u64 next = s_.rip + insn.length;
    return insn.mode == CodeMode::Bits64 ? next : static_cast<u32>(next);
}

ExitRecord Unit::record_of(u32 number, const virt::Exit& exit) const {
    ExitRecord record;
    record.code = number;
    if (exit.insn != nullptr) record.next_rip = behind(*exit.insn);
    return record;
}

Action Unit::leave(const ExitRecord& record) {
    exit_guest(record);
    return Action::Switch;
}

Action Unit::leave_if(u32 number, const virt::Exit& exit) {
    return intercepts(number) ? leave(record_of(number, exit)) : Action::Default;
}

Action Unit::on_exit(Vp&, virt::Exit& exit) {
    using Reason = virt::ExitReason;
    switch (exit.reason) {
        case Reason::Io:
            return on_io(exit);
        case Reason::Msr:
            return on_msr(exit);
        case Reason::Memory:
            return on_memory(exit);
        case Reason::Cr:
            return on_cr(exit);
        case Reason::Dr:
            return on_dr(exit);
        case Reason::Exception:
            return on_exception(exit);
        case Reason::Pause:
            return on_pause(exit);
        case Reason::TaskSwitch:
            return on_task_switch(exit);
        case Reason::Rdtsc:
            return on_time_stamp(exit);
        case Reason::Hypercall:
        case Reason::DescriptorTable:
        case Reason::StackedFlags:
        case Reason::Invlpg:
        case Reason::Invpcid:
        case Reason::Svm:
            return on_instruction(exit);
        case Reason::Cpuid:
            return leave_if(code::kCpuid, exit);
        case Reason::Halt:
            return leave_if(code::kHlt, exit);
        case Reason::Rdpmc:
            return leave_if(code::kRdpmc, exit);
        case Reason::Mwait:
            return leave_if(code::kMwait, exit);
        case Reason::Monitor:
            return leave_if(code::kMonitor, exit);
        case Reason::Xsetbv:
            return leave_if(code::kXsetbv, exit);
        case Reason::Invd:
            return leave_if(code::kInvd, exit);
        case Reason::Wbinvd:  // of which INVD is one, too, if it is not intercepted
            return exit.insn->op == Op::INVD ? Action::Default : leave_if(code::kWbinvd, exit);
        case Reason::TripleFault:
            return leave_if(code::kShutdown, exit);
        case Reason::ExternalInterrupt:
            return leave_if(code::kIntr, exit);
        case Reason::Nmi:
            if (!intercepts(code::kNmi)) return Action::Default;
            ++s_.nmi_pending;  // it stays pending and is the host's as soon as GIF is set
            return leave(record_of(code::kNmi, exit));
        case Reason::Init:
            if (intercepts(code::kInit)) {
                s_.init_pending = 1;  // as an NMI
                return leave(record_of(code::kInit, exit));
            }
            leave_level();  // it resets the processor, and nothing is left of the guest
            return Action::Default;
        case Reason::None:
        case Reason::Vmx:
        case Reason::Sipi:
        case Reason::InterruptWindow:
        case Reason::NmiWindow:
        case Reason::Random:
        case Reason::ApicAccess:
        case Reason::Xsaves:
            break;
    }
    return Action::Default;
}

/// APM 2 "IOIO Intercepts". The map goes on behind FFFFh for accesses that reach beyond it.
Action Unit::on_io(const virt::Exit& exit) {
    bool asked = false;
    for (u32 n = 0; n < exit.size && !asked; ++n) {
        const u32 port = u32{exit.port} + n;
        asked = bit(virt::read_physical<u8>(vp_, (vmcb_[iopm_base] & ~kPageMask) + port / 8), port & 7);
    }
    if (!asked) return Action::Default;
    ExitRecord record = record_of(code::kIoio, exit);
    const Insn& i = *exit.insn;
    const u64 segment = exit.string && exit.write ? static_cast<u64>(i.seg) & 7 : 0;
    record.info_1 = (exit.write ? 0 : io_info::kIn) | (exit.string ? io_info::kString : 0) |
                    (exit.rep ? io_info::kRep : 0) | u64{exit.size} << io_info::kSizeShift |
                    u64{i.addr_size} / 2 << io_info::kAddressShift | segment << io_info::kSegmentShift |
                    u64{exit.port} << io_info::kPortShift;
    record.info_2 = record.next_rip;
    return leave(record);
}

/// APM 2 "MSR Intercepts": two bits for each MSR of three ranges; all others are intercepted.
Action Unit::on_msr(virt::Exit& exit) {
    constexpr u32 kRange = 0x2000, kFirst[] = {0, 0xc0000000, 0xc0010000}, kTsc = 0x10;
    bool asked = intercepts(code::kMsr);
    for (u32 n = 0; n < 3 && asked; ++n) {
        const u32 index = exit.msr - kFirst[n];
        if (index >= kRange) continue;
        const u64 at = (vmcb_[msrpm_base] & ~kPageMask) + n * 0x800 + index / 4;
        asked = bit(virt::read_physical<u8>(vp_, at), (index & 3) * 2 + (exit.write ? 1 : 0));
        break;
    }
    if (asked) {
        ExitRecord record = record_of(code::kMsr, exit);
        record.info_1 = exit.write ? 1 : 0;
        return leave(record);
    }
    if (exit.msr != kTsc || exit.write || tsc_ratio_ == kTscRatioOne) return Action::Default;
    exit.value = scaled_tsc();
    return Action::Complete;
}

/// APM 2 "Nested versus Guest Page Faults, Fault Ordering".
ExitRecord Unit::nested_page_fault(const mmu::SlatFault& fault) const {
    const mmu::SlatMode slat = slat_mode();
    ExitRecord record;
    record.code = code::kNestedPageFault;
    record.info_1 = npf::kUser | (fault.present ? npf::kPresent : 0) | (fault.misconfigured ? npf::kReserved : 0) |
                    (fault.access == mmu::Access::Write ? npf::kWrite : 0) |
                    (fault.access == mmu::Access::Fetch && slat.tells_fetches ? npf::kFetch : 0) |
                    (fault.during_walk ? npf::kWalk : npf::kFinal);
    record.info_2 = fault.gpa.value;
    return record;
}

Action Unit::on_memory(const virt::Exit& exit) {
    const mmu::SlatFault& fault = exit.slat;
    if (!nested_paging() || fault.below) return Action::Default;
    ExitRecord record = nested_page_fault(fault);
    if (!fault.during_walk && fault.access != mmu::Access::Fetch && !vp_.delivering()) record.bytes = exit.insn;
    return leave(record);
}

Action Unit::on_exception(const virt::Exit& exit) {
    const Fault& fault = exit.fault;
    const bool software = fault.type != EventType::HardException;
    if (fault.type == EventType::PrivSoftException || !intercepts(code::kException + (fault.vector & 31u)))
        return Action::Default;  // INT1 has an intercept of its own
    ExitRecord record;
    record.code = code::kException + (fault.vector & 31u);
    if (fault.has_error && vp_.protected_mode()) record.info_1 = fault.error_code;
    if (fault.vector == kPageFault) {
        record.info_2 = fault.cr2;
        if ((fault.error_code & npf::kFetch) == 0 && !vp_.delivering()) record.bytes = exit.insn;
    }
    if (fault.vector == kDebug) {
        // "The value saved for DR6 and DR7 matches what would be visible to a #DB exception handler."
        s_.dr[6] = (s_.dr[6] & ~u64{15}) | fault.dr6_bits | (s_.debug_pending != 0 ? s_.pending_dr6 : 0);
        s_.dr[7] &= ~dr7::GD;
    }
    // nRIP is told of INT3, INTO and BOUND.
    if (exit.insn != nullptr && (software || fault.vector == kBoundRange)) record.next_rip = behind(*exit.insn);
    return leave(record);
}

// ---- registers ---------------------------------------------------------------------------------------------------

Action Unit::on_cr(virt::Exit& exit) {
    using virt::CrAccess;
    const bool read = exit.cr_access == CrAccess::MovFrom;
    ExitRecord record = record_of((read ? code::kCrRead : code::kCrWrite) + (exit.reg & 15u), exit);
    const bool mov = exit.insn->op == Op::MOV_CR;
    if (mov) record.info_1 = kByMov | (*exit.insn)[read ? 0 : 1].reg;
    // LMSW counts as selective whatever it changes.
    const bool changes = ((exit.value ^ s_.cr0) & ~(cpu::cr0::TS | cpu::cr0::MP)) != 0;
    const bool selective = exit.reg == 0 && intercepts(code::kCr0SelectiveWrite) &&
                           (exit.cr_access == CrAccess::Lmsw || (exit.cr_access == CrAccess::MovTo && changes));
    if (intercepts(static_cast<u32>(record.code))) return leave(record);
    if (selective) {
        record.code = code::kCr0SelectiveWrite;
        return leave(record);
    }
    return exit.reg == 8 ? on_cr8(exit) : Action::Default;
}

/// With V_INTR_MASKING CR8 is V_TPR. APM 2 "Virtualizing APIC.TPR".
Action Unit::on_cr8(virt::Exit& exit) {
    if (!masks_interrupts()) return Action::Default;
    if (exit.cr_access == virt::CrAccess::MovFrom) {
        exit.value = vmcb_[int_ctl] & 15;
        return Action::Complete;
    }
    if ((exit.value & ~u64{15}) != 0) return general_protection(exit);
    vmcb_.set(int_ctl, (vmcb_[int_ctl] & ~u64{virq::kTpr}) | exit.value);
    return Action::Complete;
}

/// All exceptions are checked before the intercept.
Action Unit::on_dr(const virt::Exit& exit) {
    const bool reserved = (exit.reg == 4 || exit.reg == 5) && (s_.cr4 & cpu::cr4::DE) != 0;
    if (s_.cpl != 0 || reserved || (s_.dr[7] & dr7::GD) != 0) return Action::Default;
    const u32 number = (exit.write ? code::kDrWrite : code::kDrRead) + (exit.reg & 15u);
    if (!intercepts(number)) return Action::Default;
    ExitRecord record = record_of(number, exit);
    record.info_1 = kByMov | (*exit.insn)[exit.write ? 1 : 0].reg;
    return leave(record);
}

// ---- instructions and events -------------------------------------------------------------------------------------

Action Unit::on_instruction(const virt::Exit& exit) {
    const Insn& i = *exit.insn;
    const u32 number = instruction_code(i.op);
    if (number == 0 || !intercepts(number)) return Action::Default;
    ExitRecord record = record_of(number, exit);
    if (i.op == Op::INT) record.info_1 = i.imm & 0xff;
    if (i.op == Op::INVLPG) record.info_1 = exit.gva.value;
    return leave(record);
}

Action Unit::on_time_stamp(virt::Exit& exit) {
    const u32 number = exit.insn->op == Op::RDTSCP ? code::kRdtscp : code::kRdtsc;
    if (intercepts(number)) return leave(record_of(number, exit));
    if (tsc_ratio_ == kTscRatioOne) return Action::Default;
    exit.value = scaled_tsc();
    return Action::Complete;
}

/// APM 2 "Pause Intercept Filtering": the count runs down; with a threshold, it begins again behind a longer break.
Action Unit::on_pause(const virt::Exit& exit) {
    const u64 now = vp_.now(), threshold = vmcb_[pause_filter_threshold];
    if (threshold != 0 && now - last_pause_ > threshold) pause_count_ = vmcb_[pause_filter_count];
    last_pause_ = now;
    if (pause_count_ != 0 && --pause_count_ != 0) return Action::Default;
    return leave_if(code::kPause, exit);
}

/// APM 2 "Task Switch Intercept".
Action Unit::on_task_switch(const virt::Exit& exit) {
    ExitRecord record = record_of(code::kTaskSwitch, exit);
    record.info_1 = exit.selector;
    if (exit.task_source == virt::TaskSource::Iret) record.info_2 |= task_info::kIret;
    if (exit.task_source == virt::TaskSource::Jmp) record.info_2 |= task_info::kJump;
    const std::optional<Vp::Injection>& event = vp_.delivering();
    if (event && event->fault.has_error) record.info_2 |= task_info::kErrorCode | event->fault.error_code;
    if ((s_.rflags & flag::RF) != 0) record.info_2 |= task_info::kResumeFlag;
    return leave(record);
}

}  // namespace vg::cpu::svm
