// #VMEXIT: saving the guest, loading the host. AMD APM 2 "#VMEXIT".
#include "base/bits.h"
#include "cpu/insn.h"
#include "cpu/ops/exits.h"
#include "cpu/segments.h"
#include "cpu/spec/svm.h"
#include "cpu/svm/unit.h"
#include "cpu/virt/physical.h"

namespace vg::cpu::svm {

namespace {

using enum Field;

void put_segment(Vmcb& v, Field selector, const SegmentReg& segment) {
    v.set(selector, segment.selector);
    v.set(selector + 1, (segment.attributes & 0xffu) | (segment.attributes >> 4 & 0xf00u));
    v.set(selector + 2, segment.limit);
    v.set(selector + 3, segment.base);
}

}  // namespace

/// EXITINTINFO: the event in the middle of whose delivery the exit comes. APM 2 "Exit During Guest Interrupt Delivery".
void Unit::describe_delivery() {
    vmcb_.set(exit_int_info, 0);
    const std::optional<Vp::Injection>& what = vp_.delivering();
    if (!what) return;
    const Fault& fault = what->fault;
    u64 type = event::kException;
    if (fault.type == EventType::External) type = event::kInterrupt;
    if (fault.type == EventType::Nmi) type = event::kNmi;
    if (fault.type == EventType::SoftInt) type = event::kSoftwareInterrupt;
    u64 info = fault.vector | type << 8 | event::kValid;
    if (fault.has_error) info |= event::kErrorCode | u64{fault.error_code} << 32;
    vmcb_.set(exit_int_info, info);
}

void Unit::exit_guest(const ExitRecord& record) {
    describe_delivery();
    vmcb_.set(exit_code, record.code);
    vmcb_.set(exit_info_1, record.info_1);
    vmcb_.set(exit_info_2, record.info_2);
    vmcb_.set(next_rip, record.next_rip);
    u64 low = 0, high = 0;
    if (record.bytes != nullptr) {
        low = record.bytes->length;
        for (unsigned n = 0; n < 15; ++n) {
            const u64 byte = n < record.bytes->length ? record.bytes->bytes[n] : 0;
            if (n < 7)
                low |= byte << (8 * n + 8);
            else
                high |= byte << (8 * n - 56);
        }
    }
    vmcb_.set(insn_bytes_low, low);
    vmcb_.set(insn_bytes_high, high);
    vmcb_.set(event_inj, 0);
    save_guest();
    store(true);
    leave_level();
    load_host();
    set_global_interrupts(false);
    vp_.mark_switched();
}

// ---- saving ------------------------------------------------------------------------------------------------------

void Unit::save_guest() {
    put_segment(vmcb_, es_selector, s_.segment(Seg::ES));
    put_segment(vmcb_, cs_selector, s_.segment(Seg::CS));
    put_segment(vmcb_, ss_selector, s_.segment(Seg::SS));
    put_segment(vmcb_, ds_selector, s_.segment(Seg::DS));
    vmcb_.set(gdtr_base, s_.gdtr.base);
    vmcb_.set(gdtr_limit, s_.gdtr.limit);
    vmcb_.set(idtr_base, s_.idtr.base);
    vmcb_.set(idtr_limit, s_.idtr.limit);
    vmcb_.set(guest_efer, s_.efer);
    vmcb_.set(guest_cr0, s_.cr0);
    vmcb_.set(guest_cr2, s_.cr2);
    vmcb_.set(guest_cr3, s_.cr3);
    vmcb_.set(guest_cr4, s_.cr4);
    vmcb_.set(guest_dr6, s_.dr[6]);
    vmcb_.set(guest_dr7, s_.dr[7]);
    u64 flags = s_.rflags;
    if (vp_.executing() != nullptr && vp_.resume_flag()) flags |= flag::RF;
    vmcb_.set(guest_rflags, flags);
    vmcb_.set(guest_rip, s_.rip);
    vmcb_.set(guest_rsp, s_.gpr[RSP]);
    vmcb_.set(guest_rax, s_.gpr[RAX]);
    vmcb_.set(guest_cpl, s_.cpl);
    if (nested_paging()) vmcb_.set(g_pat, s_.pat);
    if (virtual_branches()) {
        vmcb_.set(dbgctl, s_.debugctl);
        for (unsigned n = 0; n < 4; ++n) vmcb_.set(br_from + n, s_.last_branch[n]);
    }
    if (virtual_nmis())
        vmcb_.set(int_ctl, (vmcb_[int_ctl] & ~u64{virq::kNmiMask}) | (s_.nmi_blocked != 0 ? virq::kNmiMask : 0));
    vmcb_.set(int_state, vp_.shadow_in_force() != 0 ? kInterruptShadow : 0);
}

/// Writes what an exit writes to the VMCB's page.
void Unit::store(bool guest_state) {
    const bool branches = guest_state && virtual_branches();
    vmcb_.write(
        [guest_state, branches](Use use) {
            return use == Use::Out || (guest_state && (use == Use::Both || use == Use::State)) || (branches && use == Use::Branch);
        },
        [this](u32 offset, const u8* data, u32 bytes) { virt::write_physical(vp_, pointer_ + offset, data, bytes); });
}

Exec Unit::vmsave(Interp& in, const Insn& i) {
    Exec out{};
    Spa page;
    if (refused(in, i, out) || !state_page(in, i, mmu::Access::Write, page, out)) return out;
    Vmcb v;
    put_segment(v, fs_selector, s_.segment(Seg::FS));
    put_segment(v, gs_selector, s_.segment(Seg::GS));
    put_segment(v, ldtr_selector, s_.segment(Seg::LDTR));
    put_segment(v, tr_selector, s_.segment(Seg::TR));
    v.set(kernel_gs_base, s_.kernel_gs_base);
    v.set(star, s_.star);
    v.set(lstar, s_.lstar);
    v.set(cstar, s_.cstar);
    v.set(sfmask, s_.sfmask);
    v.set(sysenter_cs, s_.sysenter_cs);
    v.set(sysenter_esp, s_.sysenter_esp);
    v.set(sysenter_eip, s_.sysenter_eip);
    v.write(
        [](Use use) { return use == Use::Loaded; },
        [&](u32 offset, const u8* data, u32 bytes) { vp_.physical().write(Spa(page.value + offset), data, bytes); });
    return ops::resync(in, i);
}

// ---- loading -----------------------------------------------------------------------------------------------------

void Unit::load_host() {
    constexpr u64 kResetDr7 = 0x400;
    for (unsigned n = 0; n < 4; ++n) s_.seg[n] = host_.seg[n];
    s_.gdtr = host_.gdtr;
    s_.idtr = host_.idtr;
    s_.efer = host_.efer;
    s_.cr0 = host_.cr0 | cpu::cr0::PE;
    s_.cr3 = host_.cr3;
    s_.cr4 = host_.cr4;
    s_.rflags = (host_.rflags & ~flag::VM) | flag::Always1;
    s_.rip = host_.rip;
    s_.gpr[RSP] = host_.rsp;
    s_.gpr[RAX] = host_.rax;
    s_.pat = host_.pat;
    if (virtual_branches()) {
        s_.debugctl = host_.debugctl;
        std::copy(std::begin(host_.last_branch), std::end(host_.last_branch), s_.last_branch);
    }
    s_.dr[7] = kResetDr7;
    s_.cpl = 0;
    s_.nmi_blocked = host_.nmi_blocked;
    s_.activity = Activity::Active;
    s_.interrupt_shadow = 0;
    s_.debug_pending = 0;
    s_.pending_dr6 = 0;
    vp_.forget_shadow();
    if ((host_.rflags & flag::TF) != 0) vp_.request_single_step();  // VMRUN is over only now
    const bool pae = (s_.cr0 & cpu::cr0::PG) != 0 && (s_.cr4 & cpu::cr4::PAE) != 0 && (s_.efer & cpu::efer::LMA) == 0;
    const bool loaded =
        !pae || mmu::load_pdptes(vp_.physical(), virt::host_slat(vp_), s_.cr3, vp_.model().physical_bits(), s_.pdpte);
    vp_.update_context();
    if (loaded && (canonical(s_.rip) || (s_.efer & cpu::efer::LMA) == 0)) return;
    // "If the host's state is illegal, the processor shuts down."
    s_.activity = Activity::Shutdown;
    vp_.platform().shutdown(vp_);
}

}  // namespace vg::cpu::svm
