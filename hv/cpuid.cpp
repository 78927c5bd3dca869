#include "hv/cpuid.h"

#include <algorithm>
#include <array>

#include "cpu/model.h"
#include "hv/partition.h"
#include "hv/spec/cpuid.h"

namespace vg::hv {
namespace {

using Regs = std::array<u32, 4>;

constexpr u32 text(const char (&four)[5]) {
    u32 value = 0;
    for (unsigned i = 0; i < 4; ++i) value |= static_cast<u32>(static_cast<u8>(four[i])) << (8 * i);
    return value;
}

constexpr u32 kBuild = 27744;            ///< C-05: the oldest that Linux as a root partition knows
constexpr u32 kVersion = 10u << 16 | 0;  ///< 10.0
/// APIC overlay assist, MSR bitmaps, second-level translation (C-75).
constexpr u32 kHardwareFeatures = 0xb;
/// C-77: start logical processors, create root VPs.
constexpr u32 kRootManagement = 0x3;
constexpr u32 kEnlightenedVmcsHint = u32{1} << 14;  ///< C-70
/// C-79: versions 1 to 1 of the enlightened VMCS, flushes of guest mappings by hypercall, clean MSR bitmaps by enlightenment.
constexpr u32 kNestedFeatures = 0x0101 | u32{1} << 18 | u32{1} << 19;
constexpr u32 kNeverNotifySpin = 0xffffffff;  ///< C-72

Regs hypervisor_leaf(const Partition& partition, const cpu::CpuModel& model, u32 leaf) {
    const PartitionConfig& config = partition.config();
    if (!config.hypervisor_present) return {};
    switch (leaf) {
        case leaf::kVendor:
            return {leaf::kMax, text("Micr"), text("osof"), text("t Hv")};
        case leaf::kInterface:
            return {text("Hv#1"), 0, 0, 0};
        case leaf::kVersion:
            return {kBuild, kVersion, 0, 0};
        case leaf::kFeatures:
            return {static_cast<u32>(config.privileges), static_cast<u32>(config.privileges >> 32), 0,
                    config.features_edx};
        case leaf::kHints:
            return {config.hints_eax | (offers_enlightened_vmcs(partition, model) ? kEnlightenedVmcsHint : 0), kNeverNotifySpin,
                    model.physical_bits(), 0};
        case leaf::kLimits:
            return {config.max_vps, config.max_vps, 0, 0};
        case leaf::kHardware:
            return {kHardwareFeatures, 0, 0, 0};
        case leaf::kCpuManagement:
            return {config.root ? kRootManagement : 0, 0, 0, 0};
        case leaf::kNested:
            return {offers_enlightened_vmcs(partition, model) ? kNestedFeatures : 0, 0, 0, 0};
        case leaf::kStackVendor:
            if (config.root) return {};  // C-82: a root has no stack of its own to announce
            return {leaf::kStackMax, text("Micr"), text("osof"), text("t VS")};
        case leaf::kStackInterface:
            if (config.root) return {};
            return {text("VS#1"), 0, 0, 0};
        // C-06, C-82: everything else is zero, the stack's properties above all.
        default:
            return {};
    }
}

}  // namespace

bool offers_enlightened_vmcs(const Partition& partition, const cpu::CpuModel& model) {
    return model.has(cpu::CpuFlag::VMX) && partition.config().hypervisor_present && !partition.config().root;
}

void apply_cpuid(const Partition& partition, const cpu::CpuModel& model, u32 leaf, std::span<u32, 4> regs) {
    if (leaf >= leaf::kFirst && leaf <= leaf::kLast) {
        std::ranges::copy(hypervisor_leaf(partition, model, leaf), regs.begin());
    } else if (leaf == leaf::kFeatureInfo) {
        if (partition.config().hypervisor_present) regs[2] |= kHypervisorPresent;
        if (!partition.config().x2apic) regs[2] &= ~kX2Apic;
    } else if (leaf == leaf::kPowerManagement && partition.allows(Gate::TscInvariant) &&
               (partition.msrs.tsc_invariant & 1) == 0) {
        regs[3] &= ~kInvariantTsc;  // C-08: until the guest asks for it
    }
}

}  // namespace vg::hv
