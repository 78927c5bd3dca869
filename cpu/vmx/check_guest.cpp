// "Checking and Loading Guest State": the checks on the guest-state area.
#include "base/bits.h"
#include "cpu/segments.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/checks.h"
#include "mmu/walk.h"

namespace vg::cpu::vmx {

namespace {

using E = const EntryContext&;
using enum Field;

bool unrestricted(E e) { return e.proc2(proc2::kUnrestricted); }
bool guest64(E e) { return e.entry(entries::kGuest64); }
bool v8086(E e) { return e.v8086(); }
bool paging(E e) { return (e[guest_cr0] & cr0::PG) != 0; }
bool pae_paging(E e) { return paging(e) && (e[guest_cr4] & cr4::PAE) != 0 && !guest64(e); }

// ---- control registers, debug registers, MSRs

bool cr0_fixed(E e) {
    u64 must = e.caps.cr0_must;
    if (unrestricted(e)) must &= ~(cr0::PE | cr0::PG);
    return (must & ~e[guest_cr0]) == 0 && e[guest_cr0] >> 32 == 0;
}

bool efer_valid(E e) {
    if (!e.entry(entries::kLoadEfer)) return true;
    const u64 value = e[guest_efer];
    if ((value & ~allowed_efer(e.vp.model())) != 0) return false;
    const bool lma = (value & efer::LMA) != 0, lme = (value & efer::LME) != 0;
    return lma == guest64(e) && (!paging(e) || lma == lme);
}

constexpr u64 kDebugctlDefined = debugctl::Lbr | debugctl::Btf;

// ---- segments. Fields of the eight registers are adjacent, in the order ES CS SS DS FS GS LDTR TR.

enum : unsigned { kEs, kCs, kSs, kDs, kFs, kGs, kLdtr, kTr };

struct Segment {
    u64 selector, base, limit;
    u32 rights;
    [[nodiscard]] bool usable() const { return (rights & kUnusable) == 0; }
    [[nodiscard]] u32 type() const { return rights & 15; }
    [[nodiscard]] u32 dpl() const { return rights >> 5 & 3; }
    [[nodiscard]] u32 rpl() const { return static_cast<u32>(selector & 3); }
    [[nodiscard]] bool s() const { return bit(rights, 4); }
    [[nodiscard]] bool present() const { return bit(rights, 7); }
    [[nodiscard]] bool reserved_clear() const { return bits(rights, 11, 8) == 0 && bits(rights, 31, 17) == 0; }
    [[nodiscard]] bool granularity_fits() const {
        const bool g = bit(rights, 15);
        return g ? (limit & 0xfff) == 0xfff : limit >> 20 == 0;
    }
};

Segment segment(E e, unsigned n) {
    return {e[guest_es_selector + n], e[guest_es_base + n], e[guest_es_limit + n],
            e.word(guest_es_rights + n)};
}

bool v8086_base(E e, unsigned n) { return !v8086(e) || segment(e, n).base == segment(e, n).selector << 4; }
bool v8086_limit(E e, unsigned n) { return !v8086(e) || segment(e, n).limit == 0xffff; }
bool v8086_rights(E e, unsigned n) { return !v8086(e) || segment(e, n).rights == 0xf3; }
/// Of a segment whose rights are checked one by one: in use, and not of virtual-8086 mode.
bool checked(E e, unsigned n) { return !v8086(e) && (n == kCs || segment(e, n).usable()); }

bool cs_type(E e) {
    const u32 type = segment(e, kCs).type();
    return v8086(e) || type == 9 || type == 11 || type == 13 || type == 15 || (unrestricted(e) && type == 3);
}
bool ss_type(E e) {
    const u32 type = segment(e, kSs).type();
    return !checked(e, kSs) || type == 3 || type == 7;
}
bool data_type(E e, unsigned n) {
    const u32 type = segment(e, n).type();
    const bool accessed = bit(type, 0), code = bit(type, 3), readable = bit(type, 1);
    return !checked(e, n) || (accessed && (!code || readable));
}
bool cs_dpl(E e) {
    if (v8086(e)) return true;
    const Segment cs = segment(e, kCs), ss = segment(e, kSs);
    switch (cs.type()) {
        case 3: return cs.dpl() == 0;
        case 9:
        case 11: return cs.dpl() == ss.dpl();
        case 13:
        case 15: return cs.dpl() <= ss.dpl();
        default: return true;
    }
}
bool ss_dpl(E e) {
    if (v8086(e)) return true;
    const Segment ss = segment(e, kSs);
    if (!unrestricted(e) && ss.dpl() != ss.rpl()) return false;
    const bool cs_is_data = segment(e, kCs).type() == 3, real = (e[guest_cr0] & cr0::PE) == 0;
    return (!cs_is_data && !real) || ss.dpl() == 0;
}
bool data_dpl(E e, unsigned n) {
    const Segment each = segment(e, n);
    return !checked(e, n) || unrestricted(e) || each.type() > 11 || each.dpl() >= each.rpl();
}

#define VG_EACH(rule, text, field_base)                                                                     \
    {text, field_base + kCs, [](E e) { return rule(e, kCs); }}, {text, field_base + kSs, [](E e) { return rule(e, kSs); }}, \
    {text, field_base + kDs, [](E e) { return rule(e, kDs); }}, {text, field_base + kEs, [](E e) { return rule(e, kEs); }}, \
    {text, field_base + kFs, [](E e) { return rule(e, kFs); }}, {text, field_base + kGs, [](E e) { return rule(e, kGs); }}
#define VG_DATA(rule, text, field_base)                                                                     \
    {text, field_base + kDs, [](E e) { return rule(e, kDs); }}, {text, field_base + kEs, [](E e) { return rule(e, kEs); }}, \
    {text, field_base + kFs, [](E e) { return rule(e, kFs); }}, {text, field_base + kGs, [](E e) { return rule(e, kGs); }}

bool is_code_or_data(E e, unsigned n) { return !checked(e, n) || segment(e, n).s(); }
bool is_present(E e, unsigned n) { return !checked(e, n) || segment(e, n).present(); }
bool reserved_clear(E e, unsigned n) { return !checked(e, n) || segment(e, n).reserved_clear(); }
bool granularity_fits(E e, unsigned n) { return !checked(e, n) || segment(e, n).granularity_fits(); }

// ---- events

u32 injected(E e) { return e.word(entry_interruption); }
bool injects(E e) { return (injected(e) & interruption::kValid) != 0; }
bool injects(E e, u32 type) { return injects(e) && interruption::type(injected(e)) == type; }
u32 blocking(E e) { return e.word(guest_interruptibility); }
u64 activity(E e) { return e[guest_activity]; }

bool injection_fits_activity(E e) {
    if (!injects(e)) return true;
    const u32 vector = injected(e) & 0xff;
    const bool nmi = injects(e, interruption::kNmi), exception = injects(e, interruption::kHardException);
    const bool machine_check = exception && vector == kMachineCheck;
    switch (activity(e)) {
        case kActivityActive: return true;
        case kActivityHlt:
            return nmi || injects(e, interruption::kExternal) || machine_check || (exception && vector == kDebug) ||
                   injects(e, interruption::kOther);
        case kActivityShutdown: return nmi || machine_check;
        default: return false;
    }
}

bool single_step_is_pending_as_it_must(E e) {
    const bool holds_traps = (blocking(e) & (interruptibility::kSti | interruptibility::kMovSs)) != 0 ||
                             activity(e) == kActivityHlt;
    if (!holds_traps) return true;
    const bool steps = (e[guest_rflags] & flag::TF) != 0 && (e[guest_debugctl] & debugctl::Btf) == 0;
    return steps == ((e[guest_pending_debug] & pending_debug::kStep) != 0);
}

bool linked(E e) { return e[vmcs_link_pointer] != kNoVmcs; }
bool link_revision(E e) {
    if (!linked(e)) return true;
    const u32 word = e.read_word(e[vmcs_link_pointer]);
    return (word & ~kShadowIndicator) == kRevision && ((word & kShadowIndicator) != 0) == e.proc2(proc2::kShadowVmcs);
}

constexpr u32 kByPdptes = 2, kByLinkPointer = 4;

bool pdptes_valid(E e) {
    if (!pae_paging(e)) return true;
    u64 entries[4] = {e[guest_pdpte0], e[guest_pdpte1], e[guest_pdpte2], e[guest_pdpte3]};
    if (!e.proc2(proc2::kEpt)) return e.read_pdptes(e[guest_cr3], entries);
    for (const u64 entry : entries)
        if (bit(entry, 0) && (entry & mmu::reserved_pdpte_bits(e.caps.physical_bits)) != 0) return false;
    return true;
}

constexpr Rule kRules[] = {
    // "Checks on Guest Control Registers, Debug Registers, and MSRs"
    {"CR0 has the bits that VMX operation fixes", guest_cr0, cr0_fixed},
    {"CR0.PG needs CR0.PE", guest_cr0, [](E e) { return !paging(e) || (e[guest_cr0] & cr0::PE) != 0; }},
    {"CR4 has the bits that VMX operation fixes", guest_cr4,
     [](E e) { return (e.caps.cr4_must & ~e[guest_cr4]) == 0 && (e[guest_cr4] & ~e.caps.cr4_may) == 0; }},
    {"IA32_DEBUGCTL has no reserved bit", guest_debugctl,
     [](E e) { return !e.entry(entries::kLoadDebug) || (e[guest_debugctl] & ~kDebugctlDefined) == 0; }},
    {"IA-32e mode needs CR0.PG", guest_cr0, [](E e) { return !guest64(e) || paging(e); }},
    {"IA-32e mode needs CR4.PAE", guest_cr4, [](E e) { return !guest64(e) || (e[guest_cr4] & cr4::PAE) != 0; }},
    {"CR4.PCIDE needs IA-32e mode", guest_cr4, [](E e) { return guest64(e) || (e[guest_cr4] & cr4::PCIDE) == 0; }},
    {"CR3 is within physical addresses", guest_cr3, [](E e) { return e.address(guest_cr3, 0); }},
    {"DR7 has 32 bits", guest_dr7, [](E e) { return !e.entry(entries::kLoadDebug) || e[guest_dr7] >> 32 == 0; }},
    {"IA32_SYSENTER_ESP is canonical", guest_sysenter_esp, [](E e) { return canonical(e[guest_sysenter_esp]); }},
    {"IA32_SYSENTER_EIP is canonical", guest_sysenter_eip, [](E e) { return canonical(e[guest_sysenter_eip]); }},
    {"IA32_PAT holds memory types", guest_pat, [](E e) { return !e.entry(entries::kLoadPat) || pat_valid(e[guest_pat]); }},
    {"IA32_EFER has no reserved bit; LMA is the guest's mode and, with paging, LME", guest_efer, efer_valid},
    // "Checks on Guest Segment Registers"
    {"TI of TR is 0", guest_tr_selector, [](E e) { return !bit(e[guest_tr_selector], 2); }},
    {"TI of LDTR is 0", guest_ldtr_selector,
     [](E e) { return !segment(e, kLdtr).usable() || !bit(e[guest_ldtr_selector], 2); }},
    {"RPL of SS is that of CS", guest_ss_selector,
     [](E e) { return v8086(e) || unrestricted(e) || segment(e, kSs).rpl() == segment(e, kCs).rpl(); }},
    VG_EACH(v8086_base, "the base in virtual-8086 mode is 16 times the selector", guest_es_base),
    {"the base of TR is canonical", guest_tr_base, [](E e) { return canonical(e[guest_tr_base]); }},
    {"the base of FS is canonical", guest_fs_base, [](E e) { return canonical(e[guest_fs_base]); }},
    {"the base of GS is canonical", guest_gs_base, [](E e) { return canonical(e[guest_gs_base]); }},
    {"the base of LDTR is canonical", guest_ldtr_base,
     [](E e) { return !segment(e, kLdtr).usable() || canonical(e[guest_ldtr_base]); }},
    {"the base of CS has 32 bits", guest_cs_base, [](E e) { return e[guest_cs_base] >> 32 == 0; }},
    {"the base of SS has 32 bits", guest_ss_base, [](E e) { return !segment(e, kSs).usable() || e[guest_ss_base] >> 32 == 0; }},
    {"the base of DS has 32 bits", guest_ds_base, [](E e) { return !segment(e, kDs).usable() || e[guest_ds_base] >> 32 == 0; }},
    {"the base of ES has 32 bits", guest_es_base, [](E e) { return !segment(e, kEs).usable() || e[guest_es_base] >> 32 == 0; }},
    VG_EACH(v8086_limit, "the limit in virtual-8086 mode is FFFFH", guest_es_limit),
    VG_EACH(v8086_rights, "the access rights in virtual-8086 mode are F3H", guest_es_rights),
    {"the type of CS is accessed code, or, of an unrestricted guest, accessed writable data", guest_cs_rights, cs_type},
    {"the type of SS is accessed writable data", guest_ss_rights, ss_type},
    VG_DATA(data_type, "the type is accessed, and readable if code", guest_es_rights),
    VG_EACH(is_code_or_data, "the segment is code or data", guest_es_rights),
    {"DPL of CS fits its type and DPL of SS", guest_cs_rights, cs_dpl},
    {"DPL of SS is its RPL, and 0 in real-address mode", guest_ss_rights, ss_dpl},
    VG_DATA(data_dpl, "DPL is not below RPL", guest_es_rights),
    VG_EACH(is_present, "the segment is present", guest_es_rights),
    VG_EACH(reserved_clear, "reserved bits of the access rights are 0", guest_es_rights),
    {"CS is not both 64-bit and 32-bit", guest_cs_rights,
     [](E e) {
         const u32 rights = segment(e, kCs).rights;
         return v8086(e) || !guest64(e) || !bit(rights, 13) || !bit(rights, 14);
     }},
    VG_EACH(granularity_fits, "the limit fits the granularity", guest_es_limit),
    {"the type of TR is a busy TSS", guest_tr_rights,
     [](E e) {
         const u32 type = segment(e, kTr).type();
         return type == 11 || (!guest64(e) && type == 3);
     }},
    {"TR is a system segment", guest_tr_rights, [](E e) { return !segment(e, kTr).s(); }},
    {"TR is present", guest_tr_rights, [](E e) { return segment(e, kTr).present(); }},
    {"reserved bits of TR's access rights are 0", guest_tr_rights, [](E e) { return segment(e, kTr).reserved_clear(); }},
    {"the limit of TR fits its granularity", guest_tr_limit, [](E e) { return segment(e, kTr).granularity_fits(); }},
    {"TR is usable", guest_tr_rights, [](E e) { return segment(e, kTr).usable(); }},
    {"the type of LDTR is LDT", guest_ldtr_rights,
     [](E e) { return !segment(e, kLdtr).usable() || segment(e, kLdtr).type() == 2; }},
    {"LDTR is a system segment", guest_ldtr_rights,
     [](E e) { return !segment(e, kLdtr).usable() || !segment(e, kLdtr).s(); }},
    {"LDTR is present", guest_ldtr_rights,
     [](E e) { return !segment(e, kLdtr).usable() || segment(e, kLdtr).present(); }},
    {"reserved bits of LDTR's access rights are 0", guest_ldtr_rights,
     [](E e) { return !segment(e, kLdtr).usable() || segment(e, kLdtr).reserved_clear(); }},
    {"the limit of LDTR fits its granularity", guest_ldtr_limit,
     [](E e) { return !segment(e, kLdtr).usable() || segment(e, kLdtr).granularity_fits(); }},
    // "Checks on Guest Descriptor-Table Registers"
    {"the base of GDTR is canonical", guest_gdtr_base, [](E e) { return canonical(e[guest_gdtr_base]); }},
    {"the base of IDTR is canonical", guest_idtr_base, [](E e) { return canonical(e[guest_idtr_base]); }},
    {"the limit of GDTR has 16 bits", guest_gdtr_limit, [](E e) { return e[guest_gdtr_limit] >> 16 == 0; }},
    {"the limit of IDTR has 16 bits", guest_idtr_limit, [](E e) { return e[guest_idtr_limit] >> 16 == 0; }},
    // "Checks on Guest RIP, RFLAGS, and SSP"
    {"RIP has 32 bits outside 64-bit mode", guest_rip,
     [](E e) { return (guest64(e) && bit(segment(e, kCs).rights, 13)) || e[guest_rip] >> 32 == 0; }},
    {"RIP is canonical", guest_rip, [](E e) { return canonical(e[guest_rip]); }},
    {"reserved bits of RFLAGS are as they are fixed", guest_rflags,
     [](E e) {
         constexpr u64 kReserved = ~low_mask(22) | 1 << 15 | 1 << 5 | 1 << 3;
         return (e[guest_rflags] & kReserved) == 0 && (e[guest_rflags] & flag::Always1) != 0;
     }},
    {"RFLAGS.VM needs protected mode and no IA-32e mode", guest_rflags,
     [](E e) { return !v8086(e) || (!guest64(e) && (e[guest_cr0] & cr0::PE) != 0); }},
    {"an injected external interrupt needs RFLAGS.IF", guest_rflags,
     [](E e) { return !injects(e, interruption::kExternal) || (e[guest_rflags] & flag::IF) != 0; }},
    // "Checks on Guest Non-Register State"
    {"the activity state exists", guest_activity, [](E e) { return activity(e) <= kActivityWaitForSipi; }},
    {"a halted guest is at privilege level 0", guest_activity,
     [](E e) { return activity(e) != kActivityHlt || segment(e, kSs).dpl() == 0; }},
    {"a guest with interrupts blocked by STI or MOV SS is active", guest_activity,
     [](E e) {
         return (blocking(e) & (interruptibility::kSti | interruptibility::kMovSs)) == 0 ||
                activity(e) == kActivityActive;
     }},
    {"the injected event may wake from the activity state", guest_activity, injection_fits_activity},
    {"reserved bits of the interruptibility state are 0", guest_interruptibility,
     [](E e) { return blocking(e) >> 4 == 0; }},
    {"not both STI and MOV SS block", guest_interruptibility,
     [](E e) {
         constexpr u32 kBoth = interruptibility::kSti | interruptibility::kMovSs;
         return (blocking(e) & kBoth) != kBoth;
     }},
    {"blocking by STI needs RFLAGS.IF", guest_interruptibility,
     [](E e) { return (e[guest_rflags] & flag::IF) != 0 || (blocking(e) & interruptibility::kSti) == 0; }},
    {"an injected external interrupt finds no blocking by STI or MOV SS", guest_interruptibility,
     [](E e) {
         return !injects(e, interruption::kExternal) ||
                (blocking(e) & (interruptibility::kSti | interruptibility::kMovSs)) == 0;
     }},
    {"an injected NMI finds no blocking by MOV SS", guest_interruptibility,
     [](E e) { return !injects(e, interruption::kNmi) || (blocking(e) & interruptibility::kMovSs) == 0; }},
    {"there is no blocking by SMI", guest_interruptibility, [](E e) { return (blocking(e) & interruptibility::kSmi) == 0; }},
    {"an injected virtual NMI finds no blocking by NMI", guest_interruptibility,
     [](E e) {
         return !e.pin(pin::kVirtualNmis) || !injects(e, interruption::kNmi) || (blocking(e) & interruptibility::kNmi) == 0;
     }},
    {"reserved bits of the pending debug exceptions are 0", guest_pending_debug,
     [](E e) {
         constexpr u64 kDefined = pending_debug::kBreakpoints | pending_debug::kEnabled | pending_debug::kStep |
                                  pending_debug::kRtm;
         return (e[guest_pending_debug] & ~kDefined) == 0;
     }},
    {"a held single-step trap is pending exactly if RFLAGS.TF asks for one", guest_pending_debug,
     single_step_is_pending_as_it_must},
    {"no transaction is pending", guest_pending_debug, [](E e) { return (e[guest_pending_debug] & pending_debug::kRtm) == 0; }},
    {"the VMCS link pointer is at a page's address", vmcs_link_pointer,
     [](E e) { return !linked(e) || e.address(vmcs_link_pointer, 12); }, kByLinkPointer},
    {"the linked VMCS has this revision, and is a shadow exactly if shadowing is on", vmcs_link_pointer, link_revision,
     kByLinkPointer},
    {"the linked VMCS is not the current one", vmcs_link_pointer,
     [](E e) { return !linked(e) || e[vmcs_link_pointer] != e.current_pointer; }, kByLinkPointer},
    // "Checks on Guest Page-Directory-Pointer-Table Entries"
    {"the PDPTEs have no reserved bit", guest_cr3, pdptes_valid, kByPdptes},
};

#undef VG_EACH
#undef VG_DATA

}  // namespace

std::span<const Rule> guest_rules() { return kRules; }

}  // namespace vg::cpu::vmx
