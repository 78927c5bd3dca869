// What a parent wants to hear of, and what CPUID shows to its child. K-049, K-136, K-137.
#include "hv/hypercalls/target.h"

namespace vg::hv::hypercalls {
namespace {

constexpr u32 kKnownAccess = intercept_access::kRead | intercept_access::kWrite | intercept_access::kExecute;

HvStatus set_entry(std::map<u32, u32>& map, u32 key, u32 access) {
    if (access == 0) {
        map.erase(key);
        return HvStatus::Success;
    }
    if (map.size() >= ParentPolicy::kLimit && !map.contains(key)) return HvStatus::NoResources;
    map[key] = access;
    return HvStatus::Success;
}

HvStatus install(ParentPolicy& policy, const InstallInterceptIn& in) {
    const u32 key = static_cast<u32>(in.parameter);
    switch (static_cast<InterceptType>(in.type)) {
        // Ports and memory without backing go to the parent anyway.
        case InterceptType::IoPort:
        case InterceptType::IoPortRange:
        case InterceptType::Mmio:
            return HvStatus::Success;
        case InterceptType::Msr:
            policy.unknown_msr_access = in.access;
            return HvStatus::Success;
        case InterceptType::MsrIndex:
            return set_entry(policy.msr_intercepts, key, in.access);
        case InterceptType::Cpuid:
            return set_entry(policy.cpuid_intercepts, key, in.access);
        case InterceptType::Exception:
            if (in.parameter >= 32) return HvStatus::InvalidParameter;
            policy.exceptions = (policy.exceptions & ~(u32{1} << key)) | (in.access != 0 ? u32{1} << key : 0);
            return HvStatus::Success;
        case InterceptType::Hypercall:
            policy.hypercalls = in.access != 0;
            return HvStatus::Success;
        case InterceptType::ApicEoi:
            return HvStatus::Success;  // sent for level interrupts anyway
        case InterceptType::UnknownSynicConnection:
            policy.unknown_connections = in.access != 0;
            return HvStatus::Success;
        case InterceptType::RetargetUnknownDevice:
            policy.retargets = in.access != 0;
            return HvStatus::Success;
        case InterceptType::GlobalCpuid:
        case InterceptType::ApicSmi:
        case InterceptType::InitSipi:
        case InterceptType::MicrocodeUpdate:
        case InterceptType::ApicWrite:
        case InterceptType::ExceptionTrap:
            return HvStatus::FeatureUnavailable;
    }
    return HvStatus::InvalidParameter;
}

}  // namespace

HvStatus install_intercept(Vp& caller, const InstallInterceptIn& in) {
    const Target target = find_child(caller, in.partition_id);
    if (!target) return target.status;
    if (target.node->state != PartitionState::Initialized) return HvStatus::InvalidPartitionState;
    if ((in.access & ~kKnownAccess) != 0) return HvStatus::InvalidParameter;
    Partition& partition = *target.node->partition;
    const HvStatus status = install(partition.policy(), in);
    if (status == HvStatus::Success) partition.apply_policy();
    return status;
}

HvStatus register_intercept_result(Vp& caller, const InterceptResultIn& in) {
    const Target target = find_child(caller, in.partition_id);
    if (!target) return target.status;
    if (target.node->state != PartitionState::Initialized) return HvStatus::InvalidPartitionState;
    if (in.type != static_cast<u32>(InterceptType::Cpuid)) return HvStatus::FeatureUnavailable;
    // Results for one VP would need a table each; everybody registers them for all.
    if (in.vp_index != kVpAny && target.node->partition->find_vp(in.vp_index) == nullptr)
        return HvStatus::InvalidVpIndex;
    auto& results = target.node->partition->policy().cpuid_results;
    const std::pair key{in.eax, in.subleaf_specific != 0 ? in.ecx : ParentPolicy::kAnySubleaf};
    if (results.size() >= ParentPolicy::kLimit && !results.contains(key)) return HvStatus::NoResources;
    ParentPolicy::CpuidResult& result = results[key];
    for (unsigned i = 0; i < 4; ++i) {
        result.value[i] = in.result[i].value;
        result.mask[i] = in.result[i].mask;
    }
    return HvStatus::Success;
}

HvStatus unregister_intercept_result(Vp& caller, const InterceptResultIn& in) {
    const Target target = find_child(caller, in.partition_id);
    if (!target) return target.status;
    if (target.node->state != PartitionState::Initialized) return HvStatus::InvalidPartitionState;
    if (in.type != static_cast<u32>(InterceptType::Cpuid)) return HvStatus::FeatureUnavailable;
    auto& results = target.node->partition->policy().cpuid_results;
    const bool had = results.erase({in.eax, in.subleaf_specific != 0 ? in.ecx : ParentPolicy::kAnySubleaf}) != 0;
    return had ? HvStatus::Success : HvStatus::NotFound;
}

}  // namespace vg::hv::hypercalls
