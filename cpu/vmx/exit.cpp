// VM exits: saving the guest, loading the host. SDM 3C "VM Exits".
#include "base/bits.h"
#include "cpu/insn.h"
#include "cpu/msr.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/unit.h"

namespace vg::cpu::vmx {

namespace {

using enum Field;

constexpr u64 kCr0Kept = cr0::ET | cr0::NW | cr0::CD | 0x1ffaffc0;
constexpr u64 kResetDr7 = 0x400;

u32 rights_of(const SegmentReg& segment) {
    if (segment.usable()) return segment.attributes & 0xf0ffu;
    return kUnusable | (segment.attributes & 0x60u);  // DPL of an unusable SS is CPL
}

bool returns_to_itself(u32 info) {
    const u32 vector = info & 0xff;
    return interruption::type(info) == interruption::kHardException && vector != kDebug && vector != kDoubleFault &&
           vector != kMachineCheck;
}

}  // namespace

/// "Information for VM Exits During Event Delivery".
void Unit::describe_vectoring(ExitRecord& record) {
    const std::optional<Vp::Injection>& event = vp_.delivering();
    vmcs_.set(vectoring, 0);
    if (!event) return;
    const Fault& fault = event->fault;
    u32 info = fault.vector | static_cast<u32>(fault.type) << 8 | interruption::kValid;
    if (fault.has_error) {
        info |= interruption::kErrorCode;
        vmcs_.set(vectoring_error_code, fault.error_code);
    }
    vmcs_.set(vectoring, info);
    if (fault.type >= EventType::SoftInt) record.insn_length = static_cast<u8>(event->insn_length);
}

void Unit::exit_guest(const ExitRecord& what) {
    ExitRecord record = what;
    describe_vectoring(record);
    vmcs_.set(exit_reason, record.reason);
    vmcs_.set(exit_qualification, record.qualification);
    vmcs_.set(exit_interruption, record.interruption);
    if ((record.interruption & interruption::kErrorCode) != 0) vmcs_.set(exit_error_code, record.error_code);
    vmcs_.set(exit_insn_length, record.insn_length);
    vmcs_.set(exit_insn_info, record.insn_info);
    if (record.has_linear) vmcs_.set(guest_linear_address, record.linear);
    if (record.has_physical) vmcs_.set(guest_physical_address, record.physical);
    vmcs_.set(entry_interruption, vmcs_[entry_interruption] & ~u64{interruption::kValid});
    save_guest(record);
    vp_.set_guest_tsc_offset(0);  // SDM 3C "Use TSC offsetting": RDTSC, RDTSCP and RDMSR of a guest have it, lists have not
    if (!store_msrs()) return abort(1);
    if (timer_runs_) vp_.events().cancel(timer_);
    timer_runs_ = timer_expired_ = monitor_trap_pending_ = tpr_exit_pending_ = virtual_pending_ = false;
    apic_written_ = kNoRegister;
    const bool keeps_nmi_blocking = !pin(pin::kVirtualNmis);
    const bool by_nmi = record.reason == reason::kExceptionOrNmi && record.interruption != 0 &&
                        interruption::type(record.interruption) == interruption::kNmi;
    leave_level();
    store_enlightened();
    load_host();
    if (!keeps_nmi_blocking) s_.nmi_blocked = 0;
    if (by_nmi) s_.nmi_blocked = 1;
    if (!proc2(proc2::kVpid)) vp_.tlb().flush_tag(0, true);
    vp_.mark_switched();
}

// ---- saving ------------------------------------------------------------------------------------------------------

void Unit::save_guest(const ExitRecord& record) {
    vmcs_.set(guest_cr0, s_.cr0);
    vmcs_.set(guest_cr3, s_.cr3);
    vmcs_.set(guest_cr4, s_.cr4);
    if (exits(exits::kSaveDebug)) {
        vmcs_.set(guest_dr7, s_.dr[7]);
        vmcs_.set(guest_debugctl, s_.debugctl);
    }
    vmcs_.set(guest_sysenter_cs, s_.sysenter_cs);
    vmcs_.set(guest_sysenter_esp, s_.sysenter_esp);
    vmcs_.set(guest_sysenter_eip, s_.sysenter_eip);
    if (exits(exits::kSavePat)) vmcs_.set(guest_pat, s_.pat);
    if (exits(exits::kSaveEfer)) vmcs_.set(guest_efer, s_.efer);
    // IA32_VMX_MISC bit 5: the entry control follows the guest's mode.
    const u64 mode = (s_.efer & efer::LMA) != 0 ? entries::kGuest64 : 0;
    vmcs_.set(entry_controls, (vmcs_[entry_controls] & ~u64{entries::kGuest64}) | mode);
    vmcs_.set(guest_rsp, s_.gpr[RSP]);
    vmcs_.set(guest_rip, s_.rip);
    u64 flags = s_.rflags;
    const bool pushes_rf = returns_to_itself(record.interruption) || returns_to_itself(vmcs_.word(vectoring));
    if (pushes_rf || (vp_.executing() != nullptr && vp_.resume_flag())) flags |= flag::RF;
    vmcs_.set(guest_rflags, flags);
    if (proc2(proc2::kEpt) && guest_is_pae())
        for (unsigned n = 0; n < 4; ++n) vmcs_.set(guest_pdpte0 + n, s_.pdpte[n]);
    note_page_log();
    save_guest_segments();
    save_guest_events(record);
}

void Unit::save_guest_segments() {
    for (unsigned n = 0; n < 8; ++n) {
        vmcs_.set(guest_es_selector + n, s_.seg[n].selector);
        vmcs_.set(guest_es_base + n, s_.seg[n].base);
        vmcs_.set(guest_es_limit + n, s_.seg[n].limit);
        vmcs_.set(guest_es_rights + n, rights_of(s_.seg[n]));
    }
    vmcs_.set(guest_gdtr_base, s_.gdtr.base);
    vmcs_.set(guest_gdtr_limit, s_.gdtr.limit);
    vmcs_.set(guest_idtr_base, s_.idtr.base);
    vmcs_.set(guest_idtr_limit, s_.idtr.limit);
}

void Unit::save_guest_events(const ExitRecord& record) {
    u32 state = kActivityActive;
    switch (s_.activity) {
        case Activity::Active:
        case Activity::Idle: break;  // which any exit ends
        case Activity::Halted: state = kActivityHlt; break;
        case Activity::Shutdown: state = kActivityShutdown; break;
        case Activity::WaitForSipi: state = kActivityWaitForSipi; break;
    }
    vmcs_.set(guest_activity, state);
    const u8 shadow = vp_.shadow_in_force();
    u32 blocking = 0;
    if ((shadow & shadow::MovSs) != 0) blocking = interruptibility::kMovSs;
    else if ((shadow & shadow::Sti) != 0) blocking = interruptibility::kSti;
    if (s_.nmi_blocked != 0) blocking |= interruptibility::kNmi;
    vmcs_.set(guest_interruptibility, blocking);
    u64 pending = 0;
    const bool by_trap = record.reason == reason::kExceptionOrNmi && (record.interruption & 0xff) == kDebug;
    if (s_.debug_pending != 0 && !by_trap) {
        pending = s_.pending_dr6 & (pending_debug::kBreakpoints | pending_debug::kStep);
        if ((pending & pending_debug::kBreakpoints) != 0) pending |= pending_debug::kEnabled;
    }
    vmcs_.set(guest_pending_debug, pending);
    s_.debug_pending = 0;
    s_.pending_dr6 = 0;
    if (!exits(exits::kSavePreemptionTimer)) return;
    const u64 now = host_tsc() >> kTimerRate, end = timer_end_ >> kTimerRate;
    vmcs_.set(preemption_timer, timer_expired_ || record.reason == reason::kPreemptionTimer || end <= now ? 0 : end - now);
}

/// SDM 3C "Saving MSRs". False: VMX abort.
bool Unit::store_msrs() {
    const u64 count = vmcs_[exit_msr_store_count];
    for (u64 n = 0; n < count; ++n) {
        const u64 address = vmcs_[exit_msr_store_address] + 16 * n;
        const auto index = read_physical<u64>(address);
        u64 value = 0;
        if (n >= kMaxMsrList || index >> 32 != 0 || !read_msr(vp_, static_cast<u32>(index), value)) return false;
        write_physical(address + 8, &value, sizeof value);
    }
    return true;
}

// ---- loading -----------------------------------------------------------------------------------------------------

void Unit::load_host() {
    const bool wide = exits(exits::kHost64);
    s_.cr0 = (s_.cr0 & kCr0Kept) | (vmcs_[host_cr0] & ~kCr0Kept & 0xffffffff);
    s_.cr3 = vmcs_[host_cr3];
    s_.cr4 = vmcs_[host_cr4];
    if (wide) s_.cr4 |= cr4::PAE;
    else s_.cr4 &= ~cr4::PCIDE;
    s_.dr[7] = kResetDr7;
    s_.debugctl = 0;
    load_host_segments();
    load_host_msrs();
    s_.gpr[RSP] = vmcs_[host_rsp];
    s_.rip = vmcs_[host_rip];
    s_.rflags = flag::Always1;
    s_.activity = Activity::Active;
    s_.interrupt_shadow = 0;
    s_.debug_pending = 0;
    s_.pending_dr6 = 0;
    vp_.forget_shadow();
    if (guest_is_pae() &&
        !mmu::load_pdptes(vp_.physical(), host_slat(), s_.cr3, caps_.physical_bits, s_.pdpte))
        return abort(2);
    vp_.update_context();
    if (load_msrs(exit_msr_load_address, exit_msr_load_count) != 0) abort(4);
}

void Unit::load_host_segments() {
    constexpr u16 kCode = 0x9b, kData = 0x93, kTss = 0x8b, kLong = 0x2000, kBig = 0x4000, kPages = 0x8000;
    const bool wide = exits(exits::kHost64);
    const auto flat = [](u64 selector, u64 base, u16 attributes) {
        SegmentReg segment{base, 0xffffffff, static_cast<u16>(selector), attributes};
        if (selector == 0) segment.attributes &= static_cast<u16>(~0x80u);  // unusable
        return segment;
    };
    constexpr u16 kFlatData = kData | kBig | kPages;
    s_.segment(Seg::CS) = flat(vmcs_[host_cs_selector], 0, static_cast<u16>(kCode | kPages | (wide ? kLong : kBig)));
    s_.segment(Seg::SS) = flat(vmcs_[host_ss_selector], 0, kFlatData);
    s_.segment(Seg::DS) = flat(vmcs_[host_ds_selector], 0, kFlatData);
    s_.segment(Seg::ES) = flat(vmcs_[host_es_selector], 0, kFlatData);
    s_.segment(Seg::FS) = flat(vmcs_[host_fs_selector], vmcs_[host_fs_base], kFlatData);
    s_.segment(Seg::GS) = flat(vmcs_[host_gs_selector], vmcs_[host_gs_base], kFlatData);
    s_.segment(Seg::LDTR) = {0, 0, 0, 0};
    s_.segment(Seg::TR) = {vmcs_[host_tr_base], 0x67, static_cast<u16>(vmcs_[host_tr_selector]), kTss};
    s_.gdtr = {vmcs_[host_gdtr_base], 0xffff, 0};
    s_.idtr = {vmcs_[host_idtr_base], 0xffff, 0};
    s_.cpl = 0;
}

void Unit::load_host_msrs() {
    s_.sysenter_cs = vmcs_[host_sysenter_cs];
    s_.sysenter_esp = vmcs_[host_sysenter_esp];
    s_.sysenter_eip = vmcs_[host_sysenter_eip];
    constexpr u64 kMode = efer::LME | efer::LMA;
    s_.efer = exits(exits::kHost64) ? s_.efer | kMode : s_.efer & ~kMode;
    if (exits(exits::kLoadEfer)) s_.efer = vmcs_[host_efer];
    if (exits(exits::kLoadPat)) s_.pat = vmcs_[host_pat];
}

/// SDM 3C "VMX Aborts": an indicator in the VMCS region, and the processor shuts down.
void Unit::abort(u32 indicator) {
    write_physical(current_ + Vmcs::kAbortOffset, &indicator, sizeof indicator);
    vp_.log().warn(Area::Cpu, "{}: VMX abort {}", vp_.name(), indicator);
    if (vp_.guest_mode()) leave_level();
    s_.activity = Activity::Shutdown;
    vp_.mark_switched();
    vp_.platform().shutdown(vp_);
}

}  // namespace vg::cpu::vmx
