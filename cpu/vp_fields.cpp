// The field list of a VP: save, restore, inspect, diff and hash derive from it.
#include <string>

#include "base/state.h"
#include "cpu/vp.h"

namespace vg::cpu {

namespace {

template <class T, std::size_t N>
void numbers(StateVisitor& v, std::string_view name, T (&array)[N]) {
    const VisitScope scope(v, name);
    for (std::size_t i = 0; i < N; ++i) v(std::to_string(i), array[i]);
}

void segment(StateVisitor& v, std::string_view name, SegmentReg& reg) {
    const VisitScope scope(v, name);
    v("selector", reg.selector);
    v("base", reg.base);
    v("limit", reg.limit);
    v("attributes", reg.attributes);
}

void table(StateVisitor& v, std::string_view name, TableReg& reg) {
    const VisitScope scope(v, name);
    v("base", reg.base);
    v("limit", reg.limit);
}

constexpr const char* kGprNames[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr const char* kSegNames[8] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};

void x87(StateVisitor& v, X87State& x) {
    const VisitScope scope(v, "x87");
    v("fcw", x.fcw);
    v("fsw", x.fsw);
    v("ftw", x.ftw);
    v("fop", x.fop);
    v("fip", x.fip);
    v("fdp", x.fdp);
    for (unsigned i = 0; i < 8; ++i) v.bytes("st" + std::to_string(i), {x.st[i], 10});
}

void injection_fields(StateVisitor& v, std::optional<Vp::Injection>& injected) {
    const VisitScope scope(v, "injected");
    bool any = injected.has_value();
    Vp::Injection event = injected.value_or(Vp::Injection{});
    v("any", any);
    v("vector", event.fault.vector);
    v("has_error", event.fault.has_error);
    v("error_code", event.fault.error_code);
    v("cr2", event.fault.cr2);
    v("type", event.fault.type);
    v("by_entry", event.fault.by_entry);
    v("insn_length", event.insn_length);
    if (v.loading()) injected = any ? std::optional(event) : std::nullopt;
}

void msr_fields(StateVisitor& v, VpState& s) {
    const VisitScope scope(v, "msr");
    v("efer", s.efer);
    v("star", s.star);
    v("lstar", s.lstar);
    v("cstar", s.cstar);
    v("sfmask", s.sfmask);
    v("kernel_gs_base", s.kernel_gs_base);
    v("sysenter_cs", s.sysenter_cs);
    v("sysenter_esp", s.sysenter_esp);
    v("sysenter_eip", s.sysenter_eip);
    v("pat", s.pat);
    v("tsc_aux", s.tsc_aux);
    v("misc_enable", s.misc_enable);
    v("feature_control", s.feature_control);
    v("apic_base", s.apic_base);
    v("debugctl", s.debugctl);
    v("tsc_deadline", s.tsc_deadline);
    v("spec_ctrl", s.spec_ctrl);
    v("ucode_rev", s.ucode_rev);
    v("tsc_offset", s.tsc_offset);
    v("tsc_adjust", s.tsc_adjust);
    v("mtrr_def_type", s.mtrr_def_type);
    numbers(v, "mtrr_fixed", s.mtrr_fixed);
    numbers(v, "mtrr_base", s.mtrr_base);
    numbers(v, "mtrr_mask", s.mtrr_mask);
    v("mcg_status", s.mcg_status);
    v("mcg_ctl", s.mcg_ctl);
    for (unsigned i = 0; i < 4; ++i) numbers(v, "mc" + std::to_string(i), s.mc_bank[i]);
    v("hwcr", s.hwcr);
    v("syscfg", s.syscfg);
    v("vm_cr", s.vm_cr);
    v("de_cfg", s.de_cfg);
    v("top_mem", s.top_mem);
    v("top_mem2", s.top_mem2);
    v("virt_spec_ctrl", s.virt_spec_ctrl);
    v("ls_cfg", s.ls_cfg);
}

void event_fields(StateVisitor& v, VpState& s) {
    const VisitScope scope(v, "events");
    v("activity", s.activity);
    v("interrupt_shadow", s.interrupt_shadow);
    v("nmi_blocked", s.nmi_blocked);
    v("nmi_pending", s.nmi_pending);
    v("debug_pending", s.debug_pending);
    v("pending_dr6", s.pending_dr6);
    v("init_pending", s.init_pending);
    v("sipi_pending", s.sipi_pending);
    v("sipi_vector", s.sipi_vector);
    v("acknowledged", s.acknowledged);
    v("acknowledged_vector", s.acknowledged_vector);
    v("ferr", s.ferr);
    v("random_state", s.random_state);
}

}  // namespace

void Vp::fields(StateVisitor& v) {
    VpState& s = *state_;
    for (unsigned i = 0; i < 16; ++i) v(kGprNames[i], s.gpr[i]);
    v("rip", s.rip);
    v("rflags", s.rflags);
    for (unsigned i = 0; i < 8; ++i) segment(v, kSegNames[i], s.seg[i]);
    table(v, "gdtr", s.gdtr);
    table(v, "idtr", s.idtr);
    v("cpl", s.cpl);
    v("cr0", s.cr0);
    v("cr2", s.cr2);
    v("cr3", s.cr3);
    v("cr4", s.cr4);
    v("xcr0", s.xcr0);
    v("xss", s.xss);
    v("pkru", s.pkru);
    v("mxcsr", s.mxcsr);
    numbers(v, "dr", s.dr);
    numbers(v, "pdpte", s.pdpte);
    for (unsigned i = 0; i < 16; ++i) v.bytes("ymm" + std::to_string(i), s.ymm[i]);
    x87(v, s.x87);
    msr_fields(v, s);
    event_fields(v, s);
    v("external_line", external_line_);
    v("held", held_);
    injection_fields(v, injected_);
    u64 remaining = static_cast<u64>(s.budget);
    v("budget", remaining);
    s.budget = static_cast<s64>(remaining);
    v("deadline", s.deadline);
    v("idle_ns", s.idle_ns, Fmt::Dec);
    v("delivery_time", delivery_time_);
    v("delivery_streak", delivery_streak_);
    {
        const VisitScope scope(v, "apic");
        apic_->fields(v);
    }
    if (env_.model.has(CpuFlag::SVM)) numbers(v, "last_branch", s.last_branch);
    if (extension_ != nullptr) {
        const VisitScope scope(v, "extension");
        extension_->fields(v);
    }
    if (v.loading()) {
        tlb_->flush_all();
        update_apic_page();
        if (extension_ != nullptr) extension_->loaded(*this);
        update_context();
    }
}

}  // namespace vg::cpu
