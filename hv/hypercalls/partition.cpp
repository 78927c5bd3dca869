// The life of partitions. TLFS 6.0b "Partition Management"; K-019, K-020, K-120..K-122.
#include "hv/hypercalls/target.h"

namespace vg::hv::hypercalls {

HvStatus create_partition(Vp& caller, const CreatePartitionIn& in, u64& out) {
    return caller.partition().hypervisor().create_child(caller.partition().node(), in, out);
}

HvStatus initialize_partition(Vp& caller, const PartitionIn& in) {
    const Target target = find_child(caller, in.partition_id);
    return target ? caller.partition().hypervisor().initialize(*target.node) : target.status;
}

HvStatus finalize_partition(Vp& caller, const PartitionIn& in) {
    const Target target = find_child(caller, in.partition_id);
    return target ? caller.partition().hypervisor().finalize(*target.node) : target.status;
}

HvStatus delete_partition(Vp& caller, const PartitionIn& in) {
    const Target target = find_child(caller, in.partition_id);
    return target ? caller.partition().hypervisor().remove(*target.node) : target.status;
}

HvStatus get_partition_id(Vp& caller, u64& out) {
    out = caller.partition().id();
    return HvStatus::Success;
}

HvStatus next_child(Vp& caller, const NextChildIn& in, u64& out) {
    const Target parent = find_partition(caller, in.parent_id);
    if (!parent) return parent.status;
    out = kPartitionInvalid;
    // Ids ascend in the order of creation, which is the order of nodes().
    for (const auto& node : caller.partition().hypervisor().nodes()) {
        if (node->parent != parent.node || node->id <= in.previous_id) continue;
        out = node->id;
        break;
    }
    return HvStatus::Success;
}

}  // namespace vg::hv::hypercalls
