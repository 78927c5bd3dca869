#include "cpu/vp.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"
#include "cpu/guest_gate.h"
#include "cpu/interp.h"

namespace vg::cpu {

namespace {

constexpr u16 kRealCode = 0x9b;   // present, code, read, accessed
constexpr u16 kRealData = 0x93;   // present, data, write, accessed
constexpr u16 kResetLdtr = 0x82;  // present LDT
constexpr u16 kResetTr = 0x8b;    // present busy 32-bit TSS

bool io_intercepted(const virt::Controls& controls, const virt::Exit& exit) {
    if (controls.io_all) return true;
    if (controls.io_bitmap == nullptr) return false;
    for (u32 i = 0; i < exit.size; ++i)
        if (controls.io_bitmap->test((exit.port + i) & 0xffff)) return true;
    return false;
}

bool msr_intercepted(const virt::Controls& controls, u32 msr) {
    if (controls.msr_all) return true;
    for (const virt::Controls::MsrRange& range : controls.msr_ranges)
        if (msr >= range.first && msr <= range.last) return true;
    return false;
}

bool cr_intercepted(const virt::Controls& controls, const virt::Exit& exit, const VpState& state) {
    if (controls.cr_all) return true;
    switch (exit.reg) {
        case 0:
            return exit.write && ((exit.value ^ state.cr0) & controls.cr0_mask) != 0;
        case 3:
            return exit.write && controls.cr3_write;
        case 4:
            return exit.write && ((exit.value ^ state.cr4) & controls.cr4_mask) != 0;
        case 8:
            return controls.cr8;
        default:
            return false;
    }
}

/// What the exit is about, as one number.
u64 qualifier_of(const virt::Exit& exit) {
    using Reason = virt::ExitReason;
    switch (exit.reason) {
        case Reason::Io:
            return exit.port;
        case Reason::Msr:
            return exit.msr;
        case Reason::Cpuid:
            return exit.leaf;
        case Reason::Cr:
        case Reason::Dr:
            return exit.reg;
        case Reason::Memory:
            return exit.gpa.value;
        case Reason::Exception:
            return exit.fault.vector;
        default:
            return 0;
    }
}

bool intercepts(const virt::Controls& controls, const virt::Exit& exit, const VpState& state) {
    using Reason = virt::ExitReason;
    switch (exit.reason) {
        case Reason::Io:
            return io_intercepted(controls, exit);
        case Reason::Msr:
            return msr_intercepted(controls, exit.msr);
        case Reason::Cpuid:
            return controls.cpuid;
        case Reason::Hypercall:
            return controls.hypercall;
        case Reason::Memory:
            return true;
        case Reason::Halt:
            return controls.halt;
        case Reason::Cr:
            return cr_intercepted(controls, exit, state);
        case Reason::DescriptorTable:
            return controls.descriptor_tables;
        case Reason::Exception:
            return bit(controls.exceptions, exit.fault.vector & 31u);
        case Reason::Rdtsc:
            return controls.rdtsc;
        case Reason::Pause:
            return controls.pause;
        case Reason::Invlpg:
        case Reason::Invpcid:
            return controls.invlpg;
        case Reason::Wbinvd:
            return controls.wbinvd;
        case Reason::TripleFault:
            return controls.triple_fault;
        case Reason::Dr:
            return controls.dr;
        case Reason::Rdpmc:
            return controls.rdpmc;
        case Reason::Mwait:
            return controls.mwait;
        case Reason::Monitor:
            return controls.monitor;
        case Reason::Xsetbv:
            return controls.xsetbv;
        case Reason::InterruptWindow:
            return controls.interrupt_window;
        case Reason::NmiWindow:
            return controls.nmi_window;
        case Reason::TaskSwitch:
            return controls.task_switch;
        case Reason::Vmx:
        case Reason::Svm:
            return controls.extension;
        case Reason::ExternalInterrupt:
            return controls.external_interrupt;
        case Reason::Nmi:
            return controls.nmi;
        case Reason::Init:
            return controls.init;
        case Reason::Sipi:
            return controls.sipi;
        case Reason::Invd:
            return controls.invd;
        case Reason::Random:
            return controls.rdrand || controls.rdseed;
        case Reason::Xsaves:
            return controls.xsaves;
        case Reason::ApicAccess:
            return controls.switches_worlds;
        case Reason::StackedFlags:
            return controls.stacked_flags;
        case Reason::None:
            return false;
    }
    return false;
}

}  // namespace

const virt::Controls Vp::kNoControls;

Vp::Vp(VpEnvironment environment, std::string name, u32 index, u32 apic_id)
    : env_(environment), name_(std::move(name)), index_(index), memory_(*this) {
    state_fd_ = memfd_create("vp-state", MFD_CLOEXEC);
    VG_ASSERT(state_fd_ >= 0);
    VG_ASSERT(ftruncate(state_fd_, sizeof(VpState)) == 0);
    void* page = mmap(nullptr, sizeof(VpState), PROT_READ | PROT_WRITE, MAP_SHARED, state_fd_, 0);
    VG_ASSERT(page != MAP_FAILED);
    state_ = static_cast<VpState*>(page);
    tlb_ = std::make_unique<mmu::Tlb>(env_.memory, state_fd_, 0);
    apic_ = std::make_unique<Apic>(*this, env_.apic_bus, env_.events, apic_id);
    extension_ = virt::make_extension(*this);
    reset();
}

Vp::~Vp() {
    apic_.reset();
    tlb_.reset();
    munmap(state_, sizeof(VpState));
    close(state_fd_);
}

// ---- reset -------------------------------------------------------------------------------------------------------

void Vp::reset_common() {
    VpState& s = *state_;
    std::memset(s.gpr, 0, sizeof s.gpr);
    s.gpr[RDX] = env_.model.leaf(1, 0).eax;  // family, model and stepping
    s.rip = 0xfff0;
    s.rflags = flag::Always1;
    s.cr2 = s.cr3 = s.cr4 = 0;
    for (u64& pdpte : s.pdpte) pdpte = 0;
    for (unsigned i = 0; i < 6; ++i) s.seg[i] = {0, 0xffff, 0, kRealData};
    s.segment(Seg::CS) = {0xffff0000, 0xffff, 0xf000, kRealCode};
    s.segment(Seg::LDTR) = {0, 0xffff, 0, kResetLdtr};
    s.segment(Seg::TR) = {0, 0xffff, 0, kResetTr};
    s.gdtr = s.idtr = {0, 0xffff, 0};
    s.dr[0] = s.dr[1] = s.dr[2] = s.dr[3] = 0;
    s.dr[6] = 0xffff0ff0;
    s.dr[7] = 0x400;
    s.efer = 0;
    s.cpl = 0;
    s.interrupt_shadow = s.nmi_blocked = s.nmi_pending = s.debug_pending = 0;
    s.pending_dr6 = 0;
    s.init_pending = 0;
    s.acknowledged = s.acknowledged_vector = 0;
    begin(nullptr);
    s.activity = index_ == 0 ? Activity::Active : Activity::WaitForSipi;
    injected_.reset();
    leaving_ = false;
    tlb_->flush_all();
    update_context();
}

void Vp::reset() {
    VpState& s = *state_;
    if (extension_ != nullptr) extension_->reset();
    const s64 budget = s.budget;
    const u64 deadline = s.deadline, request = s.request;
    std::memset(state_, 0, sizeof(VpState));
    s.budget = budget;
    s.deadline = deadline;
    s.request = request;
    s.idle_ns = now();
    s.cr0 = cr0::CD | cr0::NW | cr0::ET;
    s.xcr0 = 1;
    s.x87.fcw = 0x40;
    s.x87.ftw = 0xff;  // FTW 5555H: eight registers that hold +0.0
    s.mxcsr = 0x1f80;
    s.pat = 0x0007040600070406;
    s.misc_enable = 1 | 1 << 11 | 1 << 12;  // fast strings; no BTS, no PEBS
    const bool intel = env_.model.vendor() == Vendor::Intel;
    s.ucode_rev = intel ? u64{0xffffffff} << 32 : 0x0a1011ff;
    s.apic_base = 0xfee00000 | (1u << 11) | (index_ == 0 ? 1u << 8 : 0);
    s.hwcr = u64{1} << 24;  // TscFreqSel: the TSC counts at the P0 frequency
    s.random_state = 0x9e3779b97f4a7c15 * (index_ + 1);
    s.tsc_offset = 0 - now();
    external_line_ = false;
    delivery_time_ = kNever;
    delivery_streak_ = 0;
    apic_->reset();
    update_apic_page();
    reset_common();
}

void Vp::init() {
    VpState& s = *state_;
    s.cr0 = (s.cr0 & (cr0::CD | cr0::NW)) | cr0::ET;
    apic_->init();
    reset_common();
    env_.platform.init_done(*this);
}

// ---- time --------------------------------------------------------------------------------------------------------

void Vp::shorten_slice(VTime when) {
    VpState& s = *state_;
    const VTime current = now();
    if (when < current) when = current;
    slice_end_ = std::min(slice_end_, when);
    if (s.deadline <= when) return;
    s.budget -= static_cast<s64>(s.deadline - when);
    s.deadline = when;
}

void Vp::next_part(u64 instructions) {
    VpState& s = *state_;
    const VTime current = now();
    if (slice_end_ <= current) return;
    s.budget = static_cast<s64>(std::min(slice_end_ - current, instructions));
    s.deadline = current + static_cast<u64>(s.budget);
}

void Vp::hold_off_at_gate() { gate_->hold_off(); }
void Vp::hold_off_all_at_gate() { gate_->hold_off_all(); }
void Vp::request_stop() { __atomic_store_n(&state_->request, u64{1}, __ATOMIC_RELEASE); }

// ---- mode --------------------------------------------------------------------------------------------------------

u64 Vp::linear_rip() const {
    const VpState& s = *state_;
    return code_mode() == CodeMode::Bits64 ? s.rip : static_cast<u32>(s.segment(Seg::CS).base + s.rip);
}

mmu::PagingMode Vp::paging_mode() const {
    const VpState& s = *state_;
    mmu::PagingMode mode;
    mode.physical_bits = env_.model.physical_bits();
    if ((s.cr0 & cr0::PG) == 0) return mode;
    mode.kind = (s.cr4 & cr4::PAE) == 0     ? mmu::PagingKind::Bits32
                : (s.efer & efer::LMA) == 0 ? mmu::PagingKind::Pae
                                            : mmu::PagingKind::Level4;
    mode.wp = (s.cr0 & cr0::WP) != 0;
    mode.smep = (s.cr4 & cr4::SMEP) != 0;
    mode.smap = (s.cr4 & cr4::SMAP) != 0;
    mode.pge = (s.cr4 & cr4::PGE) != 0;
    mode.pse = (s.cr4 & cr4::PSE) != 0;
    mode.nxe = (s.efer & efer::NXE) != 0 && (s.misc_enable & misc_enable::XdDisable) == 0;
    mode.pcide = (s.cr4 & cr4::PCIDE) != 0;
    mode.gib_pages = env_.model.has(CpuFlag::PDPE1GB);
    mode.cr3 = s.cr3;
    if (mode.kind == mmu::PagingKind::Pae)
        for (unsigned i = 0; i < 4; ++i) mode.pdpte[i] = s.pdpte[i];
    if (mode.kind == mmu::PagingKind::Level4 && (s.cr4 & cr4::PKE) != 0) {
        mode.pke = true;
        mode.pkru = s.pkru;
    }
    return mode;
}

mmu::Privilege Vp::privilege() const {
    const VpState& s = *state_;
    if (s.cpl == 3) return mmu::Privilege::User;
    const bool smap_off = (s.rflags & flag::AC) != 0 && (s.cr4 & cr4::SMAP) != 0;
    return smap_off ? mmu::Privilege::SupervisorAc : mmu::Privilege::Supervisor;
}

void Vp::update_context() {
    const mmu::SlatMode slat = levels_.empty() ? mmu::SlatMode{} : levels_.back().controls.slat;
    tlb_->set_context(paging_mode(), slat, privilege());
}

void Vp::update_privilege() { tlb_->set_privilege(privilege()); }

void Vp::update_apic_page() {
    const bool mapped = apic_->enabled() && !apic_->x2apic();
    // The page of a partition's APIC lies in the partition's space, which its second level translates; a bare processor's
    // guests reach the real one only through tables that lead there.
    const auto space = env_.partition == 0 ? mmu::Tlb::ApicSpace::System : mmu::Tlb::ApicSpace::Guest;
    tlb_->set_apic_page(mapped ? Gpa(apic_->base()) : mmu::Tlb::kNoPage, space);
}

// ---- faults and exits --------------------------------------------------------------------------------------------

Exec Vp::raise(u8 vector) {
    fault_ = Fault{};
    fault_.vector = vector;
    return Exec::Fault;
}

Exec Vp::raise(u8 vector, u32 error_code) {
    raise(vector);
    fault_.has_error = true;
    fault_.error_code = error_code;
    return Exec::Fault;
}

Exec Vp::raise_page_fault(u64 address, u32 error_code) {
    raise(kPageFault, error_code);
    fault_.cr2 = address;
    return Exec::Fault;
}

Exec Vp::raise(const Fault& fault) {
    fault_ = fault;
    return Exec::Fault;
}

virt::Action Vp::offer_exit(Offer to) {
    for (std::size_t i = levels_.size(); i-- > 0;) {
        if (levels_[i].owner == nullptr || !intercepts(levels_[i].controls, exit_, *state_)) continue;
        if (to != Offer::All && levels_[i].controls.switches_worlds != (to == Offer::Switching)) continue;
        const u64 rip = state_->rip;
        const virt::Action action = levels_[i].owner->on_exit(*this, exit_);
        if (action == virt::Action::Default) continue;
        tell(TapKind::Exit, static_cast<u64>(exit_.reason), qualifier_of(exit_), exit_.value, rip);
        if (action == virt::Action::Inject) fault_ = exit_.fault;
        if (action == virt::Action::Leave) leaving_ = true;
        if (action == virt::Action::Switch) mark_switched();
        return action;
    }
    return virt::Action::Default;
}

}  // namespace vg::cpu
