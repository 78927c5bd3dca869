// Whom a call of the parent's interface is about: the partition and the VP that its parameters name.
#pragma once

#include "hv/hypercalls/bodies.h"
#include "hv/hypervisor.h"
#include "hv/vp.h"

namespace vg::hv::hypercalls {

/// A partition that the caller may manage.
struct Target {
    HvStatus status = HvStatus::Success;  ///< when it is not Success, `node` is null
    PartitionNode* node = nullptr;
    explicit operator bool() const { return node != nullptr; }
};

/// The caller's own partition, or a child of it. InvalidPartitionId: there is no such partition; AccessDenied: it is
/// somebody else's.
inline Target find_partition(Vp& caller, u64 partition_id) {
    PartitionNode& self = caller.partition().node();
    if (partition_id == kPartitionSelf || partition_id == self.id) return {HvStatus::Success, &self};
    PartitionNode* node = caller.partition().hypervisor().find_node(partition_id);
    if (node == nullptr) return {HvStatus::InvalidPartitionId, nullptr};
    if (node->parent != &self) return {HvStatus::AccessDenied, nullptr};
    return {HvStatus::Success, node};
}

/// The same, but only what the caller's partition is the parent of.
inline Target find_child(Vp& caller, u64 partition_id) {
    Target target = find_partition(caller, partition_id);
    if (target && target.node == &caller.partition().node()) return {HvStatus::AccessDenied, nullptr};
    return target;
}

/// The same as find_partition, for a caller that is the root itself: machine-wide calls, and memory.
inline Target find_for_root(Vp& caller, u64 partition_id) {
    if (caller.partition().hypervisor().root() != &caller.partition().node()) return {HvStatus::AccessDenied, nullptr};
    return find_partition(caller, partition_id);
}

struct VpTarget {
    HvStatus status = HvStatus::Success;
    Vp* vp = nullptr;
    explicit operator bool() const { return vp != nullptr; }
};

/// A VP of such a partition. kVpSelf is the caller, if the partition is its own. InvalidPartitionState before Initialize
/// and after Finalize.
inline VpTarget find_target_vp(Vp& caller, const Target& target, u32 vp_index) {
    if (!target) return {target.status, nullptr};
    if (target.node->partition == nullptr) return {HvStatus::InvalidPartitionState, nullptr};
    if (vp_index == kVpSelf) {
        if (target.node != &caller.partition().node()) return {HvStatus::InvalidVpIndex, nullptr};
        return {HvStatus::Success, &caller};
    }
    Vp* vp = target.node->partition->find_vp(vp_index);
    return {vp == nullptr ? HvStatus::InvalidVpIndex : HvStatus::Success, vp};
}

}  // namespace vg::hv::hypercalls
