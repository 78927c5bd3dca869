// VMRUN. AMD APM 2 "VMRUN Instruction".
#include "base/bits.h"
#include "cpu/ops/exits.h"
#include "cpu/segments.h"
#include "cpu/spec/svm.h"
#include "cpu/svm/unit.h"
#include "cpu/virt/physical.h"

namespace vg::cpu::svm {

namespace {

using enum Field;

constexpr u64 kCr0Defined = 0xe005003f, kFlagsDefined = 0x3f7fd7;
constexpr u64 kDr6Writable = 0xe00f, kDr6Ones = 0xffff0ff0, kDr7Writable = 0xffff23ff, kDr7Ones = 0x400;

/// Bases are not checked but made canonical. APM 2 "Canonicalization and Consistency Checks".
u64 canonicalize(u64 address) { return sign_extend(address, 48); }

/// A VMCB has the attributes of a descriptor without the hole between bits 47 and 52.
SegmentReg segment_of(const Vmcb& v, Field selector) {
    const u32 attributes = v.word(selector + 1);
    return {canonicalize(v[selector + 3]), v.word(selector + 2), static_cast<u16>(v[selector]),
            static_cast<u16>((attributes & 0xff) | (attributes & 0xf00) << 4)};
}

void read_vmcb(Vp& vp, u64 pointer, Vmcb& vmcb) {
    std::array<u8, kPageSize> page;
    virt::read_physical(vp, pointer, page.data(), kPageSize);
    vmcb.read(page);
}

}  // namespace

Exec Unit::vmrun(Interp& in, const Insn& i) {
    Exec out{};
    u64 pointer = 0;
    if (refused(in, i, out) || !read_pointer(in, i, pointer, out)) return out;
    pointer_ = pointer;
    read_vmcb(vp_, pointer, vmcb_);
    save_host(in.next_rip(i));
    violation_ = check({vmcb_, vp_, pdptes_valid()});
    if (violation_) return fail_entry();
    flush_as_asked();
    load_guest();
    enter_level();
    set_global_interrupts(true);
    vp_.set_guest_tsc_offset(tsc_ratio_ == kTscRatioOne ? vmcb_[tsc_offset] : 0);
    vp_.update_context();
    vp_.mark_switched();
    pause_count_ = vmcb_[pause_filter_count];
    last_pause_ = 0;
    inject_event();
    if (guest_is_pae()) {
        if (const std::optional<mmu::SlatFault> refused = load_guest_pdptes())
            exit_guest(nested_page_fault(*refused));
        else
            vp_.update_context();
    }
    return Exec::Switch;
}

/// VMEXIT_INVALID: nothing of the guest was loaded, nothing of it is saved.
Exec Unit::fail_entry() {
    for (const Field field : {exit_info_1, exit_info_2, exit_int_info}) vmcb_.set(field, 0);
    vmcb_.set(exit_code, code::kInvalid);
    store(false);
    load_host();
    set_global_interrupts(false);
    vp_.mark_switched();
    return Exec::Switch;
}

void Unit::save_host(u64 resume_at) {
    for (unsigned n = 0; n < 4; ++n) host_.seg[n] = s_.seg[n];
    host_.gdtr = s_.gdtr;
    host_.idtr = s_.idtr;
    host_.efer = s_.efer;
    host_.cr0 = s_.cr0;
    host_.cr3 = s_.cr3;
    host_.cr4 = s_.cr4;
    host_.rflags = s_.rflags & ~flag::RF;  // "completion of the VMRUN instruction clears the host's RFLAGS.RF"
    host_.rip = resume_at;
    host_.rsp = s_.gpr[RSP];
    host_.rax = s_.gpr[RAX];
    host_.pat = s_.pat;
    host_.debugctl = s_.debugctl;
    std::copy(std::begin(s_.last_branch), std::end(s_.last_branch), host_.last_branch);
    host_.nmi_blocked = s_.nmi_blocked;
}

// ---- guest state -------------------------------------------------------------------------------------------------

/// APM 2 "TLB Control". Another ASID than the last needs no flush; the second level goes with its tag.
void Unit::flush_as_asked() {
    const auto tag = static_cast<u16>(vmcb_[guest_asid]);
    switch (vmcb_[tlb_control]) {
        case tlb_flush::kEverything:
            vp_.tlb().flush_all();
            break;
        case tlb_flush::kGuest:
            vp_.tlb().flush_tag(tag, true);
            break;
        case tlb_flush::kGuestNonGlobal:
            vp_.tlb().flush_tag(tag, false);
            break;
        default:
            return;
    }
    if (nested_paging()) vp_.tlb().flush_slat(vmcb_[nested_cr3]);
}

void Unit::load_guest() {
    load_guest_segments();
    s_.cr0 = (vmcb_[guest_cr0] & kCr0Defined) | cpu::cr0::ET;
    s_.cr3 = vmcb_[guest_cr3];
    s_.cr4 = vmcb_[guest_cr4];
    s_.cr2 = vmcb_[guest_cr2];
    const bool active = (vmcb_[guest_efer] & cpu::efer::LME) != 0 && (s_.cr0 & cpu::cr0::PG) != 0;
    s_.efer = (vmcb_[guest_efer] & ~cpu::efer::LMA) | (active ? cpu::efer::LMA : 0);
    s_.dr[6] = (vmcb_[guest_dr6] & kDr6Writable) | kDr6Ones;
    s_.dr[7] = (vmcb_[guest_dr7] & kDr7Writable) | kDr7Ones;
    s_.rflags = (vmcb_[guest_rflags] & kFlagsDefined) | flag::Always1;
    s_.rip = vmcb_[guest_rip];
    s_.gpr[RSP] = vmcb_[guest_rsp];
    s_.gpr[RAX] = vmcb_[guest_rax];
    if (nested_paging()) s_.pat = vmcb_[g_pat];
    // "In real mode CPL is 0, in virtual-8086 mode 3."
    s_.cpl = (s_.cr0 & cpu::cr0::PE) == 0  ? u8{0}
             : (s_.rflags & flag::VM) != 0 ? u8{3}
                                           : static_cast<u8>(vmcb_[guest_cpl] & 3);
    s_.activity = Activity::Active;
    s_.interrupt_shadow = (vmcb_[int_state] & kInterruptShadow) != 0 ? shadow::Sti : u8{0};
    vp_.forget_shadow();
    s_.debug_pending = 0;
    s_.pending_dr6 = 0;
    if (intercepts(code::kNmi)) s_.nmi_blocked = 0;  // the guest's own
    if (virtual_nmis()) s_.nmi_blocked = (vmcb_[int_ctl] & virq::kNmiMask) != 0 ? 1 : 0;
    if (virtual_branches()) load_guest_branches();
}

/// APM 2 "LBR Virtualization". Without it the guest has the host's registers.
void Unit::load_guest_branches() {
    s_.debugctl = vmcb_[dbgctl] & (debugctl::Lbr | debugctl::Btf);
    for (unsigned n = 0; n < 4; ++n) s_.last_branch[n] = vmcb_[br_from + n];
}

/// Without nested paging VMRUN checks PDPTEs; with it reserved bits are found by the walks that meet them.
bool Unit::pdptes_valid() const {
    const bool long_mode = (vmcb_[guest_efer] & cpu::efer::LME) != 0;
    const bool pae = (vmcb_[guest_cr0] & cpu::cr0::PG) != 0 && (vmcb_[guest_cr4] & cpu::cr4::PAE) != 0 && !long_mode;
    u64 loaded[4];
    return !pae || nested_paging() ||
           mmu::load_pdptes(vp_.physical(), virt::host_slat(vp_), vmcb_[guest_cr3], vp_.model().physical_bits(),
                            loaded);
}

bool Unit::guest_is_pae() const {
    return (s_.cr0 & cpu::cr0::PG) != 0 && (s_.cr4 & cpu::cr4::PAE) != 0 && (s_.efer & cpu::efer::LMA) == 0;
}

/// The PDPTEs of a PAE guest. One with a reserved bit is kept as not present, so that its first use is a page fault.
std::optional<mmu::SlatFault> Unit::load_guest_pdptes() {
    constexpr u64 kTable = 0xffffffe0, kReserved = 0x1e6, kPresent = 1;
    const mmu::Translation t =
        mmu::translate_gpa(vp_.physical(), slat_mode(), Gpa(s_.cr3 & kTable), mmu::Access::Write, true);
    for (u64& pdpte : s_.pdpte) pdpte = 0;
    if (t.status != mmu::Translation::Status::Ok) return t.slat_fault;
    u64 entries[4];
    vp_.physical().read(t.spa, entries, sizeof entries);
    const u64 reserved = kReserved | ~low_mask(vp_.model().physical_bits());
    for (unsigned n = 0; n < 4; ++n)
        if ((entries[n] & kPresent) != 0 && (entries[n] & reserved) == 0) s_.pdpte[n] = entries[n];
    return std::nullopt;
}

void Unit::load_guest_segments() {
    s_.segment(Seg::ES) = segment_of(vmcb_, es_selector);
    s_.segment(Seg::CS) = segment_of(vmcb_, cs_selector);
    s_.segment(Seg::SS) = segment_of(vmcb_, ss_selector);
    s_.segment(Seg::DS) = segment_of(vmcb_, ds_selector);
    s_.gdtr = {canonicalize(vmcb_[gdtr_base]), vmcb_.word(gdtr_limit) & 0xffff, 0};
    s_.idtr = {canonicalize(vmcb_[idtr_base]), vmcb_.word(idtr_limit) & 0xffff, 0};
}

/// APM 2 "VMSAVE and VMLOAD Instructions".
Exec Unit::vmload(Interp& in, const Insn& i) {
    Exec out{};
    Spa page;
    if (refused(in, i, out) || !state_page(in, i, mmu::Access::Read, page, out)) return out;
    std::array<u8, kPageSize> bytes;
    vp_.physical().read(page, bytes.data(), kPageSize);
    Vmcb v;
    v.read(bytes);
    s_.segment(Seg::FS) = segment_of(v, fs_selector);
    s_.segment(Seg::GS) = segment_of(v, gs_selector);
    s_.segment(Seg::LDTR) = segment_of(v, ldtr_selector);
    s_.segment(Seg::TR) = segment_of(v, tr_selector);
    s_.kernel_gs_base = canonicalize(v[kernel_gs_base]);
    s_.star = v[star];
    s_.lstar = canonicalize(v[lstar]);
    s_.cstar = canonicalize(v[cstar]);
    s_.sfmask = v.word(sfmask);
    s_.sysenter_cs = v.word(sysenter_cs);
    s_.sysenter_esp = canonicalize(v[sysenter_esp]);
    s_.sysenter_eip = canonicalize(v[sysenter_eip]);
    return ops::resync(in, i);
}

// ---- the guest begins --------------------------------------------------------------------------------------------

mmu::SlatMode Unit::slat_mode() const {
    mmu::SlatMode slat = virt::guest_slat(vp_);
    if (nested_paging()) {
        // APM 2 "Nested Paging": "the host's CR0, CR4 and EFER" decide; all guest accesses are user accesses.
        slat.no_execute = (host_.efer & cpu::efer::NXE) != 0;
        slat.tells_fetches = slat.no_execute || (host_.cr4 & cpu::cr4::SMEP) != 0;
        slat.kind = mmu::SlatMode::Kind::Npt;
        slat.root = vmcb_[nested_cr3] & ~kPageMask;
        slat.physical_bits = vp_.model().physical_bits();
    }
    slat.tag = static_cast<u16>(vmcb_[guest_asid]);
    return slat;
}

virt::Controls Unit::level_controls() const {
    virt::Controls c;
    c.switches_worlds = true;
    c.slat = slat_mode();
    c.hypercall = c.extension = c.triple_fault = c.init = true;
    c.cpuid = intercepts(code::kCpuid);
    c.halt = intercepts(code::kHlt);
    c.rdtsc = intercepts(code::kRdtsc) || intercepts(code::kRdtscp) || tsc_ratio_ != kTscRatioOne;
    c.rdpmc = intercepts(code::kRdpmc);
    c.pause = intercepts(code::kPause);
    c.invlpg = intercepts(code::kInvlpg) || intercepts(code::kInvpcid);
    c.invd = intercepts(code::kInvd);
    c.wbinvd = intercepts(code::kWbinvd);
    c.mwait = intercepts(code::kMwait);
    c.monitor = intercepts(code::kMonitor);
    c.xsetbv = intercepts(code::kXsetbv);
    c.task_switch = intercepts(code::kTaskSwitch);
    c.descriptor_tables = intercepts_any(code::kIdtrRead, code::kTrWrite);
    c.io_all = intercepts(code::kIoio);
    c.msr_all = intercepts(code::kMsr) || tsc_ratio_ != kTscRatioOne;
    c.stacked_flags = intercepts_any(code::kPushf, code::kPopf) || intercepts(code::kIret) ||
                      intercepts(code::kSoftwareInterrupt) || intercepts(code::kIcebp);
    c.exceptions = vmcb_.word(intercept_exceptions);
    // CR8 has a rule of its own (V_INTR_MASKING).
    constexpr u32 kCr8 = 1u << 8 | 1u << 24, kReads = 0xffff, kCr2Write = 1u << 18;
    const u32 registers = vmcb_.word(intercept_cr) & ~kCr8;
    c.cr_reads = (registers & (kReads | kCr2Write)) != 0;
    c.cr_all = registers != 0 || intercepts(code::kCr0SelectiveWrite);
    c.cr8 = masks_interrupts() || (vmcb_.word(intercept_cr) & kCr8) != 0;
    c.dr = vmcb_.word(intercept_dr) != 0;
    c.external_interrupt = intercepts(code::kIntr);
    c.nmi = c.virtual_nmis = intercepts(code::kNmi);
    // With V_INTR_MASKING the host's IF decides about physical interrupts.
    c.interrupts_ignore_if = masks_interrupts() && (host_.rflags & flag::IF) != 0;
    c.interrupts_blocked = masks_interrupts() && (host_.rflags & flag::IF) == 0;
    return c;
}

void Unit::enter_level() {
    vp_.levels().push_back({level_controls(), this});
    vp_.set_guest_mode(true);
}

void Unit::leave_level() {
    vp_.levels().pop_back();
    vp_.set_guest_mode(false);
    vp_.set_guest_tsc_offset(0);
    vp_.inject(std::nullopt);
}

/// APM 2 "Event Injection". What INT n, INT3 and INTO push is the VMCB's nRIP.
void Unit::inject_event() {
    const u64 info = vmcb_[event_inj];
    vp_.inject(std::nullopt);
    if ((info & event::kValid) == 0) return;
    Vp::Injection injection;
    injection.fault.vector = static_cast<u8>(info);
    injection.fault.has_error = (info & event::kErrorCode) != 0;
    injection.fault.error_code = static_cast<u32>(info >> 32);
    injection.fault.by_entry = true;
    const bool trap = injection.fault.vector == kBreakpoint || injection.fault.vector == kOverflow;
    switch (event::type(info)) {
        case event::kInterrupt:
            injection.fault.type = EventType::External;
            break;
        case event::kNmi:
            injection.fault.type = EventType::Nmi;
            injection.fault.vector = cpu::kNmi;
            break;
        case event::kException:
            injection.fault.type = trap ? EventType::PrivSoftException : EventType::HardException;
            break;
        default:
            injection.fault.type = EventType::SoftInt;
            break;
    }
    injection.insn_length = vmcb_[next_rip] - s_.rip;
    vp_.inject(injection);
}

}  // namespace vg::cpu::svm
