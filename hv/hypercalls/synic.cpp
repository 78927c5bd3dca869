// HvCallPostMessage and HvCallSignalEvent. TLFS 6.0b "Inter-Partition Communication".
#include "hv/spec/synic.h"
#include "hv/hypercalls/bodies.h"
#include "hv/hypervisor.h"
#include "hv/partition.h"
#include "hv/vp.h"

namespace vg::hv::hypercalls {

HvStatus post_message(Vp& caller, const PostMessageIn& in) {
    if (in.message_type == kMessageTypeNone || (in.message_type & kMessageTypeHypervisor) != 0 ||
        in.payload_size > kMessagePayloadMax)
        return HvStatus::InvalidParameter;
    Partition& partition = caller.partition();
    const Port* port = partition.connections().find(in.connection_id);
    if (port == nullptr || port->kind != PortKind::Message) return HvStatus::InvalidConnectionId;
    // The tail of the payload is stale garbage of the caller's page (K-100).
    const PostedMessage message{in.message_type, std::span(in.payload).first(in.payload_size)};
    if (PortOwner* const* owner = std::get_if<PortOwner*>(&port->target))
        return (*owner)->on_message(partition, in.connection_id, message);
    const GuestPort& guest = std::get<GuestPort>(port->target);
    return guest.partition->post_message(guest.vp_index, guest.sint, message.type, message.payload, guest.port_id);
}

HvStatus signal_event(Vp& caller, const SignalEventIn& in) {
    if (in.reserved != 0) return HvStatus::InvalidHypercallInput;
    Partition& partition = caller.partition();
    const Port* port = partition.connections().find(in.connection_id);
    if (port == nullptr || port->kind != PortKind::Event) return HvStatus::InvalidConnectionId;
    if (PortOwner* const* owner = std::get_if<PortOwner*>(&port->target))
        return (*owner)->on_signal(partition, in.connection_id, in.flag_number);
    const GuestPort& guest = std::get<GuestPort>(port->target);
    partition.hypervisor().log().trace(
        Area::Hv, "{}: HvCallSignalEvent, connection {:#x} -> port {:#x} of partition {}", caller.processor().name(),
        in.connection_id, guest.port_id, guest.partition->id());
    if (in.flag_number >= guest.flag_count) return HvStatus::InvalidParameter;
    return guest.partition->signal_event(guest.vp_index, guest.sint,
                                         static_cast<u16>(guest.base_flag + in.flag_number));
}

}  // namespace vg::hv::hypercalls
