// CPUID as this VP answers it now: the model's leaves with the dynamic bits. SDM 2A "CPUID", AMD APM 3 appendix E.
#include <algorithm>
#include <bit>

#include "base/bits.h"
#include "cpu/model.h"
#include "cpu/spec/xsave.h"
#include "cpu/vp.h"

namespace vg::cpu {

namespace {

constexpr u32 kLimitedMaxLeaf = 2;  // what IA32_MISC_ENABLE "Limit CPUID Maxval" leaves

/// One package of single-threaded cores: the low bits of the APIC id number the cores.
u32 core_count(const Vp& vp) { return std::max<u32>(1, static_cast<u32>(vp.apic_bus().apics().size())); }
u32 core_bits(const Vp& vp) { return static_cast<u32>(std::bit_width(core_count(vp) - 1)); }

CpuidRegs basic_features(const Vp& vp, CpuidRegs regs) {
    const VpState& s = vp.state();
    const u32 count = core_count(vp);
    regs.ebx |= (vp.apic().id() & 0xff) << 24;
    if (count > 1) {
        regs.ebx |= std::min<u32>(u32{1} << core_bits(vp), 255) << 16;
        regs.edx |= 1u << 28;  // HTT: the count above is valid
    }
    if ((s.cr4 & cr4::OSXSAVE) != 0) regs.ecx |= 1u << 27;
    if (!vp.apic().enabled()) regs.edx &= ~(1u << 9);
    return regs;
}

CpuidRegs topology(const Vp& vp, u32 subleaf) {
    CpuidRegs regs;
    regs.ecx = subleaf & 0xff;
    regs.edx = vp.apic().id();
    if (subleaf == 0) {
        regs.ebx = 1;
        regs.ecx |= 1u << 8;  // SMT
    } else if (subleaf == 1) {
        regs.eax = core_bits(vp);
        regs.ebx = core_count(vp);
        regs.ecx |= 2u << 8;  // core
    }
    return regs;
}

CpuidRegs xsave_leaf(const Vp& vp, u32 subleaf, CpuidRegs regs) {
    const VpState& s = vp.state();
    if (!vp.model().has(CpuFlag::XSAVE)) return {};
    const u64 enabled = s.xcr0 | s.xss;
    if (subleaf == 0) regs.ebx = xsave::area_size(s.xcr0, 0);
    if (subleaf == 1 && vp.model().has(CpuFlag::XSAVEC)) regs.ebx = xsave::area_size(enabled, enabled);
    return regs;
}

CpuidRegs cache_leaf(const Vp& vp, CpuidRegs regs, bool intel) {
    if ((regs.eax & 31) == 0) return regs;
    const u32 level = bits(regs.eax, 7, 5) & 7;
    const u32 max_core = std::min<u32>((u32{1} << core_bits(vp)) - 1, 63);
    if (intel) regs.eax |= max_core << 26;
    if (level == 3) regs.eax |= (core_count(vp) - 1) << 14;
    return regs;
}

CpuidRegs extended(const Vp& vp, u32 leaf, CpuidRegs regs) {
    const bool intel = vp.model().vendor() == Vendor::Intel;
    const u32 count = core_count(vp);
    switch (leaf) {
        case 0x80000001:
            // SDM: "This feature flag is always enumerated as 0 outside 64-bit mode."
            if (intel && vp.code_mode() != CodeMode::Bits64) regs.edx &= ~(1u << 11);
            if ((vp.state().misc_enable & misc_enable::XdDisable) != 0) regs.edx &= ~(1u << 20);
            if (!intel && count > 1) regs.ecx |= 1u << 1;  // CmpLegacy
            if (!intel && !vp.apic().enabled()) regs.edx &= ~(1u << 9);
            break;
        case 0x80000008:
            if (!intel) regs.ecx = (count - 1) | core_bits(vp) << 12;
            break;
        case 0x8000001d: return cache_leaf(vp, regs, false);
        case 0x8000001e:
            if (vp.model().has(CpuFlag::TOPOEXT)) regs = {vp.apic().id(), vp.apic().id() & 0xff, 0, 0};
            break;
        default: break;
    }
    return regs;
}

}  // namespace

CpuidRegs cpuid(const Vp& vp, u32 leaf, u32 subleaf) {
    const CpuModel& model = vp.model();
    if (leaf >= 0x40000000 && leaf <= 0x400000ff) return {};
    const bool is_extended = leaf >= 0x80000000;
    const bool limited = (vp.state().misc_enable & misc_enable::LimitCpuid) != 0;
    const u32 max_basic = limited ? kLimitedMaxLeaf : model.max_leaf();
    if (leaf > (is_extended ? model.max_extended_leaf() : max_basic)) {
        // SDM: beyond the maximum, "the data for the highest basic information leaf is returned"; AMD returns zeros.
        if (model.vendor() == Vendor::Amd) return {};
        leaf = max_basic;
    }
    const bool indexed = leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd || leaf == 0x1f || leaf == 0x8000001d;
    const CpuidRegs regs = model.leaf(leaf, indexed ? subleaf : 0);
    if (leaf >= 0x80000000) return extended(vp, leaf, regs);
    switch (leaf) {
        case 0: return {max_basic, regs.ebx, regs.ecx, regs.edx};
        case 1: return basic_features(vp, regs);
        case 4: return cache_leaf(vp, regs, true);
        case 7: {
            CpuidRegs out = regs;
            if (subleaf == 0 && (vp.state().cr4 & cr4::PKE) != 0) out.ecx |= 1u << 4;  // OSPKE
            return out;
        }
        case 0xb:
        case 0x1f: return topology(vp, subleaf);
        case 0xd: return xsave_leaf(vp, subleaf, regs);
        default: return regs;
    }
}

}  // namespace vg::cpu
