#include "cpu/msr.h"

#include "base/bits.h"
#include "cpu/control_registers.h"
#include "cpu/segments.h"
#include "cpu/spec/svm.h"
#include "cpu/svm/unit.h"
#include "cpu/vmx/unit.h"
#include "cpu/vp.h"

namespace vg::cpu {

namespace {

bool memory_type_valid(u64 type, bool pat) { return type == 0 || type == 1 || (type >= 4 && type <= 6) || (pat && type == 7); }

bool memory_types_valid(u64 value, bool pat) {
    for (unsigned i = 0; i < 64; i += 8)
        if (!memory_type_valid(bits(value, i + 7, i), pat)) return false;
    return true;
}

// ---- one pair of functions per MSR_CODE row ----------------------------------------------------------------------

bool read_TSC(Vp& vp, u32, u64& value) {
    value = vp.tsc();
    return true;
}
bool write_TSC(Vp& vp, u32, u64 value) {
    VpState& s = vp.state();
    const u64 delta = value - (vp.tsc() - vp.guest_tsc_offset());
    s.tsc_offset += delta;
    s.tsc_adjust += delta;  // SDM 3B "IA32_TSC_ADJUST Support": a write to the TSC changes both alike
    vp.apic().tsc_changed();
    return true;
}

bool read_TSC_ADJUST(Vp& vp, u32, u64& value) {
    value = vp.state().tsc_adjust;
    return true;
}
bool write_TSC_ADJUST(Vp& vp, u32, u64 value) {
    VpState& s = vp.state();
    s.tsc_offset += value - s.tsc_adjust;
    s.tsc_adjust = value;
    vp.apic().tsc_changed();
    return true;
}

bool read_APIC_BASE(Vp& vp, u32, u64& value) {
    value = vp.state().apic_base;
    return true;
}
bool write_APIC_BASE(Vp& vp, u32, u64 value) {
    return vp.apic().write_base(value);
}

bool read_FEATURE_CONTROL(Vp& vp, u32, u64& value) {
    value = vp.state().feature_control;
    return true;
}
bool write_FEATURE_CONTROL(Vp& vp, u32, u64 value) {
    constexpr u64 kLock = 1, kVmxOutsideSmx = 4;
    u64& current = vp.state().feature_control;
    const u64 allowed = kLock | (vp.model().has(CpuFlag::VMX) ? kVmxOutsideSmx : 0);
    if ((current & kLock) != 0 || (value & ~allowed) != 0) return false;
    current = value;
    return true;
}

bool read_SPEC_CTRL(Vp& vp, u32, u64& value) {
    value = vp.state().spec_ctrl;
    return true;
}
bool write_SPEC_CTRL(Vp& vp, u32, u64 value) {
    constexpr u64 kIbrs = 1, kStibp = 2, kSsbd = 4, kBhiDisS = 1 << 10;
    const CpuModel& model = vp.model();
    u64 allowed = kIbrs;
    if (model.has(CpuFlag::STIBP) || model.has(CpuFlag::AMD_STIBP)) allowed |= kStibp;
    if (model.has(CpuFlag::SSBD) || model.has(CpuFlag::AMD_SSBD)) allowed |= kSsbd;
    if (model.has(CpuFlag::BHI_CTRL)) allowed |= kBhiDisS;
    if ((value & ~allowed) != 0) return false;
    vp.state().spec_ctrl = value;
    return true;
}

bool read_PRED_CMD(Vp&, u32, u64&) { return false; }
bool write_PRED_CMD(Vp& vp, u32, u64 value) {
    constexpr u64 kIbpb = 1, kSbpb = 1 << 7;
    const u64 allowed = kIbpb | (vp.model().has(CpuFlag::SRSO_NO) ? kSbpb : 0);
    return (value & ~allowed) == 0;
}

bool read_MICROCODE_REVISION(Vp& vp, u32, u64& value) {
    value = vp.state().ucode_rev;
    return true;
}
bool write_MICROCODE_REVISION(Vp&, u32, u64) { return true; }  // CPUID restores it at once

bool read_MISC_ENABLE(Vp& vp, u32, u64& value) {
    value = vp.state().misc_enable;
    return true;
}
bool write_MISC_ENABLE(Vp& vp, u32, u64 value) {
    // Fast strings, thermal control, SpeedStep, MONITOR, xTPR. BTS and PEBS unavailable and the counters' bit are read-only.
    constexpr u64 kPlain = 1 | 1 << 3 | 1 << 16 | 1 << 18 | 1 << 23, kReadOnly = 1 << 7 | 1 << 11 | 1 << 12;
    u64 writable = kPlain | misc_enable::LimitCpuid;
    if (vp.model().has(CpuFlag::NX)) writable |= misc_enable::XdDisable;
    u64& current = vp.state().misc_enable;
    if (((value ^ current) & ~(writable | kReadOnly)) != 0) return false;
    const u64 changed = (value ^ current) & writable;
    current ^= changed;
    if ((changed & misc_enable::XdDisable) != 0) {
        vp.tlb().flush_all();
        vp.update_context();
    }
    return true;
}

bool read_MTRR_VARIABLE(Vp& vp, u32 msr, u64& value) {
    const u32 index = (msr - 0x200) / 2;
    value = (msr & 1) != 0 ? vp.state().mtrr_mask[index] : vp.state().mtrr_base[index];
    return true;
}
bool write_MTRR_VARIABLE(Vp& vp, u32 msr, u64 value) {
    const u32 index = (msr - 0x200) / 2;
    const u64 page = low_mask(vp.model().physical_bits()) & ~kPageMask;
    if ((msr & 1) != 0) {
        constexpr u64 kValid = 1 << 11;
        if ((value & ~(page | kValid)) != 0) return false;
        vp.state().mtrr_mask[index] = value;
        return true;
    }
    if ((value & ~(page | 0xff)) != 0 || !memory_type_valid(value & 0xff, false)) return false;
    vp.state().mtrr_base[index] = value;
    return true;
}

u32 fixed_mtrr_index(u32 msr) { return msr == 0x250 ? 0 : msr < 0x260 ? msr - 0x258 + 1 : msr - 0x268 + 3; }
bool read_MTRR_FIXED(Vp& vp, u32 msr, u64& value) {
    value = vp.state().mtrr_fixed[fixed_mtrr_index(msr)];
    return true;
}
bool write_MTRR_FIXED(Vp& vp, u32 msr, u64 value) {
    if (!memory_types_valid(value, false)) return false;
    vp.state().mtrr_fixed[fixed_mtrr_index(msr)] = value;
    return true;
}

bool read_MTRR_DEF_TYPE(Vp& vp, u32, u64& value) {
    value = vp.state().mtrr_def_type;
    return true;
}
bool write_MTRR_DEF_TYPE(Vp& vp, u32, u64 value) {
    if ((value & ~u64{0xcff}) != 0 || !memory_type_valid(value & 0xff, false)) return false;
    vp.state().mtrr_def_type = value;
    return true;
}

bool read_PAT(Vp& vp, u32, u64& value) {
    value = vp.state().pat;
    return true;
}
bool write_PAT(Vp& vp, u32, u64 value) {
    if (!memory_types_valid(value, true)) return false;
    vp.state().pat = value;
    return true;
}

bool read_MC_BANK(Vp& vp, u32 msr, u64& value) {
    value = vp.state().mc_bank[(msr - 0x400) / 4][msr & 3];
    return true;
}
bool write_MC_BANK(Vp& vp, u32 msr, u64 value) {
    // SDM 3B "IA32_MCi_CTL MSRs", "IA32_MCi_STATUS MSRS". STATUS can only be cleared. DEVIATION: ADDR and MISC take
    // anything, as on AMD and under other hypervisors, where the SDM has #GP unless the value is 0.
    enum : u32 { Ctl, Status };
    const bool all_or_nothing = vp.model().vendor() == Vendor::Intel;
    if ((msr & 3) == Ctl && all_or_nothing && value != 0 && value != ~u64{0}) return false;
    if ((msr & 3) == Status && value != 0) return false;
    vp.state().mc_bank[(msr - 0x400) / 4][msr & 3] = value;
    return true;
}

/// Processors with SVM have more banks than four, and software reads MC4_MISC for its threshold counters without asking. These
/// are as the reserved banks of such processors: they read as 0, and writes have no effect.
bool read_MC_RESERVED_BANK(Vp&, u32, u64& value) {
    value = 0;
    return true;
}
bool write_MC_RESERVED_BANK(Vp&, u32, u64) { return true; }

bool read_TSC_DEADLINE(Vp& vp, u32, u64& value) {
    value = vp.apic().tsc_deadline();
    return true;
}
bool write_TSC_DEADLINE(Vp& vp, u32, u64 value) {
    vp.apic().write_tsc_deadline(value);
    return true;
}

bool read_VMX_CAPABILITY(Vp& vp, u32 msr, u64& value) { return vmx::unit_of(vp)->capabilities().read_msr(msr, value); }
bool write_VMX_CAPABILITY(Vp&, u32, u64) { return false; }

bool read_VM_CR(Vp& vp, u32, u64& value) {
    value = vp.state().vm_cr;
    return true;
}
/// APM 2 "VM_CR MSR (C001_0114h)". DEVIATION: R_INIT, DPD and DIS_A20M are stored without effect.
bool write_VM_CR(Vp& vp, u32, u64 value) {
    constexpr u64 kDefined = 0x1f;
    VpState& s = vp.state();
    if ((value & ~kDefined) != 0) return false;
    // Once locked, LOCK and SVMDIS stay as they are.
    const u64 kept = (s.vm_cr & svm::vm_cr::kLock) != 0 ? svm::vm_cr::kLock | svm::vm_cr::kSvmDisable : 0;
    value = (value & ~kept) | (s.vm_cr & kept);
    if ((value & svm::vm_cr::kSvmDisable) != 0 && (s.efer & efer::SVME) != 0) return false;
    s.vm_cr = value;
    return true;
}

bool read_VM_HSAVE_PA(Vp& vp, u32, u64& value) {
    value = svm::unit_of(vp)->host_save_address();
    return true;
}
bool write_VM_HSAVE_PA(Vp& vp, u32, u64 value) { return svm::unit_of(vp)->write_host_save_address(value); }

bool read_LAST_BRANCH(Vp& vp, u32 msr, u64& value) {
    value = vp.state().last_branch[msr - 0x1db];
    return true;
}
bool write_LAST_BRANCH(Vp&, u32, u64) { return false; }

bool read_TSC_RATIO(Vp& vp, u32, u64& value) {
    value = svm::unit_of(vp)->tsc_ratio();
    return true;
}
bool write_TSC_RATIO(Vp& vp, u32, u64 value) { return svm::unit_of(vp)->write_tsc_ratio(value); }

bool read_X2APIC(Vp& vp, u32 msr, u64& value) { return vp.apic().msr_read(msr - 0x800, value); }
bool write_X2APIC(Vp& vp, u32 msr, u64 value) { return vp.apic().msr_write(msr - 0x800, value); }

bool read_EFER(Vp& vp, u32, u64& value) {
    value = vp.state().efer;
    return true;
}
bool write_EFER(Vp& vp, u32, u64 value) { return write_efer(vp, value) == Exec::Next; }

// ---- the table ---------------------------------------------------------------------------------------------------

enum class Who : u8 { Any, Intel, Amd };

bool exists(const Vp& vp, Who who, CpuFlag flag) {
    const CpuModel& model = vp.model();
    if (who != Who::Any && (who == Who::Intel) != (model.vendor() == Vendor::Intel)) return false;
    return flag == CpuFlag::Count || model.has(flag);
}

struct MsrRow {
    u32 first, last;
    std::string_view name;
    Who who;
    CpuFlag flag;
    bool (*read)(Vp&, u32, u64&);
    bool (*write)(Vp&, u32, u64);
};

constexpr MsrRow kRows[] = {
#define MSR_FIELD(address, name, who, flag, field, writable)                                  \
    {address, address, #name, Who::who, CpuFlag::flag,                                        \
     [](Vp& vp, u32, u64& value) { value = vp.state().field; return true; },                  \
     [](Vp& vp, u32, u64 value) {                                                             \
         if ((value & ~u64{writable}) != 0) return false;                                     \
         vp.state().field = value;                                                            \
         return true;                                                                         \
     }},
#define MSR_ADDRESS(address, name, who, flag, field)                                          \
    {address, address, #name, Who::who, CpuFlag::flag,                                        \
     [](Vp& vp, u32, u64& value) { value = vp.state().field; return true; },                  \
     [](Vp& vp, u32, u64 value) {                                                             \
         if (!canonical(value)) return false;                                                 \
         vp.state().field = value;                                                            \
         return true;                                                                         \
     }},
#define MSR_FIXED(address, name, who, flag, constant)                                         \
    {address, address, #name, Who::who, CpuFlag::flag,                                        \
     [](Vp&, u32, u64& value) { value = constant; return true; },                             \
     [](Vp&, u32, u64) { return false; }},
#define MSR_INERT(address, name, who, flag, constant)                                         \
    {address, address, #name, Who::who, CpuFlag::flag,                                        \
     [](Vp&, u32, u64& value) { value = constant; return true; },                             \
     [](Vp&, u32, u64) { return true; }},
#define MSR_CODE(first, last, name, who, flag)                                                \
    {first, last, #name, Who::who, CpuFlag::flag, read_##name, write_##name},
#include "cpu/msr.def"
#undef MSR_FIELD
#undef MSR_ADDRESS
#undef MSR_FIXED
#undef MSR_INERT
#undef MSR_CODE
};

const MsrRow* find(const Vp& vp, u32 msr) {
    for (const MsrRow& row : kRows)
        if (msr >= row.first && msr <= row.last && exists(vp, row.who, row.flag)) return &row;
    return nullptr;
}

}  // namespace

bool read_msr(Vp& vp, u32 msr, u64& value) {
    const MsrRow* row = find(vp, msr);
    return row != nullptr && row->read(vp, msr, value);
}

bool write_msr(Vp& vp, u32 msr, u64 value) {
    const MsrRow* row = find(vp, msr);
    return row != nullptr && row->write(vp, msr, value);
}

std::string_view msr_name(u32 msr) {
    for (const MsrRow& row : kRows)
        if (msr >= row.first && msr <= row.last) return row.name;
    return {};
}

}  // namespace vg::cpu
