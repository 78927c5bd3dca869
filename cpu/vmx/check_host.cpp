// "Checks on Host-State Area" and "Checks Related to Address-Space Size".
#include "base/bits.h"
#include "cpu/segments.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/checks.h"

namespace vg::cpu::vmx {

namespace {

using E = const EntryContext&;
using enum Field;

bool host64(E e) { return e.exit(exits::kHost64); }
bool plain_selector(E e, Field field) { return (e[field] & 7) == 0; }

bool efer_valid(E e) {
    if (!e.exit(exits::kLoadEfer)) return true;
    const u64 value = e[host_efer];
    const u64 wanted = host64(e) ? efer::LME | efer::LMA : 0;
    return (value & ~allowed_efer(e.vp.model())) == 0 && (value & (efer::LME | efer::LMA)) == wanted;
}

constexpr Rule kRules[] = {
    // "Checks on Host Control Registers, MSRs, and SSP"
    {"CR0 has the bits that VMX operation fixes", host_cr0,
     [](E e) { return (e.caps.cr0_must & ~e[host_cr0]) == 0 && e[host_cr0] >> 32 == 0; }},
    {"CR4 has the bits that VMX operation fixes", host_cr4,
     [](E e) { return (e.caps.cr4_must & ~e[host_cr4]) == 0 && (e[host_cr4] & ~e.caps.cr4_may) == 0; }},
    {"CR3 is within physical addresses", host_cr3, [](E e) { return e.address(host_cr3, 0); }},
    {"IA32_SYSENTER_ESP is canonical", host_sysenter_esp, [](E e) { return canonical(e[host_sysenter_esp]); }},
    {"IA32_SYSENTER_EIP is canonical", host_sysenter_eip, [](E e) { return canonical(e[host_sysenter_eip]); }},
    {"IA32_PAT holds memory types", host_pat, [](E e) { return !e.exit(exits::kLoadPat) || pat_valid(e[host_pat]); }},
    {"IA32_EFER has no reserved bit; LMA and LME are the host's address-space size", host_efer, efer_valid},
    // "Checks on Host Segment and Descriptor-Table Registers"
    {"RPL and TI of CS are 0", host_cs_selector, [](E e) { return plain_selector(e, host_cs_selector); }},
    {"RPL and TI of SS are 0", host_ss_selector, [](E e) { return plain_selector(e, host_ss_selector); }},
    {"RPL and TI of DS are 0", host_ds_selector, [](E e) { return plain_selector(e, host_ds_selector); }},
    {"RPL and TI of ES are 0", host_es_selector, [](E e) { return plain_selector(e, host_es_selector); }},
    {"RPL and TI of FS are 0", host_fs_selector, [](E e) { return plain_selector(e, host_fs_selector); }},
    {"RPL and TI of GS are 0", host_gs_selector, [](E e) { return plain_selector(e, host_gs_selector); }},
    {"RPL and TI of TR are 0", host_tr_selector, [](E e) { return plain_selector(e, host_tr_selector); }},
    {"CS is not null", host_cs_selector, [](E e) { return e[host_cs_selector] != 0; }},
    {"TR is not null", host_tr_selector, [](E e) { return e[host_tr_selector] != 0; }},
    {"SS of a 32-bit host is not null", host_ss_selector, [](E e) { return host64(e) || e[host_ss_selector] != 0; }},
    {"the base of FS is canonical", host_fs_base, [](E e) { return canonical(e[host_fs_base]); }},
    {"the base of GS is canonical", host_gs_base, [](E e) { return canonical(e[host_gs_base]); }},
    {"the base of GDTR is canonical", host_gdtr_base, [](E e) { return canonical(e[host_gdtr_base]); }},
    {"the base of IDTR is canonical", host_idtr_base, [](E e) { return canonical(e[host_idtr_base]); }},
    {"the base of TR is canonical", host_tr_base, [](E e) { return canonical(e[host_tr_base]); }},
    // "Checks Related to Address-Space Size"
    {"a guest in IA-32e mode needs a processor in it", entry_controls,
     [](E e) { return e.long_mode() || !e.entry(entries::kGuest64); }},
    {"the host's address-space size is that of the processor now", exit_controls,
     [](E e) { return e.long_mode() == host64(e); }},
    {"a 32-bit host has no guest in IA-32e mode", entry_controls,
     [](E e) { return host64(e) || !e.entry(entries::kGuest64); }},
    {"CR4.PCIDE of a 32-bit host is 0", host_cr4, [](E e) { return host64(e) || (e[host_cr4] & cr4::PCIDE) == 0; }},
    {"RIP of a 32-bit host has 32 bits", host_rip, [](E e) { return host64(e) || e[host_rip] >> 32 == 0; }},
    {"CR4.PAE of a 64-bit host is 1", host_cr4, [](E e) { return !host64(e) || (e[host_cr4] & cr4::PAE) != 0; }},
    {"RIP of a 64-bit host is canonical", host_rip, [](E e) { return !host64(e) || canonical(e[host_rip]); }},
};

}  // namespace

std::span<const Rule> host_rules() { return kRules; }

}  // namespace vg::cpu::vmx
