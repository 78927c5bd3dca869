// The SVM instructions. AMD APM 3, their reference pages: #UD and #GP of privilege, intercepts, then #GP of the
// operand.
#include "base/bits.h"
#include "cpu/isa/bodies.h"
#include "cpu/ops/exits.h"
#include "cpu/segments.h"
#include "cpu/spec/svm.h"
#include "cpu/svm/unit.h"
#include "cpu/virt/physical.h"

namespace vg::cpu::svm {

/// #UD, #GP(0), or an exit of a guest: what comes before everything else. True: the body returns `out`.
bool Unit::refused(Interp& in, const Insn& i, Exec& out) {
    if ((s_.efer & efer::SVME) == 0 || !ops::protected_proper(in)) {
        out = ops::undefined(in);
        return true;
    }
    if (in.vp.cpl() != 0) {
        out = ops::general_protection(in);
        return true;
    }
    return ops::taken(in, i, virt::ExitReason::Svm, out);
}

/// The physical address in rAX. False: #GP(0).
bool Unit::read_pointer(Interp& in, const Insn& i, u64& pointer, Exec& out) {
    pointer = in.gpr(RAX, i.addr_size);
    if ((pointer & (kPageMask | ~low_mask(vp_.model().physical_bits()))) == 0) return true;
    out = ops::general_protection(in);
    return false;
}

/// The page of VMLOAD and VMSAVE. APM 2 "VMSAVE and VMLOAD Virtualization": a guest's is guest-physical, if it may do
/// so at all.
bool Unit::state_page(Interp& in, const Insn& i, mmu::Access access, Spa& page, Exec& out) {
    u64 pointer = 0;
    if (!read_pointer(in, i, pointer, out)) return false;
    page = Spa(pointer);
    const bool guest = in.vp.guest_mode();
    const bool translated = guest && nested_paging() && (vmcb_[Field::virt_ext] & extras::kVmload) != 0;
    const mmu::SlatMode slat = translated ? vp_.tlb().slat() : virt::host_slat(vp_);
    if (slat.kind == mmu::SlatMode::Kind::None) return true;
    const mmu::Translation t = mmu::translate_gpa(vp_.physical(), slat, Gpa(pointer), access);
    page = t.spa;
    if (t.status == mmu::Translation::Status::Ok) return true;
    virt::Exit& exit = ops::begin_exit(in, i, virt::ExitReason::Memory);
    exit.gpa = t.slat_fault.gpa;
    exit.gva_valid = false;
    exit.slat = t.slat_fault;
    exit.write = access == mmu::Access::Write;
    if (ops::offer(in, i, out) == virt::Action::Default) out = ops::general_protection(in);
    return false;
}

/// STGI and CLGI. With a virtual GIF they change the guest's own.
Exec Unit::set_gif(Interp& in, const Insn& i, bool on) {
    Exec out{};
    if (refused(in, i, out)) return out;
    const u64 word = vmcb_[Field::int_ctl];
    if (in.vp.guest_mode() && (word & virq::kGifEnable) != 0)
        vmcb_.set(Field::int_ctl, on ? word | virq::kGif : word & ~u64{virq::kGif});
    else
        set_global_interrupts(on);
    return ops::resync(in, i);
}

/// Secure startup is not there (CPUID SKINIT is 0): no intercept comes before #UD.
Exec Unit::skinit(Interp& in, const Insn&) { return ops::undefined(in); }

Exec Unit::invlpga(Interp& in, const Insn& i) {
    Exec out{};
    if (refused(in, i, out)) return out;
    const u64 asid = static_cast<u32>(s_.gpr[RCX]);
    const u64 address = in.gpr(RAX, i.addr_size);
    if (asid < kAsids && canonical(address)) vp_.tlb().flush_page_tag(address, static_cast<u16>(asid));
    return ops::resync(in, i);
}

}  // namespace vg::cpu::svm

namespace vg::cpu::ops {

// Without SVM the rows of these instructions are #UD before their bodies are asked.
Exec VMRUN(Interp& in, const Insn& i) { return svm::unit_of(in.vp)->vmrun(in, i); }
Exec VMLOAD(Interp& in, const Insn& i) { return svm::unit_of(in.vp)->vmload(in, i); }
Exec VMSAVE(Interp& in, const Insn& i) { return svm::unit_of(in.vp)->vmsave(in, i); }
Exec STGI(Interp& in, const Insn& i) { return svm::unit_of(in.vp)->set_gif(in, i, true); }
Exec CLGI(Interp& in, const Insn& i) { return svm::unit_of(in.vp)->set_gif(in, i, false); }
Exec SKINIT(Interp& in, const Insn& i) { return svm::unit_of(in.vp)->skinit(in, i); }
Exec INVLPGA(Interp& in, const Insn& i) { return svm::unit_of(in.vp)->invlpga(in, i); }

}  // namespace vg::cpu::ops
