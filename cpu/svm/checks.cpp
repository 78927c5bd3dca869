#include "cpu/svm/checks.h"

#include "base/bits.h"
#include "cpu/control_registers.h"
#include "cpu/spec/svm.h"

namespace vg::cpu::svm {

namespace {

using E = const EntryContext&;
using enum Field;

constexpr u16 kLong = 0x200, kBig = 0x400;  // CS.L and CS.D in a VMCB

bool physical(E e, u64 address) { return (address & ~low_mask(e.vp.model().physical_bits())) == 0; }
bool nested(E e) { return (e[nested_control] & kNestedPaging) != 0; }
bool long_paging(E e) { return (e[guest_efer] & cpu::efer::LME) != 0 && (e[guest_cr0] & cpu::cr0::PG) != 0; }

u64 efer_mask(const CpuModel& model) {
    u64 mask = cpu::efer::LMA | cpu::efer::SVME;
    if (model.has(CpuFlag::SYSCALL)) mask |= cpu::efer::SCE;
    if (model.has(CpuFlag::LM)) mask |= cpu::efer::LME;
    if (model.has(CpuFlag::NX)) mask |= cpu::efer::NXE;
    if (model.has(CpuFlag::FFXSR)) mask |= cpu::efer::FFXSR;
    if (model.has(CpuFlag::AUTOMATIC_IBRS)) mask |= u64{1} << 21;
    return mask;
}

/// A permission map ends below the limit of physical addresses.
bool map_valid(E e, Field base, u32 size) {
    const u64 first = e[base] & ~kPageMask;
    return physical(e, first) && physical(e, first + size);
}

bool injects(E e) { return (e[event_inj] & event::kValid) != 0; }
bool injected_type_valid(E e) {
    switch (event::type(e[event_inj])) {
        case event::kInterrupt:
        case event::kNmi:
        case event::kException:
        case event::kSoftwareInterrupt:
            return true;
        default:
            return false;
    }
}
bool injected_exception_valid(E e) {
    if (!injects(e) || event::type(e[event_inj]) != event::kException) return true;
    const u64 vector = e[event_inj] & 0xff;
    if (vector > 31 || vector == cpu::kNmi) return false;
    const bool wide = long_paging(e) && (e[cs_attributes] & kLong) != 0;
    return !wide || (vector != kOverflow && vector != kBoundRange);  // INTO and BOUND do not exist there
}

bool pat_valid(u64 pat) {
    for (unsigned i = 0; i < 64; i += 8) {
        const u64 type = bits(pat, i + 7, i);
        if (type > 7 || type == 2 || type == 3) return false;
    }
    return true;
}

constexpr Rule kRules[] = {
    // "Canonicalization and Consistency Checks"
    {"EFER.SVME is 1", guest_efer, [](E e) { return (e[guest_efer] & cpu::efer::SVME) != 0; }},
    {"CR0.NW is 0 if CR0.CD is", guest_cr0,
     [](E e) { return (e[guest_cr0] & cpu::cr0::CD) != 0 || (e[guest_cr0] & cpu::cr0::NW) == 0; }},
    {"the upper half of CR0 is 0", guest_cr0, [](E e) { return e[guest_cr0] >> 32 == 0; }},
    {"CR3 has no reserved bit", guest_cr3, [](E e) { return physical(e, e[guest_cr3]); }},
    {"CR4 has no reserved bit", guest_cr4, [](E e) { return (e[guest_cr4] & ~cr4_mask(e.vp.model())) == 0; }},
    {"the upper half of DR6 is 0", guest_dr6, [](E e) { return e[guest_dr6] >> 32 == 0; }},
    {"the upper half of DR7 is 0", guest_dr7, [](E e) { return e[guest_dr7] >> 32 == 0; }},
    {"EFER has no reserved bit", guest_efer, [](E e) { return (e[guest_efer] & ~efer_mask(e.vp.model())) == 0; }},
    {"long mode exists if EFER.LMA or EFER.LME is set", guest_efer,
     [](E e) { return e.vp.model().has(CpuFlag::LM) || (e[guest_efer] & (cpu::efer::LMA | cpu::efer::LME)) == 0; }},
    {"CR4.PAE is 1 in long mode with paging", guest_cr4,
     [](E e) { return !long_paging(e) || (e[guest_cr4] & cpu::cr4::PAE) != 0; }},
    {"CR0.PE is 1 in long mode with paging", guest_cr0,
     [](E e) { return !long_paging(e) || (e[guest_cr0] & cpu::cr0::PE) != 0; }},
    {"CS.L and CS.D are not both 1 in long mode with paging", cs_attributes,
     [](E e) { return !long_paging(e) || (e[cs_attributes] & (kLong | kBig)) != (kLong | kBig); }},
    {"VMRUN is intercepted", intercept_4, [](E e) { return (e[intercept_4] & 1) != 0; }},
    {"the MSR permission map is within physical addresses", msrpm_base,
     [](E e) { return map_valid(e, msrpm_base, kMsrpmSize); }},
    {"the I/O permission map is within physical addresses", iopm_base,
     [](E e) { return map_valid(e, iopm_base, kIopmSize); }},
    {"the type of the event to inject exists", event_inj, [](E e) { return !injects(e) || injected_type_valid(e); }},
    {"the exception to inject exists in the guest's mode", event_inj, injected_exception_valid},
    {"NMIs are intercepted if they are virtual", int_ctl,
     [](E e) {
         return (e[int_ctl] & virq::kNmiEnable) == 0 || (e[intercept_3] >> (code::kNmi % 32) & 1) != 0;
     }},
    {"the ASID is not 0", guest_asid, [](E e) { return e[guest_asid] != 0; }},
    {"the ASID is one of those that there are", guest_asid, [](E e) { return e[guest_asid] < kAsids; }},
    {"the PDPTEs have no reserved bit if there is no nested paging", guest_cr3, [](E e) { return e.pdptes_valid; }},
    // "Nested Paging and VMRUN/#VMEXIT"
    {"nCR3 has no reserved bit", nested_cr3, [](E e) { return !nested(e) || physical(e, e[nested_cr3]); }},
    {"G_PAT holds memory types", g_pat, [](E e) { return !nested(e) || pat_valid(e[g_pat]); }},
    // Nested tables have the format of the host's: here they are those of long mode only.
    {"the host is in long mode if there is nested paging", nested_control,
     [](E e) { return !nested(e) || e.vp.long_mode(); }},
};

}  // namespace

std::span<const Rule> rules() { return kRules; }

std::optional<Violation> check(const EntryContext& e) {
    for (const Rule& rule : kRules)
        if (!rule.holds(e)) return Violation{rule.text, rule.field, e[rule.field]};
    return std::nullopt;
}

}  // namespace vg::cpu::svm
