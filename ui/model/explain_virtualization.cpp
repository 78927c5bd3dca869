// What VMX or SVM of a processor is doing, why its last entry failed, and what its guest's interrupts wait for.
#include <fmt/format.h>

#include "base/bits.h"
#include "cpu/spec/svm.h"
#include "cpu/spec/vmx.h"
#include "cpu/svm/unit.h"
#include "cpu/vmx/unit.h"
#include "ui/model/explain.h"

namespace vg::model {
namespace {

using Lines = std::vector<std::string>;
namespace vmx = cpu::vmx;
namespace svm = cpu::svm;

void add(Lines& lines, const Lines& more) { lines.insert(lines.end(), more.begin(), more.end()); }

// ---- VMX ---------------------------------------------------------------------------------------------------------

/// SDM 3C appendix "VMX Basic Exit Reasons".
std::string_view reason_text(u32 reason) {
    switch (reason & 0xffff) {
        case vmx::reason::kExceptionOrNmi: return "exception or NMI";
        case vmx::reason::kExternalInterrupt: return "external interrupt";
        case vmx::reason::kTripleFault: return "triple fault";
        case vmx::reason::kInterruptWindow: return "interrupt window";
        case vmx::reason::kNmiWindow: return "NMI window";
        case vmx::reason::kCpuid: return "CPUID";
        case vmx::reason::kHlt: return "HLT";
        case vmx::reason::kVmcall: return "VMCALL";
        case vmx::reason::kCrAccess: return "control-register access";
        case vmx::reason::kIo: return "I/O instruction";
        case vmx::reason::kRdmsr: return "RDMSR";
        case vmx::reason::kWrmsr: return "WRMSR";
        case vmx::reason::kInvalidGuestState: return "invalid guest state";
        case vmx::reason::kMsrLoading: return "MSR loading";
        case vmx::reason::kEptViolation: return "EPT violation";
        case vmx::reason::kEptMisconfiguration: return "EPT misconfiguration";
        case vmx::reason::kPreemptionTimer: return "preemption timer";
        case vmx::reason::kApicAccess: return "APIC access";
        case vmx::reason::kApicWrite: return "APIC write";
        case vmx::reason::kVirtualizedEoi: return "virtualized EOI";
        case vmx::reason::kPageModificationLogFull: return "page-modification log full";
        default: return "";
    }
}

std::string numbered(u32 number, std::string_view name) {
    return name.empty() ? fmt::format("{}", number) : fmt::format("{} ({})", number, name);
}

Lines explain_vmx(cpu::Vp& vp, vmx::Unit& unit) {
    using enum vmx::Field;
    if (!unit.in_operation()) return {"VMX is not in use: no VMXON."};
    if (unit.current_pointer() == vmx::kNoVmcs) return {"It is in VMX root operation, without a current VMCS."};
    Lines lines;
    const vmx::Vmcs& vmcs = unit.current();
    lines.push_back(fmt::format("It is in VMX {} operation; the current {} is at 0x{:x}, {}.", vp.guest_mode() ? "non-root" : "root",
                                unit.enlightened() ? "enlightened VMCS" : "VMCS", unit.current_pointer(),
                                vmcs.launched ? "launched" : "clear"));
    if (const auto& broken = unit.last_violation()) {
        const vmx::FieldRow& row = vmx::field_row(broken->field);
        lines.push_back(fmt::format("Its last VM entry failed. The manual demands: {}. {} (0x{:04x}) was 0x{:x}.", broken->text, row.name,
                                    row.encoding, broken->value));
    }
    const u32 reason = vmcs.word(exit_reason), basic = reason & 0xffff;
    if (vmcs.launched || reason != 0)
        lines.push_back(fmt::format("The last exit of this VMCS had reason {}{}, qualification 0x{:x}.", numbered(basic, reason_text(reason)),
                                    (reason & vmx::reason::kEntryFailure) != 0 ? " (entry failure)" : "", vmcs[exit_qualification]));
    if (basic == vmx::reason::kEptViolation || basic == vmx::reason::kEptMisconfiguration) {
        const u64 wanted = vmcs[exit_qualification];
        const mmu::Access access = (wanted & 4) != 0 ? mmu::Access::Fetch : (wanted & 2) != 0 ? mmu::Access::Write : mmu::Access::Read;
        lines.push_back("As the tables are now:");
        add(lines, explain_second_level(vp.physical(), unit.second_level(), vmcs[guest_physical_address], access));
    }
    return lines;
}

/// A guest of VMX runs.
Lines vmx_interrupts(cpu::Vp& vp, vmx::Unit& unit) {
    using enum vmx::Field;
    Lines lines;
    const vmx::Vmcs& vmcs = unit.current();
    const u32 pins = vmcs.word(pin_controls), procs = vmcs.word(proc_controls);
    lines.push_back((pins & vmx::pin::kExternalInterrupt) != 0
                        ? "A guest of VMX runs: the machine's interrupts exit to its hypervisor (external-interrupt exiting), whatever RFLAGS.IF says."
                        : "A guest of VMX runs, and takes the machine's interrupts itself (no external-interrupt exiting).");
    if ((procs & vmx::proc::kInterruptWindow) != 0)
        lines.push_back("Its hypervisor waits for an interrupt window: it exits as soon as RFLAGS.IF is 1 and nothing shadows interrupts.");
    if (const u8 vector = unit.requesting_vector(); vector != 0)
        lines.push_back(fmt::format("Virtual interrupt 0x{:02x} is requested in its virtual APIC: it is delivered {}.", vector,
                                    (vp.state().rflags & cpu::flag::IF) != 0 ? "before the next instruction" : "once RFLAGS.IF is 1"));
    return lines;
}

// ---- SVM ---------------------------------------------------------------------------------------------------------

/// APM 2 appendix "SVM Intercept Exit Codes", the usual ones.
std::string_view code_text(u64 exit) {
    switch (exit) {
        case svm::code::kIntr: return "physical interrupt";
        case svm::code::kNmi: return "NMI";
        case svm::code::kInit: return "INIT";
        case svm::code::kVintr: return "virtual interrupt";
        case svm::code::kRdtsc: return "RDTSC";
        case svm::code::kCpuid: return "CPUID";
        case svm::code::kIret: return "IRET";
        case svm::code::kPause: return "PAUSE";
        case svm::code::kHlt: return "HLT";
        case svm::code::kInvlpg: return "INVLPG";
        case svm::code::kIoio: return "port access";
        case svm::code::kMsr: return "MSR access";
        case svm::code::kTaskSwitch: return "task switch";
        case svm::code::kShutdown: return "shutdown";
        case svm::code::kVmrun: return "VMRUN";
        case svm::code::kVmmcall: return "VMMCALL";
        case svm::code::kNestedPageFault: return "nested page fault";
        default: break;
    }
    if (exit < svm::code::kDrRead) return exit < svm::code::kCrWrite ? "control-register read" : "control-register write";
    if (exit < svm::code::kException) return exit < svm::code::kDrWrite ? "debug-register read" : "debug-register write";
    if (exit < svm::code::kIntr) return "exception";
    return "";
}

Lines explain_svm(cpu::Vp& vp, const svm::Unit& unit) {
    using enum svm::Field;
    if ((vp.state().efer & cpu::efer::SVME) == 0) return {"SVM is not in use: EFER.SVME is 0."};
    Lines lines;
    const bool runs = vp.guest_mode();
    if (unit.vmcb_pointer() == 0) return {"SVM is enabled (EFER.SVME); no VMRUN so far."};
    lines.push_back(fmt::format("{}; its VMCB is at 0x{:x}, ASID {}.", runs ? "A guest of SVM runs" : "The host runs; its last guest is left",
                                unit.vmcb_pointer(), unit.vmcb()[guest_asid]));
    if (!unit.global_interrupts())
        lines.push_back("GIF is 0 (CLGI, or an exit): interrupts, NMIs, INIT and breakpoints wait for STGI.");
    if (const auto& broken = unit.last_violation()) {
        const svm::FieldRow& row = svm::field_row(broken->field);
        lines.push_back(fmt::format("Its last VMRUN failed (VMEXIT_INVALID). The manual demands: {}. {} (offset 0x{:03x}) was 0x{:x}.",
                                    broken->text, row.name, row.offset, broken->value));
        return lines;
    }
    const u64 exit = unit.vmcb()[exit_code];
    if (runs && exit == 0) return lines;
    const std::string_view name = code_text(exit);
    lines.push_back(fmt::format("{} exit had code 0x{:x}{}, EXITINFO1 0x{:x}, EXITINFO2 0x{:x}.", runs ? "The VMCB's last" : "Its last", exit,
                                name.empty() ? "" : fmt::format(" ({})", name), unit.vmcb()[exit_info_1], unit.vmcb()[exit_info_2]));
    if (exit == svm::code::kNestedPageFault) {
        const u64 info = unit.vmcb()[exit_info_1];
        const mmu::Access access = (info & svm::npf::kFetch) != 0   ? mmu::Access::Fetch
                                   : (info & svm::npf::kWrite) != 0 ? mmu::Access::Write
                                                                    : mmu::Access::Read;
        lines.push_back((info & svm::npf::kWalk) != 0 ? "It was a guest's paging structure that the nested tables withheld. As they are now:"
                                                      : "It was the page itself that the nested tables withheld. As they are now:");
        add(lines, explain_second_level(vp.physical(), unit.second_level(), unit.vmcb()[exit_info_2], access));
    }
    return lines;
}

/// A guest of SVM runs. APM 2 "Injecting Virtual (INTR) Interrupts".
Lines svm_interrupts(const cpu::Vp& vp, const svm::Unit& unit) {
    using enum svm::Field;
    Lines lines;
    const u32 word = unit.vmcb().word(int_ctl);
    const bool intercepted = bit(unit.vmcb()[intercept_3], svm::code::kIntr & 31);
    lines.push_back(intercepted ? "A guest of SVM runs: the machine's interrupts exit to its hypervisor (INTR intercept)."
                                : "A guest of SVM runs, and takes the machine's interrupts itself (no INTR intercept).");
    if ((word & svm::virq::kMasking) != 0 && vp.controls().interrupts_blocked)
        lines.push_back("They wait all the same: V_INTR_MASKING is set, and RFLAGS.IF was 0 at VMRUN.");
    if ((word & svm::virq::kIrq) == 0) return lines;
    const u32 priority = svm::virq::priority(word), task = word & 15;
    std::string reason;
    if ((word & svm::virq::kGifEnable) != 0 && (word & svm::virq::kGif) == 0)
        reason = "the guest's own GIF (V_GIF) is 0";
    else if ((word & svm::virq::kIgnoreTpr) == 0 && priority <= task)
        reason = fmt::format("its priority {} is not above V_TPR {}", priority, task);
    else if ((vp.state().rflags & cpu::flag::IF) == 0)
        reason = "the guest's interrupts are off (RFLAGS.IF is 0)";
    else if (vp.state().interrupt_shadow != 0)
        reason = "an instruction shadows interrupts";
    const bool exits = bit(unit.vmcb()[intercept_3], svm::code::kVintr & 31);
    lines.push_back(fmt::format("Virtual interrupt 0x{:02x} (V_IRQ) {}.", unit.vmcb()[int_vector] & 0xff,
                                !reason.empty() ? "waits, because " + reason
                                : exits         ? std::string("exits before the next instruction (VINTR intercept)")
                                                : std::string("is delivered before the next instruction")));
    return lines;
}

}  // namespace

std::vector<std::string> explain_virtualization(const PlacedVp& vp) {
    if (vmx::Unit* unit = vmx::unit_of(*vp.processor)) return explain_vmx(*vp.processor, *unit);
    if (svm::Unit* unit = svm::unit_of(*vp.processor)) return explain_svm(*vp.processor, *unit);
    return {};
}

std::vector<std::string> explain_guest_interrupts(cpu::Vp& vp) {
    if (!vp.guest_mode()) {
        const svm::Unit* unit = svm::unit_of(vp);
        if (unit != nullptr && !unit->global_interrupts()) return {"Nothing is delivered: the global interrupt flag of SVM (GIF) is 0."};
        return {};
    }
    if (vmx::Unit* unit = vmx::unit_of(vp)) return vmx_interrupts(vp, *unit);
    if (svm::Unit* unit = svm::unit_of(vp)) return svm_interrupts(vp, *unit);
    return {};
}

}  // namespace vg::model
