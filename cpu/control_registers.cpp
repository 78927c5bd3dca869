#include "cpu/control_registers.h"

#include "base/bits.h"
#include "cpu/insn.h"
#include "cpu/spec/svm.h"
#include "cpu/spec/xsave.h"

namespace vg::cpu {

namespace {

constexpr u64 kCr0Defined = cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::NW |
                            cr0::CD | cr0::PG;
constexpr u64 kNoFlush = u64{1} << 63;
constexpr u64 kEferAutoIbrs = u64{1} << 21;

struct FlagBit {
    CpuFlag flag;
    u64 bit;
};
constexpr FlagBit kCr4Bits[] = {
    {CpuFlag::VME, cr4::VME | cr4::PVI}, {CpuFlag::TSC, cr4::TSD}, {CpuFlag::DE, cr4::DE}, {CpuFlag::PSE, cr4::PSE},
    {CpuFlag::PAE, cr4::PAE}, {CpuFlag::MCE, cr4::MCE}, {CpuFlag::PGE, cr4::PGE},
    {CpuFlag::FXSR, cr4::OSFXSR | cr4::OSXMMEXCPT}, {CpuFlag::UMIP, cr4::UMIP}, {CpuFlag::VMX, cr4::VMXE},
    {CpuFlag::FSGSBASE, cr4::FSGSBASE}, {CpuFlag::PCID, cr4::PCIDE}, {CpuFlag::XSAVE, cr4::OSXSAVE},
    {CpuFlag::SMEP, cr4::SMEP}, {CpuFlag::SMAP, cr4::SMAP}, {CpuFlag::PKU, cr4::PKE}};

Exec refuse(Vp& vp) { return vp.raise(kGeneralProtection, 0); }

/// MOV CR0/CR3/CR4 with PAE paging reload the PDPTEs and fault on reserved bits.
Exec reload_pdptes(Vp& vp, u64 cr3) {
    std::optional<mmu::SlatFault> refused;
    if (mmu::load_pdptes(vp.physical(), vp.tlb().slat(), cr3, vp.model().physical_bits(), vp.state().pdpte, &refused))
        return Exec::Next;
    if (refused && vp.controls().switches_worlds) {
        virt::Exit& exit = vp.exit();
        exit = {};
        exit.reason = virt::ExitReason::Memory;
        exit.gpa = refused->gpa;
        exit.gva_valid = false;
        exit.slat = *refused;
        exit.insn = vp.executing();
        if (exit.insn != nullptr) exit.insn_length = exit.insn->length;
        const virt::Action action = vp.offer_exit();
        if (action == virt::Action::Switch || action == virt::Action::Inject) return vp.failed();
    }
    return refuse(vp);
}

}  // namespace

u64 cr4_mask(const CpuModel& model) {
    u64 mask = cr4::PCE;
    for (const FlagBit& row : kCr4Bits)
        if (model.has(row.flag)) mask |= row.bit;
    return mask;
}

Exec write_cr0(Vp& vp, u64 value) {
    VpState& s = vp.state();
    if (value >> 32 != 0) return refuse(vp);
    value = (value & kCr0Defined) | cr0::ET;
    const bool paging = (value & cr0::PG) != 0, was_paging = (s.cr0 & cr0::PG) != 0;
    if (paging && (value & cr0::PE) == 0) return refuse(vp);
    if ((value & cr0::NW) != 0 && (value & cr0::CD) == 0) return refuse(vp);
    u64 efer = s.efer;
    if (paging && !was_paging && (efer & efer::LME) != 0) {
        // SDM 3A "IA-32e Mode Activation", consistency checks; a 16-bit TSS does not exist there.
        const bool tss16 = (s.segment(Seg::TR).type() & 8) == 0;
        if ((s.cr4 & cr4::PAE) == 0 || s.segment(Seg::CS).l() || tss16) return refuse(vp);
        efer |= efer::LMA;
    }
    if (!paging && was_paging) {
        if (vp.code_mode() == CodeMode::Bits64 || (s.cr4 & cr4::PCIDE) != 0) return refuse(vp);
        efer &= ~efer::LMA;
    }
    if ((vp.required().cr0 & ~value) != 0) return refuse(vp);  // SDM 3C "Restrictions on VMX Operation"
    const u64 changed = value ^ s.cr0;
    const bool pae = paging && (s.cr4 & cr4::PAE) != 0 && (efer & efer::LMA) == 0;
    if (pae && (changed & (cr0::PG | cr0::CD | cr0::NW)) != 0) {
        if (const Exec loaded = reload_pdptes(vp, s.cr3); loaded != Exec::Next) return loaded;
    }
    s.cr0 = value;
    s.efer = efer;
    if ((changed & (cr0::PG | cr0::WP | cr0::PE)) != 0) vp.tlb().flush_tag();
    vp.update_context();
    return Exec::Next;
}

Exec write_cr3(Vp& vp, u64 value) {
    VpState& s = vp.state();
    const bool pcide = (s.cr4 & cr4::PCIDE) != 0;
    const bool keep = pcide && (value & kNoFlush) != 0;
    if (pcide) value &= ~kNoFlush;
    if ((value & ~low_mask(vp.model().physical_bits())) != 0) return refuse(vp);
    const bool pae = (s.cr0 & cr0::PG) != 0 && (s.cr4 & cr4::PAE) != 0 && (s.efer & efer::LMA) == 0;
    if (pae) {
        if (const Exec loaded = reload_pdptes(vp, value); loaded != Exec::Next) return loaded;
    }
    s.cr3 = value;
    if (!keep) vp.tlb().flush_nonglobal(pcide ? static_cast<u16>(value & 0xfff) : u16{0});
    vp.update_context();
    return Exec::Next;
}

Exec write_cr4(Vp& vp, u64 value) {
    VpState& s = vp.state();
    if ((value & ~cr4_mask(vp.model())) != 0) return refuse(vp);
    const u64 changed = value ^ s.cr4;
    const bool long_mode = (s.efer & efer::LMA) != 0;
    if (long_mode && (value & cr4::PAE) == 0) return refuse(vp);
    if ((changed & value & cr4::PCIDE) != 0 && (!long_mode || (s.cr3 & 0xfff) != 0)) return refuse(vp);
    const bool pae = (s.cr0 & cr0::PG) != 0 && (value & cr4::PAE) != 0 && !long_mode;
    constexpr u64 kReload = cr4::PAE | cr4::PGE | cr4::PSE | cr4::SMEP;
    if ((vp.required().cr4 & ~value) != 0) return refuse(vp);
    if (pae && (changed & kReload) != 0) {
        if (const Exec loaded = reload_pdptes(vp, s.cr3); loaded != Exec::Next) return loaded;
    }
    s.cr4 = value;
    constexpr u64 kFlush = cr4::PAE | cr4::PGE | cr4::PSE | cr4::SMEP | cr4::SMAP | cr4::PCIDE | cr4::PKE;
    if ((changed & kFlush) != 0) vp.tlb().flush_tag();
    vp.update_context();
    return Exec::Next;
}

Exec write_efer(Vp& vp, u64 value) {
    VpState& s = vp.state();
    const CpuModel& model = vp.model();
    u64 allowed = efer::LMA;
    if (model.has(CpuFlag::SYSCALL)) allowed |= efer::SCE;
    if (model.has(CpuFlag::LM)) allowed |= efer::LME;
    if (model.has(CpuFlag::NX) && (s.misc_enable & misc_enable::XdDisable) == 0) allowed |= efer::NXE;
    if (model.has(CpuFlag::SVM)) allowed |= efer::SVME;
    if (model.has(CpuFlag::FFXSR)) allowed |= efer::FFXSR;
    if (model.has(CpuFlag::AUTOMATIC_IBRS)) allowed |= kEferAutoIbrs;
    if ((value & ~allowed) != 0) return refuse(vp);
    const u64 changed = value ^ s.efer;
    if ((changed & efer::LME) != 0 && (s.cr0 & cr0::PG) != 0) return refuse(vp);
    if ((changed & value & efer::SVME) != 0 && (s.vm_cr & svm::vm_cr::kSvmDisable) != 0) return refuse(vp);
    s.efer = (value & ~efer::LMA) | (s.efer & efer::LMA);  // LMA is read-only, ignored on writes
    if ((changed & efer::NXE) != 0) vp.tlb().flush_tag();
    vp.update_context();
    return Exec::Next;
}

Exec write_xcr0(Vp& vp, u64 value) {
    const bool valid = (value & ~vp.model().xcr0_mask()) == 0 && bit(value, xsave::kX87) &&
                       (bit(value, xsave::kSse) || !bit(value, xsave::kAvx));
    if (!valid) return refuse(vp);
    vp.state().xcr0 = value;
    return Exec::Next;
}

Exec write_dr(Vp& vp, unsigned number, u64 value) {
    VpState& s = vp.state();
    if (number >= 6 && value >> 32 != 0) return refuse(vp);
    constexpr u64 kDr6Writable = 0xe00f, kDr6Ones = 0xffff0ff0, kDr7Writable = 0xffff23ff, kDr7Ones = 0x400;
    if (number == 6) value = (value & kDr6Writable) | kDr6Ones;
    if (number == 7) value = (value & kDr7Writable) | kDr7Ones;
    s.dr[number] = value;
    return Exec::Next;
}

}  // namespace vg::cpu
