#include "cpu/svm/unit.h"

#include "base/bits.h"
#include "base/state.h"

namespace vg::cpu::svm {

void Unit::reset() {
    if (vp_.guest_mode()) leave_level();
    set_global_interrupts(true);
    hsave_ = pointer_ = 0;
    tsc_ratio_ = kTscRatioOne;
    vmcb_ = {};
    host_ = {};
    pause_count_ = last_pause_ = 0;
    violation_.reset();
}

void Unit::set_global_interrupts(bool on) {
    gif_ = on;
    vp_.hold_events(!on);
}

bool Unit::write_host_save_address(u64 value) {
    if ((value & (kPageMask | ~low_mask(vp_.model().physical_bits()))) != 0) return false;
    hsave_ = value;
    return true;
}

bool Unit::write_tsc_ratio(u64 value) {
    if ((value & kTscRatioReserved) != 0) return false;
    tsc_ratio_ = value;
    return true;
}

/// What the guest reads as its TSC while the ratio is not 1. APM 2 "TSC Ratio MSR (C000_0104h)".
u64 Unit::scaled_tsc() const {
    const u128 product = static_cast<u128>(host_tsc()) * tsc_ratio_;
    return static_cast<u64>(product >> 32) + vmcb_[Field::tsc_offset];
}

bool Unit::intercepts_any(u32 first, u32 last) const {
    for (u32 code = first; code <= last; ++code)
        if (intercepts(code)) return true;
    return false;
}

// ---- boundaries --------------------------------------------------------------------------------------------------

/// APM 2 "Injecting Virtual (INTR) Interrupts", "Virtual GIF".
bool Unit::virtual_interrupt_due() const {
    const u32 word = vmcb_.word(Field::int_ctl);
    if ((word & virq::kIrq) == 0 || (s_.rflags & flag::IF) == 0) return false;
    if ((word & virq::kGifEnable) != 0 && (word & virq::kGif) == 0) return false;
    return (word & virq::kIgnoreTpr) != 0 || virq::priority(word) > (word & 15);
}

/// APM 2 "NMI Virtualization": V_NMI_MASK is VpState::nmi_blocked while the guest runs.
bool Unit::virtual_nmi_due() const {
    const u32 word = vmcb_.word(Field::int_ctl);
    if ((word & virq::kNmiEnable) == 0 || (word & virq::kNmi) == 0 || s_.nmi_blocked != 0) return false;
    return (word & virq::kGifEnable) == 0 || (word & virq::kGif) != 0;
}

bool Unit::event_pending(const Vp&) const { return virtual_interrupt_due() || virtual_nmi_due(); }

Exec Unit::take_virtual_nmi(Vp& vp) {
    Fault nmi;
    nmi.vector = cpu::kNmi;
    nmi.type = EventType::Nmi;
    const u64 word = vmcb_[Field::int_ctl];
    vmcb_.set(Field::int_ctl, word & ~u64{virq::kNmi});
    s_.nmi_blocked = 1;
    if (!vp.deliver(nmi, s_.rip) && vp.leaving()) {
        vmcb_.set(Field::int_ctl, word);
        s_.nmi_blocked = 0;
        return Exec::Leave;
    }
    vp.settle_accesses(true);
    return Exec::Resync;
}

Exec Unit::take_event(Vp& vp, virt::Boundary where, u8 shadow) {
    if (where == virt::Boundary::Nmis && shadow == 0 && virtual_nmi_due()) return take_virtual_nmi(vp);
    if (where != virt::Boundary::Virtual || !virtual_interrupt_due()) return Exec::Next;
    if (intercepts(code::kVintr)) {
        exit_guest({.code = code::kVintr});
        return Exec::Switch;
    }
    Fault interrupt;
    interrupt.vector = static_cast<u8>(vmcb_[Field::int_vector]);
    interrupt.type = EventType::External;
    vmcb_.set(Field::int_ctl, vmcb_[Field::int_ctl] & ~u64{virq::kIrq});
    if (!vp.deliver(interrupt, s_.rip) && vp.leaving()) {
        vmcb_.set(Field::int_ctl, vmcb_[Field::int_ctl] | virq::kIrq);
        return Exec::Leave;
    }
    vp.settle_accesses(true);
    return Exec::Resync;
}

// ---- state -------------------------------------------------------------------------------------------------------

namespace {

void segment_fields(StateVisitor& v, std::string_view name, SegmentReg& segment) {
    const VisitScope scope(v, name);
    v("selector", segment.selector);
    v("base", segment.base);
    v("limit", segment.limit);
    v("attributes", segment.attributes);
}

void table_fields(StateVisitor& v, std::string_view name, TableReg& table) {
    const VisitScope scope(v, name);
    v("base", table.base);
    v("limit", table.limit);
}

}  // namespace

void Unit::fields(StateVisitor& v) {
    bool guest = vp_.guest_mode();
    u64 tsc_offset = vp_.guest_tsc_offset();
    v("gif", gif_);
    v("guest", guest);
    v("vm_hsave_pa", hsave_);
    v("tsc_ratio", tsc_ratio_);
    v("tsc_offset", tsc_offset);
    v("vmcb_pointer", pointer_);
    v("pause_count", pause_count_);
    v("last_pause", last_pause_);
    {
        const VisitScope scope(v, "host");
        constexpr std::string_view kNames[] = {"es", "cs", "ss", "ds"};
        for (unsigned n = 0; n < 4; ++n) segment_fields(v, kNames[n], host_.seg[n]);
        table_fields(v, "gdtr", host_.gdtr);
        table_fields(v, "idtr", host_.idtr);
        v("efer", host_.efer);
        v("cr0", host_.cr0);
        v("cr3", host_.cr3);
        v("cr4", host_.cr4);
        v("rflags", host_.rflags);
        v("rip", host_.rip);
        v("rsp", host_.rsp);
        v("rax", host_.rax);
        v("pat", host_.pat);
        v("debugctl", host_.debugctl);
        constexpr std::string_view kRecords[] = {"br_from", "br_to", "last_excp_from", "last_excp_to"};
        for (unsigned n = 0; n < 4; ++n) v(kRecords[n], host_.last_branch[n]);
        v("nmi_blocked", host_.nmi_blocked);
    }
    {
        const VisitScope scope(v, "vmcb");
        for (unsigned n = 0; n < kFieldCount; ++n) {
            const auto field = static_cast<Field>(n);
            v(field_row(field).name, vmcb_.values()[n]);
            vmcb_.set(field, vmcb_[field]);  // what a forged file holds fits its field afterwards
        }
    }
    if (!v.loading()) return;
    tsc_ratio_ &= ~kTscRatioReserved;
    if (vp_.guest_mode()) vp_.levels().pop_back();
    vp_.set_guest_mode(guest);
    const u64 loaded_offset = s_.tsc_offset;  // with the guest's share in it
    vp_.set_guest_tsc_offset(tsc_offset);
    s_.tsc_offset = loaded_offset;
}

void Unit::loaded(Vp& vp) {
    const bool guest = vp.guest_mode();
    vp.set_guest_mode(false);
    vp.hold_events(!gif_);
    if (guest) enter_level();
}

Unit* unit_of(Vp& vp) { return vp.model().has(CpuFlag::SVM) ? static_cast<Unit*>(vp.extension()) : nullptr; }

}  // namespace vg::cpu::svm
