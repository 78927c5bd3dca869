// VM entries. SDM 3C "VM Entries".
#include "base/bits.h"
#include "cpu/msr.h"
#include "cpu/ops/exits.h"
#include "cpu/segments.h"
#include "cpu/spec/vmx.h"
#include "cpu/virt/physical.h"
#include "cpu/vmx/unit.h"

namespace vg::cpu::vmx {

namespace {

using enum Field;

/// Bits of CR0 that entries and exits leave as they are. SDM 3C "Loading Guest Control Registers, Debug Registers, and MSRs".
constexpr u64 kCr0Kept = cr0::ET | cr0::NW | cr0::CD | 0x1ffaffc0;
static_assert((kCr0Kept & (cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::NE | cr0::WP | cr0::AM | cr0::PG)) == 0);

SegmentReg segment_of(const Vmcs& v, unsigned n) {
    const u32 rights = v.word(guest_es_rights + n);
    u16 attributes = static_cast<u16>(rights & 0xf0ff);
    if ((rights & kUnusable) != 0) attributes &= static_cast<u16>(~0x80u);  // kept as P=0
    return {v[guest_es_base + n], v.word(guest_es_limit + n), static_cast<u16>(v[guest_es_selector + n]), attributes};
}

constexpr u64 kDr7Ones = 0x400, kDr7Zeros = 0xd000;

}  // namespace

EntryContext Unit::entry_context() {
    return {vmcs_, caps_, vp_, current_, [this](u64 address) { return read_physical<u32>(address); },
            [this](u64 cr3, u64 out[4]) {
                return mmu::load_pdptes(vp_.physical(), slat_mode(), cr3, caps_.physical_bits, out);
            }};
}

Exec Unit::enter(Interp& in, const Insn& i, bool launch) {
    Exec out{};
    if (refused(in, i, out)) return out;
    u64 pointer = 0;
    const bool enlightened = vp_.platform().enlightened_vmcs(vp_, pointer);
    if (enlightened && !take_enlightened(pointer)) return fail_invalid(in, i);
    if (current_ == kNoVmcs || vmcs_.shadow) return fail_invalid(in, i);
    if ((vp_.shadow_in_force() & shadow::MovSs) != 0) return fail(in, i, error::kMovSsBlocking);
    if (enlightened) vmcs_.launched = !launch;  // it has no launch state
    if (launch && vmcs_.launched) return fail(in, i, error::kLaunchNotClear);
    if (!launch && !vmcs_.launched) return fail(in, i, error::kResumeNotLaunched);
    EntryContext context = entry_context();
    const FieldSet changed = vmcs_.take_changed();
    checks_.begin(changed, context);
    update_controls(changed);
    violation_ = checks_.controls(context);
    if (violation_) return fail(in, i, error::kControls);
    violation_ = checks_.host(context);
    if (violation_) return fail(in, i, error::kHostState);
    violation_ = checks_.guest(context);
    if (violation_) return fail_entry(reason::kInvalidGuestState, violation_->qualification);
    load_guest();
    if (const u64 bad = load_msrs(entry_msr_load_address, entry_msr_load_count); bad != 0)
        return fail_entry(reason::kMsrLoading, bad);
    if (launch) vmcs_.launched = true;
    begin_guest();
    return Exec::Switch;
}

/// SDM 3C "VM-Entry Failures During or After Loading Guest State".
Exec Unit::fail_entry(u32 reason, u64 qualification) {
    vmcs_.set(exit_reason, reason | reason::kEntryFailure);
    vmcs_.set(exit_qualification, qualification);
    vmcs_.set(exit_interruption, 0);
    vmcs_.set(vectoring, 0);
    store_enlightened();
    load_host();
    if (!proc2(proc2::kVpid)) vp_.tlb().flush_tag(0, true);
    vp_.mark_switched();
    return Exec::Switch;
}

// ---- guest state -------------------------------------------------------------------------------------------------

void Unit::load_guest() {
    load_guest_registers();
    load_guest_segments();
    load_guest_msrs();
    load_guest_events();
}

bool Unit::guest_is_pae() const {
    return (s_.cr0 & cr0::PG) != 0 && (s_.cr4 & cr4::PAE) != 0 && (s_.efer & efer::LMA) == 0;
}

void Unit::load_guest_registers() {
    s_.cr0 = (s_.cr0 & kCr0Kept) | (vmcs_[guest_cr0] & ~kCr0Kept & 0xffffffff);
    s_.cr3 = vmcs_[guest_cr3];
    s_.cr4 = vmcs_[guest_cr4];
    if (entries(entries::kLoadDebug)) {
        s_.dr[7] = (vmcs_[guest_dr7] & ~kDr7Zeros & 0xffffffff) | kDr7Ones;
        s_.debugctl = vmcs_[guest_debugctl];
    }
    s_.gpr[RSP] = vmcs_[guest_rsp];
    s_.rip = vmcs_[guest_rip];
    s_.rflags = vmcs_[guest_rflags];
}

void Unit::load_guest_segments() {
    for (unsigned n = 0; n < 8; ++n) s_.seg[n] = segment_of(vmcs_, n);
    s_.gdtr = {vmcs_[guest_gdtr_base], vmcs_.word(guest_gdtr_limit), 0};
    s_.idtr = {vmcs_[guest_idtr_base], vmcs_.word(guest_idtr_limit), 0};
    s_.cpl = static_cast<u8>(s_.segment(Seg::SS).dpl());
}

void Unit::load_guest_msrs() {
    s_.sysenter_cs = vmcs_[guest_sysenter_cs];
    s_.sysenter_esp = vmcs_[guest_sysenter_esp];
    s_.sysenter_eip = vmcs_[guest_sysenter_eip];
    if (entries(entries::kLoadEfer)) {
        s_.efer = vmcs_[guest_efer];
    } else {
        const bool long_guest = entries(entries::kGuest64);
        u64 changed = efer::LMA;
        if ((s_.cr0 & cr0::PG) != 0) changed |= efer::LME;
        s_.efer = long_guest ? s_.efer | changed : s_.efer & ~changed;
    }
    if (entries(entries::kLoadPat)) s_.pat = vmcs_[guest_pat];
    if (!guest_is_pae()) return;
    if (proc2(proc2::kEpt)) {
        for (unsigned n = 0; n < 4; ++n) s_.pdpte[n] = vmcs_[guest_pdpte0 + n];
    } else {
        (void)mmu::load_pdptes(vp_.physical(), slat_mode(), s_.cr3, caps_.physical_bits, s_.pdpte);  // checked before
    }
}

void Unit::load_guest_events() {
    constexpr Activity kStates[] = {Activity::Active, Activity::Halted, Activity::Shutdown, Activity::WaitForSipi};
    s_.activity = kStates[vmcs_[guest_activity] & 3];
    const u32 blocking = vmcs_.word(guest_interruptibility);
    s_.interrupt_shadow = (blocking & interruptibility::kMovSs) != 0 ? shadow::MovSs
                          : (blocking & interruptibility::kSti) != 0 ? shadow::Sti
                                                                     : u8{0};
    s_.nmi_blocked = (blocking & interruptibility::kNmi) != 0 ? 1 : 0;
    const u64 pending = vmcs_[guest_pending_debug];
    s_.pending_dr6 = pending & (pending_debug::kBreakpoints | pending_debug::kStep);
    const bool breakpoints_count = (pending & pending_debug::kEnabled) != 0;
    s_.debug_pending = breakpoints_count || (pending & pending_debug::kStep) != 0 ? 1 : 0;
    if (s_.debug_pending == 0) s_.pending_dr6 = 0;
}

/// SDM 3C "Loading MSRs": returns the number (from 1) of the entry that cannot be loaded, 0 if all were.
u64 Unit::load_msrs(Field address, Field count) {
    struct Entry {
        u32 index, reserved;
        u64 value;
    };
    const u64 entries_count = vmcs_[count];
    for (u64 n = 0; n < entries_count; ++n) {
        if (n >= kMaxMsrList) return n + 1;
        const auto entry = read_physical<Entry>(vmcs_[address] + n * sizeof(Entry));
        const bool segment_base = entry.index == 0xc0000100 || entry.index == 0xc0000101;
        const bool x2apic = entry.index >> 8 == 8;
        const bool forbidden = segment_base || x2apic || entry.index == 0x79 || entry.index == 0x9e || entry.reserved != 0;
        if (forbidden || !write_msr(vp_, entry.index, entry.value)) return n + 1;
    }
    return 0;
}

// ---- the guest begins --------------------------------------------------------------------------------------------

mmu::SlatMode Unit::slat_mode() {
    mmu::SlatMode slat = virt::guest_slat(vp_);
    if (proc2(proc2::kEpt)) {
        slat.kind = mmu::SlatMode::Kind::Ept;
        slat.root = vmcs_[ept_pointer];
        slat.accessed_dirty = (vmcs_[ept_pointer] & eptp::kAccessedDirty) != 0;
        slat.physical_bits = caps_.physical_bits;
        slat.user_execute = proc2(proc2::kModeBasedExecute);
        if (proc2(proc2::kPml)) slat.log = &log_;
    }
    slat.tag = tag();
    slat.apic_access = proc2(proc2::kApicAccesses);
    return slat;
}

virt::Controls Unit::level_controls() {
    virt::Controls c;
    c.switches_worlds = true;
    c.slat = slat_mode();
    c.cpuid = c.hypercall = c.triple_fault = c.invd = c.xsetbv = c.task_switch = c.extension = c.init = c.sipi = true;
    c.cr_all = true;
    c.io_all = proc(proc::kUnconditionalIo | proc::kIoBitmaps);
    c.msr_all = true;
    c.halt = proc(proc::kHlt);
    c.rdtsc = proc(proc::kRdtsc) || scales_tsc();
    c.rdpmc = proc(proc::kRdpmc);
    c.pause = proc(proc::kPause) || proc2(proc2::kPauseLoop);
    c.mwait = proc(proc::kMwait);
    c.monitor = proc(proc::kMonitor);
    c.invlpg = proc(proc::kInvlpg);
    c.wbinvd = proc2(proc2::kWbinvd);
    c.descriptor_tables = proc2(proc2::kDescriptorTables);
    c.rdrand = proc2(proc2::kRdrand);
    c.rdseed = proc2(proc2::kRdseed);
    c.dr = proc(proc::kMovDr);
    c.exceptions = vmcs_.word(exception_bitmap) | 1u << kPageFault;  // whose error code decides too
    c.cr0_view = {vmcs_[cr0_mask], vmcs_[cr0_shadow]};
    c.cr4_view = {vmcs_[cr4_mask], vmcs_[cr4_shadow]};
    c.external_interrupt = c.interrupts_ignore_if = pin(pin::kExternalInterrupt);
    c.nmi = pin(pin::kNmi);
    c.virtual_nmis = pin(pin::kVirtualNmis);
    c.interrupt_window = proc(proc::kInterruptWindow);
    c.nmi_window = proc(proc::kNmiWindow);
    c.no_rdtscp = !proc2(proc2::kRdtscp);
    c.no_invpcid = !proc2(proc2::kInvpcid);
    c.no_xsaves = !proc2(proc2::kXsaves);
    return c;
}

/// Makes them anew if what they are made of may have changed. The place of the guest's log is this unit's, for good.
void Unit::update_controls(const FieldSet& changed) {
    static constexpr FieldSet kMadeOf{pin_controls, proc_controls, proc2_controls, exception_bitmap, cr0_mask, cr0_shadow, cr4_mask,
                                      cr4_shadow, ept_pointer, vpid, tsc_multiplier};
    const mmu::SlatMode below = virt::guest_slat(vp_);
    if (controls_known_ && !kMadeOf.meets(changed) && controls_below_ == below) return;
    controls_ = level_controls();
    controls_below_ = below;
    controls_known_ = true;
}

/// Puts the guest's level on the stack. SDM 3C "Restrictions on VMX Operation": an unrestricted guest may leave protected mode.
void Unit::enter_level() {
    if (proc2(proc2::kPml)) {
        log_.spa = virt::system_address(vp_, vmcs_[pml_address]).value_or(Spa(~kPageMask)).value;
        log_.index = static_cast<u16>(vmcs_[pml_index]);
    }
    vp_.levels().push_back({controls_, this});
    vp_.set_guest_mode(true);
    Vp::RequiredBits bits{caps_.cr0_must, caps_.cr4_must};
    if (proc2(proc2::kUnrestricted)) bits.cr0 &= ~(cr0::PE | cr0::PG);
    vp_.require(bits);
    if (controls_.slat.apic_access)
        vp_.tlb().set_apic_access_page(virt::system_address(vp_, vmcs_[apic_access_address]).value_or(Spa(~u64{0})));
}

void Unit::leave_level() {
    vp_.levels().pop_back();
    vp_.set_guest_mode(false);
    vp_.require({caps_.cr0_must, caps_.cr4_must});
    vp_.set_guest_tsc_offset(0);
    vp_.inject(std::nullopt);
}

void Unit::arm_preemption_timer() {
    timer_expired_ = timer_runs_ = false;
    if (!pin(pin::kPreemptionTimer)) return;
    // It counts when bit kTimerRate of the TSC changes.
    timer_end_ = ((host_tsc() >> kTimerRate) + vmcs_[preemption_timer]) << kTimerRate;
    timer_runs_ = true;
    const u64 tsc = host_tsc();
    if (timer_end_ <= tsc) timer_expired_ = true;
    else vp_.events().arm(timer_, vp_.now() + (timer_end_ - tsc));
}

void Unit::begin_guest() {
    enter_level();
    if (!proc2(proc2::kVpid)) vp_.tlb().flush_tag(0, true);  // SDM 3C "Operations that Invalidate Cached Mappings"
    vp_.set_guest_tsc_offset(proc(proc::kTscOffset) && !scales_tsc() ? vmcs_[tsc_offset] : 0);
    vp_.update_context();
    vp_.mark_switched();
    monitor_trap_pending_ = tpr_exit_pending_ = false;
    last_pause_ = first_pause_ = 0;
    arm_preemption_timer();
    inject_event();
    begin_virtual_apic();
    tpr_exit_pending_ = proc(proc::kTprShadow) && proc2(proc2::kApicAccesses) && !proc2(proc2::kVirtualInterrupts) &&
                        tpr_below_threshold();
}

/// SDM 3C "Event Injection".
void Unit::inject_event() {
    const u32 info = vmcs_.word(entry_interruption);
    vp_.inject(std::nullopt);
    if ((info & interruption::kValid) == 0) return;
    if (interruption::type(info) == interruption::kOther) {
        monitor_trap_pending_ = true;
        return;
    }
    monitor_trap_pending_ = proc(proc::kMonitorTrap);
    Vp::Injection injection;
    injection.fault.vector = static_cast<u8>(info);
    injection.fault.type = static_cast<EventType>(interruption::type(info));
    injection.fault.has_error = (info & interruption::kErrorCode) != 0;
    injection.fault.error_code = vmcs_.word(entry_error_code);
    injection.fault.by_entry = true;
    injection.insn_length = static_cast<u8>(vmcs_[entry_insn_length]);
    // Whatever an injected event does, it is no longer halted.
    if (s_.activity == Activity::Halted) s_.activity = Activity::Active;
    vp_.inject(injection);
}

}  // namespace vg::cpu::vmx
