// Which exits the current VMCS asks for, and what each says. SDM 3C "Instructions That Cause VM Exits", "Other Causes of VM Exits",
// "Recording VM-Exit Information and Updating VM-Entry Control Fields".
#include <algorithm>

#include "base/bits.h"
#include "cpu/isa/isa.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/instruction_info.h"
#include "cpu/vmx/unit.h"

namespace vg::cpu::vmx {

namespace {

using virt::Action;
using enum Field;

constexpr u64 kVtprOffset = 0x80;

/// What needs no look at anything else.
u32 plain_reason(const virt::Exit& exit) {
    using Reason = virt::ExitReason;
    switch (exit.reason) {
        case Reason::Cpuid: return reason::kCpuid;
        case Reason::Halt: return reason::kHlt;
        case Reason::Rdpmc: return reason::kRdpmc;
        case Reason::Mwait: return reason::kMwait;
        case Reason::Monitor: return reason::kMonitor;
        case Reason::Wbinvd: return reason::kWbinvd;
        case Reason::Xsetbv: return reason::kXsetbv;
        case Reason::Invd: return reason::kInvd;
        case Reason::InterruptWindow: return reason::kInterruptWindow;
        case Reason::NmiWindow: return reason::kNmiWindow;
        case Reason::TripleFault: return reason::kTripleFault;
        case Reason::Init: return reason::kInit;
        case Reason::Sipi: return reason::kSipi;
        default: return 0;
    }
}

}  // namespace

ExitRecord Unit::record_of(u32 number, const virt::Exit& exit) const {
    ExitRecord record;
    record.reason = number;
    record.insn_length = exit.insn != nullptr ? exit.insn->length : u32{exit.insn_length};
    return record;
}

Action Unit::leave(const ExitRecord& record) {
    exit_guest(record);
    return Action::Switch;
}

Action Unit::on_exit(Vp&, virt::Exit& exit) {
    using Reason = virt::ExitReason;
    switch (exit.reason) {
        case Reason::Io: return on_io(exit);
        case Reason::Msr: return on_msr(exit);
        case Reason::Memory: return on_memory(exit);
        case Reason::Cr: return on_cr(exit);
        case Reason::Dr: return on_dr(exit);
        case Reason::DescriptorTable: return on_descriptor_table(exit);
        case Reason::Exception: return on_exception(exit);
        case Reason::Pause: return on_pause(exit);
        case Reason::TaskSwitch: return on_task_switch(exit);
        case Reason::ExternalInterrupt: return on_external_interrupt(exit);
        case Reason::ApicAccess: return on_apic_access(exit);
        case Reason::Hypercall:
        case Reason::Rdtsc:
        case Reason::Invlpg:
        case Reason::Invpcid:
        case Reason::Random:
        case Reason::Vmx: return on_instruction(exit);
        case Reason::Nmi: {
            ExitRecord record;
            record.reason = reason::kExceptionOrNmi;
            record.interruption = kNmi | interruption::kNmi << 8 | interruption::kValid;
            return leave(record);
        }
        case Reason::Sipi: {
            ExitRecord record = record_of(reason::kSipi, exit);
            record.qualification = s_.sipi_vector;
            return leave(record);
        }
        case Reason::Cpuid:
        case Reason::Halt:
        case Reason::Rdpmc:
        case Reason::Mwait:
        case Reason::Monitor:
        case Reason::Wbinvd:
        case Reason::Xsetbv:
        case Reason::Invd:
        case Reason::InterruptWindow:
        case Reason::NmiWindow:
        case Reason::TripleFault:
        case Reason::Init: return leave(record_of(plain_reason(exit), exit));
        case Reason::None:
        case Reason::Svm:
        case Reason::Xsaves:
        case Reason::StackedFlags: break;
    }
    return Action::Default;
}

Action Unit::on_io(const virt::Exit& exit) {
    bool asked = proc(proc::kUnconditionalIo);
    if (proc(proc::kIoBitmaps)) {
        // The bitmaps replace the unconditional control. An access that wraps around the end of the ports exits.
        asked = u32{exit.port} + exit.size > 0x10000;
        for (u32 n = 0; n < exit.size && !asked; ++n) {
            const u32 port = (exit.port + n) & 0xffff;
            const u64 map = vmcs_[port < 0x8000 ? io_bitmap_a : io_bitmap_b];
            asked = bit(read_physical<u8>(map + (port & 0x7fff) / 8), port & 7);
        }
    }
    if (!asked) return Action::Default;
    ExitRecord record = record_of(reason::kIo, exit);
    const bool immediate = exit.insn != nullptr && !exit.string && exit.insn->imm_size != 0;
    record.qualification = (exit.size - 1u) | u64{!exit.write} << 3 | u64{exit.string} << 4 | u64{exit.rep} << 5 |
                           u64{immediate} << 6 | u64{exit.port} << 16;
    if (exit.string) {
        record.linear = exit.gva.value;
        record.has_linear = true;
        record.insn_info = string_io_info(*exit.insn);
    }
    return leave(record);
}

Action Unit::on_msr(virt::Exit& exit) {
    constexpr u32 kTimeStampCounter = 0x10;
    bool asked = true;
    if (proc(proc::kMsrBitmaps)) {
        // Reads of low MSRs, reads of high ones, writes of low, writes of high: 1 KiB each.
        constexpr u32 kRange = 0x2000, kHigh = 0xc0000000;
        const bool low = exit.msr < kRange, high = exit.msr >= kHigh && exit.msr < kHigh + kRange;
        const u32 index = exit.msr & (kRange - 1);
        const u64 part = (exit.write ? 2048 : 0) + (high ? 1024 : 0);
        asked = (!low && !high) || bit(read_physical<u8>(vmcs_[msr_bitmaps] + part + index / 8), index & 7);
    }
    if (!asked && exit.msr == kTimeStampCounter && !exit.write && scales_tsc()) {
        exit.value = scaled_tsc();
        return Action::Complete;
    }
    if (!asked) return on_x2apic(exit);
    return leave(record_of(exit.write ? reason::kWrmsr : reason::kRdmsr, exit));
}

bool Unit::iret_unblocked() const { return vp_.iret_unblocked_nmi() && !vp_.delivering(); }

/// SDM 3C "Convertible EPT Violations", and what else a #VE needs. Misconfigurations never convert.
bool Unit::converts(const virt::Exit& exit) {
    constexpr u64 kBusyOffset = 4;
    return proc2(proc2::kVirtualizationException) && exit.slat.convertible && vp_.protected_mode() && !vp_.delivering() &&
           read_physical<u32>(vmcs_[virtualization_exception_address] + kBusyOffset) == 0;
}

/// SDM 3C "Virtualization Exceptions": the information area, and #VE instead of the exit.
Action Unit::virtualization_exception(virt::Exit& exit, const ExitRecord& violation) {
    struct Information {
        u32 reason, busy;
        u64 qualification, linear, physical;
        u16 eptp_index;
        u16 unused[3];
    };
    static_assert(sizeof(Information) == 40);
    const Information area{violation.reason, 0xffffffff, violation.qualification, violation.linear, violation.physical,
                           static_cast<u16>(vmcs_[eptp_index]), {}};
    constexpr u32 kUsed = 34;
    write_physical(vmcs_[virtualization_exception_address], &area, kUsed);
    exit.fault = Fault{};
    exit.fault.vector = kVirtualization;
    return Action::Inject;
}

Action Unit::on_memory(virt::Exit& exit) {
    const mmu::SlatFault& fault = exit.slat;
    if (!proc2(proc2::kEpt) || fault.below) return Action::Default;
    if (fault.log_full) {
        ExitRecord record = record_of(reason::kPageModificationLogFull, exit);
        record.qualification = u64{iret_unblocked()} << 12;
        return leave(record);
    }
    ExitRecord record = record_of(fault.misconfigured ? reason::kEptMisconfiguration : reason::kEptViolation, exit);
    record.physical = exit.gpa.value;
    record.has_physical = true;
    record.linear = exit.gva.value;
    record.has_linear = exit.gva_valid;
    if (fault.misconfigured) return leave(record);
    u64 access = fault.access == mmu::Access::Read ? 1 : fault.access == mmu::Access::Write ? 2 : 4;
    // Where tables are written, for their accessed and dirty flags, or are treated as written because EPT has such flags,
    // both bits are set.
    if (fault.during_walk && fault.access == mmu::Access::Write) access = 3;
    record.qualification = access | u64{fault.permissions} << 3 | u64{exit.gva_valid} << 7 |
                           u64{exit.gva_valid && !fault.during_walk} << 8;
    if (converts(exit)) return virtualization_exception(exit, record);
    record.qualification |= u64{iret_unblocked()} << 12;
    return leave(record);
}

Action Unit::on_exception(const virt::Exit& exit) {
    const Fault& fault = exit.fault;
    bool asked = bit(vmcs_[exception_bitmap], fault.vector & 31u);
    if (fault.vector == kPageFault) {
        const bool match = (fault.error_code & vmcs_.word(page_fault_mask)) == vmcs_.word(page_fault_match);
        asked = asked == match;
    }
    if (!asked) return Action::Default;
    ExitRecord record;
    record.reason = reason::kExceptionOrNmi;
    record.insn_length = fault.type == EventType::HardException ? 0 : exit.insn_length;
    record.interruption = fault.vector | static_cast<u32>(fault.type) << 8 | interruption::kValid;
    if (fault.has_error && vp_.protected_mode()) {
        record.interruption |= interruption::kErrorCode;
        record.error_code = fault.error_code;
    }
    if (iret_unblocked() && fault.vector != kDoubleFault) record.interruption |= interruption::kNmiUnblocking;
    if (fault.vector == kPageFault) record.qualification = fault.cr2;
    if (fault.vector == kDebug) record.qualification = fault.dr6_bits;
    return leave(record);
}

Action Unit::on_external_interrupt(const virt::Exit& exit) {
    ExitRecord record = record_of(reason::kExternalInterrupt, exit);
    if (exits(exits::kAcknowledge)) {
        const int vector = vp_.acknowledge_interrupt();
        if (vector < 0) return Action::Default;
        if (pin(pin::kPostedInterrupts) && static_cast<u64>(vector) == vmcs_[posted_interrupt_vector]) {
            process_posted();
            return Action::Complete;
        }
        record.interruption = static_cast<u32>(vector) | interruption::kValid;
    }
    return leave(record);
}

// ---- registers ---------------------------------------------------------------------------------------------------

Action Unit::on_cr(virt::Exit& exit) {
    using virt::CrAccess;
    const auto changes = [&](Field mask, Field shadow) { return (vmcs_[mask] & (exit.value ^ vmcs_[shadow])) != 0; };
    bool asked = false;
    switch (exit.cr_access) {
        case CrAccess::Clts: asked = (vmcs_[cr0_mask] & vmcs_[cr0_shadow] & cr0::TS) != 0; break;
        case CrAccess::Lmsw: {
            const u64 source = exit.data[0], mask = vmcs_[cr0_mask], differs = source ^ vmcs_[cr0_shadow];
            const bool sets_pe = (mask & source & ~vmcs_[cr0_shadow] & cr0::PE) != 0;
            asked = sets_pe || (mask & differs & (cr0::MP | cr0::EM | cr0::TS)) != 0;
            break;
        }
        case CrAccess::MovFrom:
            if (exit.reg == 8) return on_cr8(exit);
            asked = exit.reg == 3 && proc(proc::kCr3Store);
            break;
        case CrAccess::MovTo:
            if (exit.reg == 8) return on_cr8(exit);
            if (exit.reg == 0) asked = changes(cr0_mask, cr0_shadow);
            if (exit.reg == 4) asked = changes(cr4_mask, cr4_shadow);
            if (exit.reg == 3 && proc(proc::kCr3Load)) {
                asked = true;
                const u64 targets = std::min<u64>(vmcs_[cr3_target_count], 4);
                for (unsigned n = 0; n < targets; ++n) asked = asked && exit.value != vmcs_[cr3_target_0 + n];
            }
            break;
    }
    if (!asked) return Action::Default;
    ExitRecord record = record_of(reason::kCrAccess, exit);
    record.qualification = exit.reg | static_cast<u64>(exit.cr_access) << 4;
    const Insn& insn = *exit.insn;
    switch (exit.cr_access) {
        case CrAccess::MovTo: record.qualification |= u64{insn[1].reg} << 8; break;
        case CrAccess::MovFrom: record.qualification |= u64{insn[0].reg} << 8; break;
        case CrAccess::Clts: break;
        case CrAccess::Lmsw: {
            const bool memory = insn.memory_operand() != nullptr;
            record.qualification |= u64{memory} << 6 | (exit.data[0] & 0xffff) << 16;
            record.linear = exit.gva.value;
            record.has_linear = memory;
            break;
        }
    }
    return leave(record);
}

/// MOV to and from CR8: exits, or the TPR shadow. SDM 3C "Virtualizing CR8-Based TPR Accesses".
Action Unit::on_cr8(virt::Exit& exit) {
    const bool write = exit.cr_access == virt::CrAccess::MovTo;
    if (proc(write ? proc::kCr8Load : proc::kCr8Store)) {
        ExitRecord record = record_of(reason::kCrAccess, exit);
        record.qualification = 8 | u64{!write} << 4 | u64{(*exit.insn)[write ? 1 : 0].reg} << 8;
        return leave(record);
    }
    if (!proc(proc::kTprShadow)) return Action::Default;
    const u64 vtpr = vmcs_[virtual_apic_address] + kVtprOffset;
    if (!write) {
        exit.value = bits(read_physical<u32>(vtpr), 7, 4);
        return Action::Complete;
    }
    if ((exit.value & ~u64{15}) != 0) {
        exit.fault = Fault{};
        exit.fault.vector = kGeneralProtection;
        exit.fault.has_error = true;
        return Action::Inject;
    }
    const u32 value = static_cast<u32>(exit.value << 4);
    write_physical(vtpr, &value, sizeof value);
    if (virtualize_tpr()) {
        // A trap: behind the instruction.
        s_.rip += exit.insn->length;
        if (exit.insn->mode != CodeMode::Bits64) s_.rip = static_cast<u32>(s_.rip);
        vp_.begin(nullptr);
        return leave({.reason = reason::kTprBelowThreshold});
    }
    return Action::Complete;
}

Action Unit::on_dr(const virt::Exit& exit) {
    ExitRecord record = record_of(reason::kMovDr, exit);
    record.qualification = (exit.reg & 7u) | u64{!exit.write} << 4 | u64{(*exit.insn)[exit.write ? 1 : 0].reg} << 8;
    return leave(record);
}

// ---- instructions ------------------------------------------------------------------------------------------------

Action Unit::on_descriptor_table(const virt::Exit& exit) {
    const Op op = exit.insn->op;
    const bool table = op == Op::SGDT || op == Op::SIDT || op == Op::LGDT || op == Op::LIDT;
    ExitRecord record = record_of(table ? reason::kGdtrIdtr : reason::kLdtrTr, exit);
    record.qualification = displacement_of(*exit.insn, s_);
    record.insn_info = descriptor_table_info(*exit.insn);
    return leave(record);
}

Action Unit::on_instruction(virt::Exit& exit) {
    const Insn& i = *exit.insn;
    ExitRecord record = record_of(0, exit);
    const auto memory_operand = [&](u32 reg2) {
        record.qualification = displacement_of(i, s_);
        record.insn_info = operand_info(i, reg2);
    };
    switch (i.op) {
        case Op::VMCALL: record.reason = reason::kVmcall; break;
        case Op::VMLAUNCH: record.reason = reason::kVmlaunch; break;
        case Op::VMRESUME: record.reason = reason::kVmresume; break;
        case Op::VMXOFF: record.reason = reason::kVmxoff; break;
        case Op::VMFUNC: record.reason = reason::kVmfunc; break;
        case Op::VMCLEAR: record.reason = reason::kVmclear; memory_operand(0); break;
        case Op::VMPTRLD: record.reason = reason::kVmptrld; memory_operand(0); break;
        case Op::VMPTRST: record.reason = reason::kVmptrst; memory_operand(0); break;
        case Op::VMXON: record.reason = reason::kVmxon; memory_operand(0); break;
        case Op::VMREAD: record.reason = reason::kVmread; memory_operand(i[1].reg); break;
        case Op::VMWRITE: record.reason = reason::kVmwrite; memory_operand(i[0].reg); break;
        case Op::INVEPT: record.reason = reason::kInvept; memory_operand(i[0].reg); break;
        case Op::INVVPID: record.reason = reason::kInvvpid; memory_operand(i[0].reg); break;
        case Op::INVPCID: record.reason = reason::kInvpcid; memory_operand(i[0].reg); break;
        case Op::INVLPG: record.reason = reason::kInvlpg; record.qualification = exit.gva.value; break;
        case Op::RDTSC:
        case Op::RDTSCP:
            if (!proc(proc::kRdtsc)) {
                exit.value = scaled_tsc();
                return Action::Complete;
            }
            record.reason = i.op == Op::RDTSC ? reason::kRdtsc : reason::kRdtscp;
            break;
        case Op::RDRAND: record.reason = reason::kRdrand; record.insn_info = random_info(i); break;
        case Op::RDSEED: record.reason = reason::kRdseed; record.insn_info = random_info(i); break;
        default: return Action::Default;  // VMMCALL: there is no such instruction here
    }
    return leave(record);
}

/// PAUSE exiting, or a loop of PAUSEs at CPL 0 that lasts longer than the window. SDM 3C "Pause-Loop Exiting".
Action Unit::on_pause(const virt::Exit& exit) {
    if (proc(proc::kPause)) return leave(record_of(reason::kPause, exit));
    if (s_.cpl != 0) return Action::Default;
    const u64 now = host_tsc();
    const bool first = last_pause_ == 0 || now - last_pause_ > vmcs_[ple_gap];
    last_pause_ = now;
    if (first) first_pause_ = now;
    if (now - first_pause_ <= vmcs_[ple_window]) return Action::Default;
    return leave(record_of(reason::kPause, exit));
}

Action Unit::on_task_switch(const virt::Exit& exit) {
    ExitRecord record = record_of(reason::kTaskSwitch, exit);
    record.qualification = exit.selector | static_cast<u64>(exit.task_source) << 30;
    return leave(record);
}

}  // namespace vg::cpu::vmx
