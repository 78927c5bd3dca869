#include "cpu/vmx/unit.h"

#include "base/bits.h"
#include "base/state.h"
#include "cpu/spec/vmx.h"
#include "cpu/virt/physical.h"

namespace vg::cpu::vmx {

Unit::Unit(Vp& vp) : vp_(vp), s_(vp.state()), caps_(vp.model(), vp.partition() != 0), fields_(caps_) {
    timer_ = vp.events().add(vp.name() + "/vmx-preemption-timer", [this](VTime) {
        timer_expired_ = timer_runs_;
        vp_.platform().event_arrived(vp_);
    });
}

Unit::~Unit() { vp_.events().remove(timer_); }

void Unit::reset() {
    if (vp_.guest_mode()) leave_level();
    vp_.events().cancel(timer_);
    enlightened_ = false;
    on_ = timer_runs_ = timer_expired_ = monitor_trap_pending_ = tpr_exit_pending_ = virtual_pending_ = false;
    apic_written_ = kNoRegister;
    vmxon_pointer_ = current_ = kNoVmcs;
    vmcs_ = {};
    timer_end_ = last_pause_ = first_pause_ = 0;
    violation_.reset();
    vp_.require({});
}

u64 Unit::host_tsc() const { return vp_.tsc() - vp_.guest_tsc_offset(); }

/// What a guest reads. SDM 3C "Use TSC scaling": a multiplier with 48 fractional bits, then the offset.
u64 Unit::scaled_tsc() const {
    const u128 product = static_cast<u128>(host_tsc()) * vmcs_[Field::tsc_multiplier];
    return static_cast<u64>(product >> 48) + vmcs_[Field::tsc_offset];
}

/// The index of the log, which the walks move while the guest runs, goes to its field.
void Unit::note_page_log() {
    if (vp_.guest_mode() && proc2(proc2::kPml)) vmcs_.set(Field::pml_index, log_.index);
}

// ---- memory ------------------------------------------------------------------------------------------------------

mmu::SlatMode Unit::host_slat() const { return virt::host_slat(vp_); }

void Unit::read_physical(u64 address, void* out, u32 size) { virt::read_physical(vp_, address, out, size); }

void Unit::write_physical(u64 address, const void* data, u32 size) { virt::write_physical(vp_, address, data, size); }

// ---- boundaries --------------------------------------------------------------------------------------------------

bool Unit::event_pending(const Vp&) const {
    if (virtual_pending_ && (s_.rflags & flag::IF) != 0) return true;
    return monitor_trap_pending_ || tpr_exit_pending_ || timer_expired_ || apic_written_ != kNoRegister ||
           proc(proc::kMonitorTrap);
}

bool Unit::tpr_below_threshold() {
    constexpr u64 kVtpr = 0x80;
    return bits(read_physical<u32>(vmcs_[Field::virtual_apic_address] + kVtpr), 7, 4) < (vmcs_[Field::tpr_threshold] & 15);
}

/// Monitor trap and TPR-below-threshold exits come before debug traps, the preemption timer behind them.
Exec Unit::take_event(Vp&, virt::Boundary where, u8) {
    u32 reason = 0;
    switch (where) {
        case virt::Boundary::Traps:
            if (apic_written_ != kNoRegister) {
                if (const std::optional<ExitRecord> exit = emulate_apic_write()) {
                    exit_guest(*exit);
                    return Exec::Switch;
                }
            }
            if (std::exchange(monitor_trap_pending_, false)) {
                reason = reason::kMonitorTrap;
            } else if (proc(proc::kMonitorTrap)) {
                monitor_trap_pending_ = true;  // behind the next instruction
                return Exec::Next;
            } else if (std::exchange(tpr_exit_pending_, false) && tpr_below_threshold()) {
                reason = reason::kTprBelowThreshold;
            }
            break;
        case virt::Boundary::Nmis:
            if (std::exchange(timer_expired_, false)) reason = reason::kPreemptionTimer;
            break;
        case virt::Boundary::Interrupts: break;
        case virt::Boundary::Virtual:
            if (virtual_pending_ && (s_.rflags & flag::IF) != 0) return deliver_virtual();
            break;
    }
    if (reason == 0) return Exec::Next;
    exit_guest({.reason = reason});
    return Exec::Switch;
}

// ---- state -------------------------------------------------------------------------------------------------------

void Unit::fields(StateVisitor& v) {
    bool guest = vp_.guest_mode();
    note_page_log();
    u64 tsc_offset = vp_.guest_tsc_offset();
    v("on", on_);
    v("guest", guest);
    v("vmxon_pointer", vmxon_pointer_);
    v("current", current_);
    v("enlightened", enlightened_);
    v("launched", vmcs_.launched);
    v("shadow", vmcs_.shadow);
    v("timer_end", timer_end_);
    v("timer_runs", timer_runs_);
    v("timer_expired", timer_expired_);
    v("monitor_trap_pending", monitor_trap_pending_);
    v("tpr_exit_pending", tpr_exit_pending_);
    v("virtual_pending", virtual_pending_);
    v("apic_written", apic_written_);
    v("last_pause", last_pause_);
    v("first_pause", first_pause_);
    v("tsc_offset", tsc_offset);
    {
        const VisitScope scope(v, "vmcs");
        for (unsigned i = 0; i < kFieldCount; ++i) {
            const auto field = static_cast<Field>(i);
            u64 value = vmcs_[field];
            v(field_row(field).name, value);
            vmcs_.set(field, value);  // what a forged file holds fits its field afterwards
        }
    }
    if (!v.loading()) return;
    checks_ = {};
    controls_known_ = false;
    if (vp_.guest_mode()) vp_.levels().pop_back();
    vp_.set_guest_mode(guest && on_ && current_ != kNoVmcs);
    const u64 loaded_offset = s_.tsc_offset;  // with the guest's share in it
    vp_.set_guest_tsc_offset(tsc_offset);
    s_.tsc_offset = loaded_offset;
}

void Unit::loaded(Vp& vp) {
    const bool guest = vp.guest_mode();
    vp.set_guest_mode(false);
    vp.require(on_ ? Vp::RequiredBits{caps_.cr0_must, caps_.cr4_must} : Vp::RequiredBits{});
    if (!guest) return;
    update_controls(FieldSet::all());
    enter_level();
}

Unit* unit_of(Vp& vp) { return vp.model().has(CpuFlag::VMX) ? static_cast<Unit*>(vp.extension()) : nullptr; }

}  // namespace vg::cpu::vmx
