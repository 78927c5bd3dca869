// Logical processors, system properties, power, statistics. TLFS 6.0b "Logical Processors"; K-150..K-155, K-177, K-178.
#include "base/log.h"
#include "hv/hypercalls/target.h"

namespace vg::hv::hypercalls {
namespace {

bool is_root(Vp& caller) { return caller.partition().hypervisor().root() == &caller.partition().node(); }

}  // namespace

HvStatus lp_run_time(Vp& caller, const LpRunTimeIn& in, LpRunTimeOut& out) {
    Hypervisor& hypervisor = caller.partition().hypervisor();
    if (!is_root(caller)) return HvStatus::AccessDenied;
    const auto& lps = hypervisor.logical_processors();
    // anything but this for a processor that was not added ends the boot of a root.
    if (in.lp_index >= lps.size() || !lps[in.lp_index].added) return HvStatus::InvalidLpIndex;
    constexpr u64 kNsPer100ns = 100;
    out.global_time = hypervisor.events().now() / kNsPer100ns;
    Vp* vp = caller.partition().find_vp(in.lp_index);
    out.local_run_time = vp == nullptr ? 0 : vp->processor().run_time_ns() / kNsPer100ns;
    return HvStatus::Success;
}

HvStatus add_lp(Vp& caller, const AddLpIn& in, AddLpOut&) {
    if (!is_root(caller)) return HvStatus::AccessDenied;
    auto& lps = caller.partition().hypervisor().logical_processors();
    if (in.lp_index >= lps.size() || lps[in.lp_index].apic_id != in.apic_id) return HvStatus::InvalidLpIndex;
    if (lps[in.lp_index].added) return HvStatus::ObjectInUse;
    lps[in.lp_index].added = true;
    return HvStatus::Success;
}

HvStatus notify_partition_event(Vp&, const NotifyPartitionEventIn&) { return HvStatus::Success; }

HvStatus get_system_property(Vp& caller, const GetSystemPropertyIn& in, u64& out) {
    if (!is_root(caller)) return HvStatus::AccessDenied;
    switch (static_cast<SystemProperty>(in.id)) {
        case SystemProperty::SchedulerType:
            out =
                static_cast<u64>(caller.partition().hypervisor().root_config().root_scheduler ? SchedulerType::Root
                                                                                              : SchedulerType::CoreSmt);
            return HvStatus::Success;
        case SystemProperty::DynamicFeatures:
            out = 0;
            return HvStatus::Success;
        case SystemProperty::SleepState:
        case SystemProperty::CrashDumpArea:
            break;  // there is none
    }
    return HvStatus::UnknownProperty;
}

HvStatus set_system_property(Vp& caller, const SetSystemPropertyIn& in) {
    if (!is_root(caller)) return HvStatus::AccessDenied;
    if (static_cast<SystemProperty>(in.id) != SystemProperty::SleepState) return HvStatus::UnknownProperty;
    return in.sleep_state == kSleepStateS5 ? HvStatus::Success : HvStatus::PropertyValueOutOfRange;
}

HvStatus enter_sleep_state(Vp& caller, const EnterSleepStateIn& in) {
    if (!is_root(caller)) return HvStatus::AccessDenied;
    if (in.sleep_state != kSleepStateS5) return HvStatus::InvalidParameter;
    if (const auto& power_off = caller.partition().hypervisor().root_config().events.power_off) power_off();
    return HvStatus::Success;
}

HvStatus map_stats_page(Vp& caller, const StatsPageIn& in, u64& pfn) {
    if (!is_root(caller)) return HvStatus::AccessDenied;
    Hypervisor& hypervisor = caller.partition().hypervisor();
    // Only counters of the object itself are kept; a root takes this status as "not supported" (K-177).
    if (in.identity.area != static_cast<u8>(StatsArea::Self)) return HvStatus::InvalidParameter;
    Hypervisor::StatsKey key{in.type, 0, 0};
    switch (static_cast<StatsType>(in.type)) {
        case StatsType::Hypervisor:
            break;
        case StatsType::LogicalProcessor:
            key.id = static_cast<u32>(in.identity.id);
            if (key.id >= hypervisor.logical_processors().size()) return HvStatus::InvalidLpIndex;
            break;
        case StatsType::Partition:
        case StatsType::Vp: {
            const Target target = find_partition(caller, in.identity.id);
            if (!target) return target.status;
            key.id = target.node->id;
            if (static_cast<StatsType>(in.type) == StatsType::Partition) break;
            const VpTarget vp = find_target_vp(caller, target, in.identity.vp_index);
            if (!vp) return vp.status;
            key.vp_index = vp.vp->index();
            break;
        }
        default:
            return HvStatus::InvalidParameter;
    }
    Spa page;
    const HvStatus status = hypervisor.map_stats(key, page);
    pfn = page.page();
    return status;
}

HvStatus unmap_stats_page(Vp& caller, const StatsPageIn& in) {
    if (!is_root(caller)) return HvStatus::AccessDenied;
    Hypervisor::StatsKey key{in.type, 0, 0};
    const auto type = static_cast<StatsType>(in.type);
    if (type == StatsType::LogicalProcessor) key.id = static_cast<u32>(in.identity.id);
    if (type == StatsType::Partition || type == StatsType::Vp)
        key.id = in.identity.id == kPartitionSelf ? caller.partition().id() : in.identity.id;
    if (type == StatsType::Vp) key.vp_index = in.identity.vp_index;
    return caller.partition().hypervisor().unmap_stats(key);
}

}  // namespace vg::hv::hypercalls
