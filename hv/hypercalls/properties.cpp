// Partition properties. K-123..K-125, K-069, K-250..K-270; TLFS 6.0b "Partition Properties".
#include <array>
#include <cstring>

#include "base/clock.h"
#include "cpu/model.h"
#include "hv/hypercalls/target.h"
#include "hv/spec/cpuid.h"
#include "hv/xsave_image.h"

namespace vg::hv::hypercalls {
namespace {

using enum PartitionProperty;

constexpr u64 kCompatibility21H2 = 0x609;
constexpr u64 kVendorAmd = 0, kVendorIntel = 1;

/// What SyntheticProcessorFeatures may ask for here.
constexpr u64 kAssignable = [] {
    namespace f = synthetic_feature;
    return f::kHypervisorPresent | f::kHv1 | f::kVpRuntime | f::kReferenceCounter | f::kSynIc | f::kSyntheticTimers |
           f::kInterruptControl | f::kHypercall | f::kVpIndex | f::kReferenceTsc | f::kFrequencies | f::kFastOutput |
           f::kDirectTimers | f::kExtendedProcessorMasks | f::kTlbFlush | f::kClusterIpi | f::kLongSpinWait |
           f::kSignalEvents | f::kVpRegisters;
}();

constexpr u64 gate_bit(Gate gate) { return u64{1} << (static_cast<unsigned>(gate) % 64); }
constexpr u32 edx_bit(Gate gate) { return u32{1} << (static_cast<unsigned>(gate) - 64); }
constexpr u32 hint_bit(Gate gate) { return u32{1} << (static_cast<unsigned>(gate) - 96); }

/// K-251: which leaves 40000003 and 40000004 the features make.
void apply_synthetic_features(PartitionConfig& config, u64 features) {
    namespace f = synthetic_feature;
    constexpr struct {
        u64 feature;
        Gate gate;
    } kPrivileges[] = {
        {f::kVpRuntime, Gate::VpRuntime},
        {f::kReferenceCounter, Gate::ReferenceCounter},
        {f::kSynIc, Gate::SynIc},
        {f::kSyntheticTimers, Gate::SyntheticTimers},
        {f::kInterruptControl, Gate::ApicAccess},
        {f::kHypercall, Gate::HypercallMsrs},
        {f::kVpIndex, Gate::VpIndex},
        {f::kReferenceTsc, Gate::ReferenceTsc},
        {f::kFrequencies, Gate::Frequencies},
        {f::kSignalEvents, Gate::SignalEvents},
        {f::kSignalEvents, Gate::PostMessages},
        {f::kVpRegisters, Gate::AccessVpRegisters},
        {f::kFastOutput, Gate::FastOutput},
    };
    constexpr u32 kFrequencyMsrs = 1 << 8, kRelaxedTiming = 1 << 5, kNoAutoEoi = 1 << 9;
    config.hypervisor_present = (features & f::kHypervisorPresent) != 0;
    config.privileges = 0;
    for (const auto& row : kPrivileges)
        if ((features & row.feature) != 0) config.privileges |= gate_bit(row.gate);
    config.features_edx = edx_bit(Gate::CrashMsrs);
    if ((features & f::kFrequencies) != 0) config.features_edx |= kFrequencyMsrs;
    if ((features & f::kDirectTimers) != 0) config.features_edx |= edx_bit(Gate::DirectTimers);
    config.hints_eax = kRelaxedTiming | kNoAutoEoi;
    if ((features & f::kTlbFlush) != 0) config.hints_eax |= hint_bit(Gate::HintRemoteFlush);
    if ((features & f::kClusterIpi) != 0) config.hints_eax |= hint_bit(Gate::HintClusterIpi);
    if ((features & f::kExtendedProcessorMasks) != 0) config.hints_eax |= hint_bit(Gate::HintProcessorMasksEx);
}

/// Properties of the processors, the same for every partition.
bool processor_property(Vp& caller, PartitionProperty code, u64& out) {
    const cpu::CpuModel& model = caller.processor().model();
    const cpu::CpuidRegs features = model.leaf(1, 0);
    switch (code) {
        case ProcessorVendor:
            out = model.vendor() == cpu::Vendor::Intel ? kVendorIntel : kVendorAmd;
            return true;
        case ProcessorXsaveFeatures:
            // xsave, xsaveopt, avx, avx2, fma; compaction; supervisor state is not offered
            out = (bit(features.ecx, 26) ? 1 : 0) | (bit(model.leaf(0xd, 1).eax, 0) ? 2 : 0) |
                  (bit(features.ecx, 28) ? 4 : 0) | (bit(model.leaf(7, 0).ebx, 5) ? 8 : 0) |
                  (bit(features.ecx, 12) ? 0x10 : 0) | (bit(model.leaf(0xd, 1).eax, 1) ? 0x800 : 0);
            return true;
        case ClFlushSize:
            out = bits(features.ebx, 15, 8);
            return true;
        case CompatibilityVersion:
            out = kCompatibility21H2;
            return true;
        case PhysicalAddressWidth:
            out = model.physical_bits();
            return true;
        case XsaveStates:
            out = xsave_components(model);
            return true;
        case MaxXsaveDataSize:
            out = xsave_image_size(model);
            return true;
        case ClockFrequency:
            out = kVTimeHz;
            return true;
        case ApicFrequency:
            out = kVTimeHz;
            return true;
        // Banks of the processor's features: the values of CPUID leaf 1 and leaf 7, which is what a parent compares.
        case ProcessorFeatures0:
            out = u64{features.edx} << 32 | features.ecx;
            return true;
        case ProcessorFeatures1:
            out = u64{model.leaf(7, 0).ecx} << 32 | model.leaf(7, 0).ebx;
            return true;
        case NestedFeatures:
            out = 0;
            return true;
        default:
            return false;
    }
}

HvStatus get(Vp& caller, PartitionNode& node, PartitionProperty code, u64& out) {
    if (processor_property(caller, code, out)) return HvStatus::Success;
    Partition* partition = node.partition.get();
    const auto kept = [&node](PartitionProperty which) {
        const auto found = node.properties.find(which);
        return found == node.properties.end() ? u64{0} : found->second;
    };
    switch (code) {
        case PrivilegeFlags:
            out = partition != nullptr ? partition->config().privileges : node.config.privileges;
            break;
        case SyntheticProcessorFeatures:
            out = kept(code);
            break;
        case Suspend:
            out = partition != nullptr && partition->policy().suspended ? 1 : 0;
            break;
        case TimeFreeze:
            out = partition != nullptr && partition->policy().time_frozen ? 1 : 0;
            break;
        case ReferenceTime:
            out = partition != nullptr ? partition->reference_time() : 0;
            break;
        case UnimplementedMsrAction:
            out = partition != nullptr && partition->policy().ignore_unknown_msrs ? 1 : 0;
            break;
        case GuestOsId:
            out = partition != nullptr ? partition->guest_os_id : 0;
            break;
        case CpuReserve:
        case CpuCap:
        case CpuWeight:
        case CpuGroup:
        case DebugChannel:
        case VirtualTlbPages:
        case VsmConfig:
        case ZeroMemoryOnReset:
        case ProcessorsPerSocket:
        case NestedTlbSize:
            out = kept(code);
            break;
        default:
            return HvStatus::UnknownProperty;
    }
    return HvStatus::Success;
}

HvStatus set_early(PartitionNode& node, PartitionProperty code, u64 value) {
    if (node.state != PartitionState::Created) return HvStatus::InvalidPartitionState;
    if (code == PrivilegeFlags) {
        // A child's child would have no parent that deposits for it: creating partitions stays the root's (K-001).
        constexpr u64 kForbidden =
            gate_bit(Gate::CreatePartitions) | gate_bit(Gate::AccessMemoryPool) | gate_bit(Gate::CpuManagement);
        if ((value & kForbidden) != 0) return HvStatus::PropertyValueOutOfRange;
        node.config.privileges = value;
        return HvStatus::Success;
    }
    if ((value & ~kAssignable) != 0) return HvStatus::PropertyValueOutOfRange;
    apply_synthetic_features(node.config, value);
    node.properties[code] = value;
    return HvStatus::Success;
}

HvStatus set(PartitionNode& node, PartitionProperty code, u64 value) {
    if (code == PrivilegeFlags || code == SyntheticProcessorFeatures) return set_early(node, code, value);
    if (node.state == PartitionState::Finalized) return HvStatus::InvalidPartitionState;
    Partition* partition = node.partition.get();
    switch (code) {
        case CpuReserve:
        case CpuCap:
        case CpuWeight:
        case CpuGroup:
        case DebugChannel:
        case VirtualTlbPages:
        case VsmConfig:
        case ZeroMemoryOnReset:
        case ProcessorsPerSocket:
        case NestedTlbSize:
            node.properties[code] = value;
            return HvStatus::Success;
        case PageAccessTracking:
            return value == 0 ? HvStatus::Success : HvStatus::FeatureUnavailable;
        case Suspend:
        case TimeFreeze:
        case ReferenceTime:
        case UnimplementedMsrAction:
            break;
        default:
            return HvStatus::UnknownProperty;
    }
    if (partition == nullptr) return HvStatus::InvalidPartitionState;
    if (code == ReferenceTime) {
        if (!partition->policy().time_frozen) return HvStatus::InvalidPartitionState;
        partition->set_reference_time(value);
        return HvStatus::Success;
    }
    if (value > 1) return HvStatus::PropertyValueOutOfRange;
    if (code == TimeFreeze) {
        partition->freeze_time(value != 0);
    } else if (code == Suspend) {
        partition->policy().suspended = value != 0;
        partition->apply_policy();
    } else {
        partition->policy().ignore_unknown_msrs = value != 0;
    }
    return HvStatus::Success;
}

}  // namespace

HvStatus get_property(Vp& caller, const GetPropertyIn& in, u64& out) {
    const Target target = find_partition(caller, in.partition_id);
    return target ? get(caller, *target.node, static_cast<PartitionProperty>(in.code), out) : target.status;
}

HvStatus set_property(Vp& caller, const SetPropertyIn& in) {
    const Target target = find_child(caller, in.partition_id);
    return target ? set(*target.node, static_cast<PartitionProperty>(in.code), in.value) : target.status;
}

HvStatus get_property_ex(Vp& caller, const GetPropertyExIn& in, SizedOutput<8>& out) {
    const Target target = find_partition(caller, in.partition_id);
    if (!target) return target.status;
    const auto code = static_cast<PartitionProperty>(in.code);
    if (code == VmmCapabilities || code == AssignableSyntheticFeatures) {
        const vg::hv::VmmCapabilities value{1, {}, code == VmmCapabilities ? u64{0} : kAssignable};
        out.size = sizeof value;
        std::memcpy(out.bytes, &value, sizeof value);
        return HvStatus::Success;
    }
    u64 value = 0;
    const HvStatus status = get(caller, *target.node, code, value);
    out.size = sizeof value;
    std::memcpy(out.bytes, &value, sizeof value);
    return status;
}

HvStatus set_property_ex(Vp& caller, const SetPropertyExIn& in, VariableHeader data) {
    const Target target = find_child(caller, in.partition_id);
    if (!target) return target.status;
    if (data.empty()) return HvStatus::InvalidHypercallInput;
    return set(*target.node, static_cast<PartitionProperty>(in.code), data.front());
}

}  // namespace vg::hv::hypercalls
