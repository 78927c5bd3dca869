// Ports and connections between partitions, and messages and events without them. TLFS 6.0b "Inter-Partition
// Communication"; K-160..K-166.
#include <cstring>

#include "hv/hypercalls/target.h"
#include "hv/spec/intercept.h"
#include "hv/synic.h"

namespace vg::hv::hypercalls {
namespace {

/// Ports of a partition, and connections to them: each is a few words of the host's.
constexpr std::size_t kMaxPorts = 4096;

/// The VP that a port's target names. S-43: the hypervisor chooses for ANY_VP, always the same one.
u32 port_vp(const PortTarget& target) { return target.vp_index == kVpAny ? 0 : target.vp_index; }

HvStatus check_target(PortType type, const PortTarget& target) {
    if (target.sint >= kSintCount) return HvStatus::InvalidParameter;
    if (type == PortType::Event && u32{target.base_flag} + target.flag_count > kEventFlagsPerSint)
        return HvStatus::InvalidParameter;
    return HvStatus::Success;
}

}  // namespace

HvStatus create_port(Vp& caller, const CreatePortIn& in) {
    const Target owner = find_for_root(caller, in.port_partition);
    if (!owner) return owner.status;
    if (owner.node->partition == nullptr) return HvStatus::InvalidPartitionState;
    const Target connector = find_for_root(caller, in.connection_partition);
    if (!connector) return connector.status;
    const auto type = static_cast<PortType>(in.type);
    switch (type) {
        case PortType::Message:
        case PortType::Event:
        case PortType::Doorbell:
            break;
        case PortType::Monitor:
            return HvStatus::FeatureUnavailable;
        default:
            return HvStatus::InvalidParameter;
    }
    if (const HvStatus status = check_target(type, in.target); status != HvStatus::Success) return status;
    const u32 id = in.port_id & kPortIdMask;
    if (id == 0 || owner.node->ports.contains(id)) return HvStatus::InvalidPortId;
    if (owner.node->ports.size() >= kMaxPorts) return HvStatus::NoResources;
    owner.node->ports[id] = {type, connector.node->id, in.target};
    return HvStatus::Success;
}

HvStatus delete_port(Vp& caller, const DeletePortIn& in) {
    const Target owner = find_for_root(caller, in.port_partition);
    if (!owner) return owner.status;
    const u32 id = in.port_id & kPortIdMask;
    if (owner.node->ports.erase(id) == 0) return HvStatus::InvalidPortId;
    for (const auto& node : caller.partition().hypervisor().nodes())
        if (node->partition != nullptr) node->partition->connections().disconnect_from(owner.node->id, id);
    return HvStatus::Success;
}

HvStatus connect_port(Vp& caller, const ConnectPortIn& in) {
    const Target connector = find_for_root(caller, in.connection_partition);
    if (!connector) return connector.status;
    if (connector.node->partition == nullptr) return HvStatus::InvalidPartitionState;
    const Target owner = find_for_root(caller, in.port_partition);
    if (!owner) return owner.status;
    const auto found = owner.node->ports.find(in.port_id & kPortIdMask);
    if (found == owner.node->ports.end()) return HvStatus::InvalidPortId;
    const OwnedPort& port = found->second;
    if (port.connection_partition != connector.node->id) return HvStatus::AccessDenied;
    if (static_cast<u32>(port.type) != in.type) return HvStatus::InvalidParameter;
    Connections& connections = connector.node->partition->connections();
    if (connections.count() >= kMaxPorts) return HvStatus::NoResources;
    const GuestPort target{owner.node->partition.get(), port_vp(port.target),   static_cast<u8>(port.target.sint),
                           port.target.base_flag,       port.target.flag_count, found->first};
    if (port.type == PortType::Doorbell) {
        const Doorbell doorbell{Gpa(in.doorbell.gpa), in.doorbell.value, in.doorbell.flags, target};
        if ((in.doorbell.flags & doorbell_flag::kSizeMask) > 4) return HvStatus::InvalidParameter;
        return connections.add_doorbell(in.connection_id, doorbell) ? HvStatus::Success : HvStatus::InvalidConnectionId;
    }
    const PortKind kind = port.type == PortType::Message ? PortKind::Message : PortKind::Event;
    return connections.connect(in.connection_id, {kind, target}) ? HvStatus::Success : HvStatus::InvalidConnectionId;
}

HvStatus disconnect_port(Vp& caller, const DisconnectPortIn& in) {
    const Target connector = find_for_root(caller, in.connection_partition);
    if (!connector) return connector.status;
    // Its connections went when the partition was finalized.
    if (connector.node->partition == nullptr) return HvStatus::InvalidPartitionState;
    Connections& connections = connector.node->partition->connections();
    if ((in.is_doorbell & 1) != 0)
        return connections.remove_doorbell(in.connection_id) ? HvStatus::Success : HvStatus::InvalidConnectionId;
    if (connections.find(in.connection_id) == nullptr) return HvStatus::InvalidConnectionId;
    connections.disconnect(in.connection_id);
    return HvStatus::Success;
}

HvStatus notify_ring_empty(Vp& caller, const NotifyRingEmptyIn& in) {
    if (in.sint >= kSintCount) return HvStatus::InvalidParameter;
    caller.synic().ring_empty(static_cast<u8>(in.sint));
    return HvStatus::Success;
}

HvStatus signal_event_direct(Vp& caller, const SignalEventDirectIn& in, u8& out) {
    const VpTarget target = find_target_vp(caller, find_child(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    bool fresh = false;
    const HvStatus status = target.vp->synic().signal(in.sint, in.flag, &fresh);
    out = fresh ? 1 : 0;
    return status;
}

HvStatus post_message_direct(Vp& caller, const PostMessageDirectIn& in) {
    const VpTarget target = find_target_vp(caller, find_child(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    MessageHeader header;
    std::memcpy(&header, in.message, sizeof header);
    if (in.sint >= kSintCount || header.type == kMessageTypeNone || header.payload_size > kMessagePayloadMax)
        return HvStatus::InvalidParameter;
    const std::span payload(in.message + kMessagePayloadOffset, header.payload_size);
    switch (target.vp->synic().try_deliver(static_cast<u8>(in.sint), header.type, header.origin, payload)) {
        case Synic::Attempt::Delivered:
            return HvStatus::Success;
        case Synic::Attempt::Busy:
            return HvStatus::InsufficientBuffers;
        case Synic::Attempt::Off:
            return HvStatus::InvalidSynicState;
    }
    return HvStatus::OperationFailed;
}

}  // namespace vg::hv::hypercalls
