// Entry checks: from a state that enters, one field is broken at a time, and the rule that fails is the one that speaks of it.
// SDM 3C "VM Entries".
#include <set>
#include <string_view>

#include "tests/cpu/vmx_stage.h"
#include "tests/support/random.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::VmxStage;
using Answer = VmxStage::Answer;
using vmx::Field;
using enum vmx::Field;

namespace {

constexpr u32 kInject = vmx::interruption::kValid, kExceptionType = 3 << 8;

/// A change of the valid state, and words of the rule that it breaks.
struct Break {
    std::string_view rule;
    std::vector<std::pair<Field, u64>> fields;
};

const Break kControls[] = {
    {"pin-based", {{pin_controls, 0}}},
    {"primary processor-based", {{proc_controls, 0x80006172}}},
    {"secondary processor-based", {{proc2_controls, 1u << 31}}},
    {"CR3-target", {{cr3_target_count, 5}}},
    {"I/O bitmap A", {{proc_controls, 0x86006172}, {io_bitmap_a, 1}}},
    {"I/O bitmap B", {{proc_controls, 0x86006172}, {io_bitmap_b, u64{1} << 46}}},
    {"MSR bitmaps", {{proc_controls, 0x94006172}, {msr_bitmaps, 8}}},
    {"virtual-APIC page", {{proc_controls, 0x84206172}, {virtual_apic_address, 8}}},
    {"31:4 of the TPR", {{proc_controls, 0x84206172}, {virtual_apic_address, 0x20000}, {tpr_threshold, 16}}},
    {"not above bits 7:4", {{proc_controls, 0x84206172}, {virtual_apic_address, 0x20000}, {tpr_threshold, 1}}},
    {"virtual NMIs need", {{pin_controls, 0x36}}},
    {"NMI-window", {{proc_controls, 0x84406172}}},
    {"APIC-access page", {{proc2_controls, 1}, {apic_access_address, 4}}},
    {"without a TPR shadow", {{proc2_controls, 1 << 8}}},
    {"VPID is not 0", {{proc2_controls, 1 << 5}}},
    {"EPT pointer", {{proc2_controls, 1 << 1}, {ept_pointer, 0x2001f}}},
    {"unrestricted", {{proc2_controls, 1 << 7}}},
    {"VM-function controls", {{proc2_controls, 1 << 13}, {vm_function_controls, 2}}},
    {"EPTP switching", {{proc2_controls, 1 << 13}, {vm_function_controls, 1}}},
    {"EPTP list", {{proc2_controls, 1 << 13 | 1 << 1}, {ept_pointer, 0x2001e}, {vm_function_controls, 1}, {eptp_list_address, 4}}},
    {"page-modification logging", {{proc2_controls, 1 << 17}}},
    {"page-modification log is", {{proc2_controls, 1 << 17 | 1 << 1}, {ept_pointer, 0x2001e}, {pml_address, 4}}},
    {"virtualization-exception", {{proc2_controls, 1 << 18}, {virtualization_exception_address, 4}}},
    {"TSC multiplier", {{proc2_controls, 1 << 25}}},
    {"mode-based", {{proc2_controls, 1 << 22}}},
    {"VMREAD bitmap", {{proc2_controls, 1 << 14}, {vmread_bitmap, 4}}},
    {"VMWRITE bitmap", {{proc2_controls, 1 << 14}, {vmwrite_bitmap, 4}}},
    {"VM-exit controls", {{exit_controls, 0x200}}},
    {"preemption timer", {{exit_controls, 0x36dfb | 0x200 | 1 << 22}}},
    {"MSR-store", {{exit_msr_store_count, 1}, {exit_msr_store_address, 8}}},
    {"VM-exit MSR-load", {{exit_msr_load_count, 2}, {exit_msr_load_address, (u64{1} << 46) - 16}}},
    {"VM-entry controls", {{entry_controls, 0x200}}},
    {"type exists", {{entry_interruption, kInject | 1 << 8}}},
    {"vector fits", {{entry_interruption, kInject | 2 << 8 | 3}}},
    {"vector fits", {{entry_interruption, kInject | kExceptionType | 32}}},
    {"error code is delivered", {{entry_interruption, kInject | kExceptionType | 13}}},
    {"error code is delivered", {{entry_interruption, kInject | kExceptionType | 1 << 11 | 6}}},
    {"30:12", {{entry_interruption, kInject | 1 << 12 | kExceptionType | 6}}},
    {"31:16", {{entry_interruption, kInject | kExceptionType | 1 << 11 | 13}, {entry_error_code, 0x10000}}},
    {"length", {{entry_interruption, kInject | 4 << 8 | 0x80}, {entry_insn_length, 16}}},
    {"VM-entry MSR-load", {{entry_msr_load_count, 1}, {entry_msr_load_address, 1}}},
};

const Break kHost[] = {
    {"CR0 has", {{host_cr0, 0}}},
    {"CR4 has", {{host_cr4, 0x20}}},
    {"CR3 is", {{host_cr3, u64{1} << 46}}},
    {"SYSENTER_ESP", {{host_sysenter_esp, u64{1} << 47}}},
    {"SYSENTER_EIP", {{host_sysenter_eip, u64{1} << 47}}},
    {"PAT", {{exit_controls, 0x36dfb | 0x200 | 1 << 19}, {host_pat, 2}}},
    {"EFER", {{exit_controls, 0x36dfb | 0x200 | 1 << 21}, {host_efer, 0x100}}},
    {"RPL and TI of CS", {{host_cs_selector, 9}}},
    {"RPL and TI of SS", {{host_ss_selector, 0x14}}},
    {"RPL and TI of DS", {{host_ds_selector, 1}}},
    {"RPL and TI of ES", {{host_es_selector, 2}}},
    {"RPL and TI of FS", {{host_fs_selector, 3}}},
    {"RPL and TI of GS", {{host_gs_selector, 4}}},
    {"RPL and TI of TR", {{host_tr_selector, 0x29}}},
    {"CS is not null", {{host_cs_selector, 0}}},
    {"TR is not null", {{host_tr_selector, 0}}},
    {"base of FS", {{host_fs_base, u64{1} << 47}}},
    {"base of GS", {{host_gs_base, u64{1} << 63}}},
    {"base of GDTR", {{host_gdtr_base, u64{1} << 48}}},
    {"base of IDTR", {{host_idtr_base, u64{1} << 48}}},
    {"base of TR", {{host_tr_base, u64{1} << 48}}},
    {"address-space size", {{exit_controls, 0x36dfb}, {entry_controls, 0x11fb}}},
    {"CR4.PAE", {{host_cr4, cr4::VMXE}}},
    {"RIP of a 64-bit", {{host_rip, u64{1} << 47}}},
};

const Break kGuest[] = {
    {"CR0 has", {{guest_cr0, cr0::PE | cr0::PG}}},
    {"CR4 has", {{guest_cr4, cr4::PAE}}},
    {"DEBUGCTL", {{entry_controls, 0x11fb | 0x204}, {guest_debugctl, 4}}},
    {"IA-32e mode needs CR4.PAE", {{guest_cr4, cr4::VMXE}}},
    {"CR3 is", {{guest_cr3, u64{1} << 46}}},
    {"DR7", {{entry_controls, 0x11fb | 0x204}, {guest_dr7, u64{1} << 32}}},
    {"SYSENTER_ESP", {{guest_sysenter_esp, u64{1} << 47}}},
    {"SYSENTER_EIP", {{guest_sysenter_eip, u64{1} << 47}}},
    {"PAT", {{entry_controls, 0x11fb | 0x200 | 1 << 14}, {guest_pat, 3}}},
    {"EFER", {{entry_controls, 0x11fb | 0x200 | 1 << 15}, {guest_efer, 0x100}}},
    {"TI of TR", {{guest_tr_selector, 0x2c}}},
    {"TI of LDTR", {{guest_ldtr_rights, 0x82}, {guest_ldtr_selector, 4}}},
    {"RPL of SS", {{guest_ss_selector, 0x13}}},
    {"base of TR", {{guest_tr_base, u64{1} << 47}}},
    {"base of FS", {{guest_fs_base, u64{1} << 47}}},
    {"base of GS", {{guest_gs_base, u64{1} << 47}}},
    {"base of LDTR", {{guest_ldtr_rights, 0x82}, {guest_ldtr_base, u64{1} << 47}}},
    {"base of CS", {{guest_cs_base, u64{1} << 32}}},
    {"base of SS", {{guest_ss_base, u64{1} << 32}}},
    {"base of DS", {{guest_ds_base, u64{1} << 32}}},
    {"base of ES", {{guest_es_base, u64{1} << 32}}},
    {"type of CS", {{guest_cs_rights, 0xa098}}},
    {"type of SS", {{guest_ss_rights, 0xc091}}},
    {"accessed, and readable", {{guest_ds_rights, 0xc092}}},
    {"accessed, and readable", {{guest_gs_rights, 0xc099}}},
    {"code or data", {{guest_es_rights, 0xc083}}},
    {"DPL of CS", {{guest_cs_rights, 0xa0bb}}},
    {"DPL of SS", {{guest_ss_rights, 0xc0b3}, {guest_cs_rights, 0xa0bb}}},
    {"not below RPL", {{guest_fs_selector, 0x13}}},
    {"segment is present", {{guest_ds_rights, 0xc013}}},
    {"access rights are 0", {{guest_ds_rights, 0xc193}}},
    {"64-bit and 32-bit", {{guest_cs_rights, 0xe09b}}},
    {"granularity", {{guest_ds_rights, 0x4093}}},
    {"granularity", {{guest_es_limit, 0xffff0000}}},
    {"busy TSS", {{guest_tr_rights, 0x89}}},
    {"TR is a system", {{guest_tr_rights, 0x9b}}},
    {"TR is present", {{guest_tr_rights, 0x0b}}},
    {"TR's access rights", {{guest_tr_rights, 0x18b}}},
    {"limit of TR", {{guest_tr_rights, 0x808b}}},
    {"TR is usable", {{guest_tr_rights, 0x1008b}}},
    {"type of LDTR", {{guest_ldtr_rights, 0x83}}},
    {"LDTR is a system", {{guest_ldtr_rights, 0x92}}},
    {"LDTR is present", {{guest_ldtr_rights, 0x02}}},
    {"LDTR's access rights", {{guest_ldtr_rights, 0x482}}},
    {"limit of LDTR", {{guest_ldtr_rights, 0x8082}, {guest_ldtr_limit, 1}}},
    {"base of GDTR", {{guest_gdtr_base, u64{1} << 47}}},
    {"base of IDTR", {{guest_idtr_base, u64{1} << 47}}},
    {"limit of GDTR", {{guest_gdtr_limit, 0x10000}}},
    {"limit of IDTR", {{guest_idtr_limit, 0x10000}}},
    {"RIP has 32 bits", {{guest_cs_rights, 0xc09b}, {guest_rip, u64{1} << 32}}},
    {"RIP is canonical", {{guest_rip, u64{1} << 47}}},
    {"RFLAGS are", {{guest_rflags, 0}}},
    {"RFLAGS are", {{guest_rflags, 2 | 1 << 15}}},
    {"needs RFLAGS.IF", {{entry_interruption, kInject | 0x40}}},
    {"activity state exists", {{guest_activity, 4}}},
    {"halted guest", {{guest_activity, 1}, {guest_cs_rights, 0xa0fb}, {guest_ss_rights, 0xc0f3}, {guest_cs_selector, 0x1b}, {guest_ss_selector, 0x23}}},
    {"is active", {{guest_activity, 1}, {guest_interruptibility, 2}}},
    {"may wake", {{guest_activity, 2}, {entry_interruption, kInject | kExceptionType | 6}}},
    {"interruptibility state are 0", {{guest_interruptibility, 1 << 5}}},
    {"not both", {{guest_interruptibility, 3}, {guest_rflags, 0x202}}},
    {"STI needs", {{guest_interruptibility, 1}}},
    {"finds no blocking by STI", {{guest_interruptibility, 2}, {guest_rflags, 0x202}, {entry_interruption, kInject | 0x40}}},
    {"NMI finds no blocking by MOV", {{guest_interruptibility, 2}, {entry_interruption, kInject | 0x202}}},
    {"by SMI", {{guest_interruptibility, 4}}},
    {"virtual NMI finds", {{pin_controls, 0x3e}, {guest_interruptibility, 8}, {entry_interruption, kInject | 0x202}}},
    {"pending debug", {{guest_pending_debug, 1 << 5}}},
    {"single-step", {{guest_interruptibility, 2}, {guest_pending_debug, 1 << 14}}},
    {"transaction", {{guest_pending_debug, 1 << 16}}},
    {"link pointer", {{vmcs_link_pointer, 1}}},
    {"linked VMCS has", {{vmcs_link_pointer, VmxStage::kPages}}},
    {"not the current", {{vmcs_link_pointer, VmxStage::kVmcs}}},
};

void apply(VmxStage& t, const Break& each) {
    t.prepare();
    for (const auto& [field, value] : each.fields) t.write(field, value);
    REQUIRE_FALSE(t.vmlaunch());
    REQUIRE(t.unit().last_violation());
    INFO(t.unit().last_violation()->text);
    CHECK(t.unit().last_violation()->text.find(each.rule) != std::string_view::npos);
}

}  // namespace

TEST_CASE("vmx: each check of the controls refuses what it names", "[cpu][vmx]") {
    for (const Break& each : kControls) {
        INFO(each.rule);
        VmxStage t;
        apply(t, each);
        CHECK(t.answer() == Answer::FailValid);
        CHECK(t.unit().current()[insn_error] == vmx::error::kControls);
    }
}

TEST_CASE("vmx: each check of the host's state refuses what it names", "[cpu][vmx]") {
    for (const Break& each : kHost) {
        INFO(each.rule);
        VmxStage t;
        apply(t, each);
        CHECK(t.answer() == Answer::FailValid);
        CHECK(t.unit().current()[insn_error] == vmx::error::kHostState);
    }
}

TEST_CASE("vmx: each check of the guest's state makes the entry exit", "[cpu][vmx]") {
    for (const Break& each : kGuest) {
        INFO(each.rule);
        VmxStage t;
        apply(t, each);
        CHECK(t.result == Exec::Switch);
        CHECK(t.s().rip == VmxStage::kHostCode);
        CHECK_FALSE(t.vp().guest_mode());
        CHECK(t.unit().current()[exit_reason] == (vmx::reason::kInvalidGuestState | vmx::reason::kEntryFailure));
        CHECK_FALSE(t.unit().current().launched);
        const bool link = each.rule.find("link") != std::string_view::npos || each.rule == "not the current";
        CHECK(t.unit().current()[exit_qualification] == (link ? 4u : 0u));
    }
}

TEST_CASE("vmx: the checks are broken one by one but for what this processor cannot have", "[cpu][vmx]") {
    // A rule that nothing above breaks is about virtual-8086 and 32-bit guests or hosts, or about controls that are not offered.
    const auto covered = [](std::string_view text, std::span<const Break> all) {
        return std::any_of(all.begin(), all.end(),
                           [&](const Break& each) { return text.find(each.rule) != std::string_view::npos; });
    };
    unsigned uncovered = 0;
    for (const vmx::Rule& rule : vmx::control_rules()) uncovered += !covered(rule.text, kControls);
    for (const vmx::Rule& rule : vmx::host_rules()) uncovered += !covered(rule.text, kHost);
    std::set<std::string_view> guest;
    for (const vmx::Rule& rule : vmx::guest_rules())
        if (!covered(rule.text, kGuest)) guest.insert(rule.text);
    CHECK(uncovered <= 11);
    CHECK(guest.size() <= 8);
}

TEST_CASE("vmx: an MSR that cannot be loaded makes the entry exit with its number", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    const u64 list[] = {0xc0000081, 0x1234, 0xc0000100, 0};
    t.machine.memory.write(Spa(VmxStage::kPages), list, sizeof list);
    t.write(entry_msr_load_count, 2);
    t.write(entry_msr_load_address, VmxStage::kPages);
    REQUIRE_FALSE(t.vmlaunch());
    CHECK(t.unit().current()[exit_reason] == (vmx::reason::kMsrLoading | vmx::reason::kEntryFailure));
    CHECK(t.unit().current()[exit_qualification] == 2);
    CHECK(t.s().star == 0x1234);
    CHECK(t.s().rip == VmxStage::kHostCode);
}

// The answers of checks are kept from one entry to the next as long as nothing that they looked at has changed.
TEST_CASE("vmx: checks that are not made again would have the answer that is kept", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    const vmx::Unit& unit = t.unit();
    vmx::Vmcs vmcs = unit.current();
    vmx::EntryChecks checks;
    u32 memory_word = vmx::kRevision;
    bool pdptes = true;
    const auto context = [&] {
        return vmx::EntryContext{vmcs, unit.capabilities(), t.vp(), VmxStage::kVmcs, [&](u64) { return memory_word; },
                                 [&](u64, u64*) { return pdptes; }};
    };
    // Fields and values of the rules' borders, from the tables above; each change is taken back sooner or later.
    std::vector<std::pair<Field, u64>> changes;
    for (const auto& list : {std::span<const Break>(kControls), std::span<const Break>(kHost), std::span<const Break>(kGuest)})
        for (const Break& each : list) changes.insert(changes.end(), each.fields.begin(), each.fields.end());
    changes.insert(changes.end(), {{guest_rflags, flag::Always1 | flag::VM}, {guest_rflags, 0x202}, {guest_rip, 0x123456}, {guest_cr3, 0x7000}});
    test::Random random(31);
    std::vector<std::pair<Field, u64>> undo;
    std::set<std::string_view> refusals;
    u64 entered = 0;
    for (unsigned n = 0; n < 60000; ++n) {
        if (undo.size() > 2 || random.chance(60)) {
            for (; !undo.empty(); undo.pop_back()) vmcs.set(undo.back().first, undo.back().second);
        }
        for (u64 count = random.below(3); count > 0; --count) {
            const auto& [field, value] = changes[random.below(changes.size())];
            undo.emplace_back(field, vmcs[field]);
            vmcs.set(field, value);
        }
        if (random.chance(3)) memory_word = random.chance(50) ? vmx::kRevision : vmx::kRevision | 1u << 31;
        if (random.chance(3)) pdptes = !pdptes;
        if (random.chance(2)) t.s().efer ^= efer::LMA;
        vmx::EntryContext kept = context();
        const vmx::EntryContext fresh = context();
        checks.begin(vmcs.take_changed(), kept);
        std::optional<vmx::Violation> found = checks.controls(kept), wanted = check_controls(fresh);
        if (!found) found = checks.host(kept);
        if (!wanted) wanted = check_host(fresh);
        if (!found) found = checks.guest(kept);
        if (!wanted) wanted = check_guest(fresh);
        REQUIRE(found.has_value() == wanted.has_value());
        if (!found) {
            ++entered;
            continue;
        }
        INFO(wanted->text);
        REQUIRE(found->text == wanted->text);
        REQUIRE(found->field == wanted->field);
        REQUIRE(found->value == wanted->value);
        refusals.insert(found->text);
    }
    CHECK(entered > 10000);
    CHECK(refusals.size() > 80);
}
