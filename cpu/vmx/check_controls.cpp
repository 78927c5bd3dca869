// "Checks on VMX Controls".
#include "base/bits.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/checks.h"

namespace vg::cpu::vmx {

namespace {

using E = const EntryContext&;
using enum Field;

bool msr_area(E e, Field address, Field count) {
    const u64 entries = e[count];
    if (entries == 0) return true;
    return e.address(address, 4) && e.caps.address_valid(align_down(e[address] + entries * 16 - 1, 16), 0);
}

bool tpr_below_threshold(E e) {
    if (!e.proc(proc::kTprShadow) || e.proc2(proc2::kVirtualInterrupts | proc2::kApicAccesses)) return false;
    const u64 tpr = e.read_word(e[virtual_apic_address] + 0x80);
    return (e[tpr_threshold] & 15) > bits(tpr, 7, 4);
}

u32 injected(E e) { return e.word(entry_interruption); }
bool injects(E e) { return (injected(e) & interruption::kValid) != 0; }
u32 injected_type(E e) { return interruption::type(injected(e)); }
u32 injected_vector(E e) { return injected(e) & 0xff; }
bool injects_error(E e) { return (injected(e) & interruption::kErrorCode) != 0; }

bool injected_type_exists(E e) {
    const u32 type = injected_type(e);
    if (type == interruption::kOther) return (e.caps.proc.may & proc::kMonitorTrap) != 0;
    return type != interruption::kReserved;
}

bool injected_vector_fits(E e) {
    const u32 vector = injected_vector(e);
    switch (injected_type(e)) {
        case interruption::kNmi: return vector == 2;
        case interruption::kHardException: return vector <= 31;
        case interruption::kOther: return vector == 0;
        default: return true;
    }
}

bool error_code_as_the_vector_has_it(E e) {
    const bool protected_guest = !e.proc2(proc2::kUnrestricted) || (e[guest_cr0] & cr0::PE) != 0;
    constexpr u32 kWithErrorCode = 1u << kDoubleFault | 1u << kInvalidTss | 1u << kSegmentNotPresent | 1u << kStackFault |
                                   1u << kGeneralProtection | 1u << kPageFault | 1u << kAlignmentCheck;
    const bool has = injected_type(e) == interruption::kHardException && bit(kWithErrorCode, injected_vector(e) & 31);
    return injects_error(e) == (protected_guest && has);
}

bool has_length(E e) {
    const u32 type = injected_type(e);
    return type == interruption::kSoftInt || type == interruption::kPrivSoftException || type == interruption::kSoftException;
}

constexpr Rule kRules[] = {
    // "VM-Execution Control Fields"
    {"reserved bits of the pin-based controls are as the capability MSR says", pin_controls,
     [](E e) { return e.caps.pin.permits(e.word(pin_controls)); }},
    {"reserved bits of the primary processor-based controls are as the capability MSR says", proc_controls,
     [](E e) { return e.caps.proc.permits(e.word(proc_controls)); }},
    {"reserved bits of the secondary processor-based controls are as the capability MSR says", proc2_controls,
     [](E e) { return !e.proc(proc::kSecondary) || e.caps.proc2.permits(e.word(proc2_controls)); }},
    {"there are at most 4 CR3-target values", cr3_target_count, [](E e) { return e[cr3_target_count] <= 4; }},
    {"I/O bitmap A is at a page's address", io_bitmap_a,
     [](E e) { return !e.proc(proc::kIoBitmaps) || e.address(io_bitmap_a, 12); }},
    {"I/O bitmap B is at a page's address", io_bitmap_b,
     [](E e) { return !e.proc(proc::kIoBitmaps) || e.address(io_bitmap_b, 12); }},
    {"the MSR bitmaps are at a page's address", msr_bitmaps,
     [](E e) { return !e.proc(proc::kMsrBitmaps) || e.address(msr_bitmaps, 12); }},
    {"the virtual-APIC page is at a page's address", virtual_apic_address,
     [](E e) { return !e.proc(proc::kTprShadow) || e.address(virtual_apic_address, 12); }},
    {"bits 31:4 of the TPR threshold are 0", tpr_threshold,
     [](E e) {
         return !e.proc(proc::kTprShadow) || e.proc2(proc2::kVirtualInterrupts) || e[tpr_threshold] >> 4 == 0;
     }},
    {"the TPR threshold is not above bits 7:4 of VTPR", tpr_threshold, [](E e) { return !tpr_below_threshold(e); }},
    {"without a TPR shadow there is no x2APIC mode, register or interrupt virtualization", proc2_controls,
     [](E e) {
         return e.proc(proc::kTprShadow) ||
                !e.proc2(proc2::kX2apic | proc2::kApicRegisters | proc2::kVirtualInterrupts);
     }},
    {"virtual NMIs need NMI exiting", pin_controls,
     [](E e) { return e.pin(pin::kNmi) || !e.pin(pin::kVirtualNmis); }},
    {"NMI-window exiting needs virtual NMIs", proc_controls,
     [](E e) { return e.pin(pin::kVirtualNmis) || !e.proc(proc::kNmiWindow); }},
    {"the APIC-access page is at a page's address", apic_access_address,
     [](E e) { return !e.proc2(proc2::kApicAccesses) || e.address(apic_access_address, 12); }},
    {"x2APIC mode and APIC accesses are not both virtualized", proc2_controls,
     [](E e) { return !e.proc2(proc2::kX2apic) || !e.proc2(proc2::kApicAccesses); }},
    {"virtual-interrupt delivery needs external-interrupt exiting", pin_controls,
     [](E e) { return !e.proc2(proc2::kVirtualInterrupts) || e.pin(pin::kExternalInterrupt); }},
    {"posted interrupts need virtual-interrupt delivery", pin_controls,
     [](E e) { return !e.pin(pin::kPostedInterrupts) || e.proc2(proc2::kVirtualInterrupts); }},
    {"posted interrupts need acknowledge-on-exit", exit_controls,
     [](E e) { return !e.pin(pin::kPostedInterrupts) || e.exit(exits::kAcknowledge); }},
    {"the posted-interrupt notification vector is below 256", posted_interrupt_vector,
     [](E e) { return !e.pin(pin::kPostedInterrupts) || e[posted_interrupt_vector] < 256; }},
    {"the posted-interrupt descriptor is at a multiple of 64", posted_interrupt_descriptor,
     [](E e) { return !e.pin(pin::kPostedInterrupts) || e.address(posted_interrupt_descriptor, 6); }},
    {"the VPID is not 0", vpid, [](E e) { return !e.proc2(proc2::kVpid) || e[vpid] != 0; }},
    {"the EPT pointer is valid", ept_pointer,
     [](E e) { return !e.proc2(proc2::kEpt) || e.caps.ept_pointer_valid(e[ept_pointer]); }},
    {"page-modification logging needs EPT", proc2_controls,
     [](E e) { return !e.proc2(proc2::kPml) || e.proc2(proc2::kEpt); }},
    {"the page-modification log is at a page's address", pml_address,
     [](E e) { return !e.proc2(proc2::kPml) || e.address(pml_address, 12); }},
    {"an unrestricted guest needs EPT", proc2_controls,
     [](E e) { return !e.proc2(proc2::kUnrestricted) || e.proc2(proc2::kEpt); }},
    {"mode-based execute control needs EPT", proc2_controls,
     [](E e) { return !e.proc2(proc2::kModeBasedExecute) || e.proc2(proc2::kEpt); }},
    {"reserved bits of the VM-function controls are 0", vm_function_controls,
     [](E e) { return !e.proc2(proc2::kVmFunctions) || (e[vm_function_controls] & ~e.caps.vm_functions) == 0; }},
    {"EPTP switching needs EPT", proc2_controls,
     [](E e) {
         return !e.proc2(proc2::kVmFunctions) || (e[vm_function_controls] & 1) == 0 || e.proc2(proc2::kEpt);
     }},
    {"the EPTP list is at a page's address", eptp_list_address,
     [](E e) {
         return !e.proc2(proc2::kVmFunctions) || (e[vm_function_controls] & 1) == 0 || e.address(eptp_list_address, 12);
     }},
    {"the VMREAD bitmap is at a page's address", vmread_bitmap,
     [](E e) { return !e.proc2(proc2::kShadowVmcs) || e.address(vmread_bitmap, 12); }},
    {"the VMWRITE bitmap is at a page's address", vmwrite_bitmap,
     [](E e) { return !e.proc2(proc2::kShadowVmcs) || e.address(vmwrite_bitmap, 12); }},
    {"the virtualization-exception information area is at a page's address", virtualization_exception_address,
     [](E e) { return !e.proc2(proc2::kVirtualizationException) || e.address(virtualization_exception_address, 12); }},
    {"the TSC multiplier is not 0", tsc_multiplier,
     [](E e) { return !e.proc2(proc2::kTscScaling) || e[tsc_multiplier] != 0; }},
    // "VM-Exit Control Fields"
    {"reserved bits of the VM-exit controls are as the capability MSR says", exit_controls,
     [](E e) { return e.caps.exit.permits(e.word(exit_controls)); }},
    {"saving the preemption timer needs the timer", exit_controls,
     [](E e) { return e.pin(pin::kPreemptionTimer) || !e.exit(exits::kSavePreemptionTimer); }},
    {"the VM-exit MSR-store area is at a multiple of 16, within physical addresses", exit_msr_store_address,
     [](E e) { return msr_area(e, exit_msr_store_address, exit_msr_store_count); }},
    {"the VM-exit MSR-load area is at a multiple of 16, within physical addresses", exit_msr_load_address,
     [](E e) { return msr_area(e, exit_msr_load_address, exit_msr_load_count); }},
    // "VM-Entry Control Fields"
    {"reserved bits of the VM-entry controls are as the capability MSR says", entry_controls,
     [](E e) { return e.caps.entry.permits(e.word(entry_controls)); }},
    {"the injected event's type exists", entry_interruption, [](E e) { return !injects(e) || injected_type_exists(e); }},
    {"the injected event's vector fits its type", entry_interruption,
     [](E e) { return !injects(e) || injected_vector_fits(e); }},
    {"an error code is delivered exactly where the exception has one", entry_interruption,
     [](E e) { return !injects(e) || error_code_as_the_vector_has_it(e); }},
    {"bits 30:12 of the interruption information are 0", entry_interruption,
     [](E e) { return !injects(e) || bits(injected(e), 30, 12) == 0; }},
    {"bits 31:16 of an error code are 0", entry_error_code,
     [](E e) { return !injects(e) || !injects_error(e) || e[entry_error_code] >> 16 == 0; }},
    {"the instruction length of a software event is at most 15", entry_insn_length,
     [](E e) { return !injects(e) || !has_length(e) || e[entry_insn_length] <= 15; }},
    {"the VM-entry MSR-load area is at a multiple of 16, within physical addresses", entry_msr_load_address,
     [](E e) { return msr_area(e, entry_msr_load_address, entry_msr_load_count); }},
};

}  // namespace

std::optional<Violation> first_violation(std::span<const Rule> rules, E e) {
    for (const Rule& rule : rules)
        if (!rule.holds(e)) return Violation{rule.text, rule.field, e[rule.field], rule.qualification};
    return std::nullopt;
}

std::optional<Violation> check_controls(E e) { return first_violation(kRules, e); }
std::optional<Violation> check_host(E e) { return first_violation(host_rules(), e); }
std::optional<Violation> check_guest(E e) { return first_violation(guest_rules(), e); }
std::span<const Rule> control_rules() { return kRules; }

bool pat_valid(u64 pat) {
    for (unsigned i = 0; i < 64; i += 8) {
        const u64 type = bits(pat, i + 7, i);
        if (type > 7 || type == 2 || type == 3) return false;
    }
    return true;
}

u64 allowed_efer(const CpuModel& model) {
    u64 allowed = 0;
    if (model.has(CpuFlag::SYSCALL)) allowed |= efer::SCE;
    if (model.has(CpuFlag::LM)) allowed |= efer::LME | efer::LMA;
    if (model.has(CpuFlag::NX)) allowed |= efer::NXE;
    return allowed;
}

}  // namespace vg::cpu::vmx
