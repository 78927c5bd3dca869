#include "roms/parent/ports.h"

#include <utility>

#include "hv/spec/port.h"

namespace vg::parent {

namespace {
constexpr u32 following(u32 id) { return id == hv::kPortIdMask ? 1 : id + 1; }
}  // namespace

HvStatus Ports::add(Port port, u32 flag_count) {
    // Ports are at most 2 for each child and one for each flag: an id is free long before the search comes round.
    while (ports_.contains(next_id_)) next_id_ = following(next_id_);
    const u32 id = std::exchange(next_id_, following(next_id_));
    const auto type = port.event ? hv::PortType::Event : hv::PortType::Message;
    hv::CreatePortIn create{};
    create.port_partition = self_;
    create.port_id = id;
    create.connection_partition = port.child;
    create.type = static_cast<u32>(type);
    create.target = {port.event ? kEventSint : kMessageSint, 0, static_cast<u16>(port.flag),
                     static_cast<u16>(flag_count), 0};
    if (const HvStatus status = call(Call::CreatePort, create); status != HvStatus::Success) return status;
    hv::ConnectPortIn connect{};
    connect.connection_partition = port.child;
    connect.connection_id = port.connection_id;
    connect.port_partition = self_;
    connect.port_id = id;
    connect.type = static_cast<u32>(type);
    if (const HvStatus status = call(Call::ConnectPort, connect); status != HvStatus::Success) {
        (void)call(Call::DeletePort, hv::DeletePortIn{self_, id, 0});
        return status;
    }
    if (port.event) port_of_flag_[port.flag] = id;
    ports_[id] = port;
    return HvStatus::Success;
}

HvStatus Ports::connect_messages(u64 child, u32 connection_id, PortOwner& owner) {
    return add({&owner, child, connection_id, false, 0}, 0);
}

HvStatus Ports::connect_event(u64 child, u32 connection_id, PortOwner& owner) {
    for (u32 flag = 0; flag < port_of_flag_.size(); ++flag) {
        if (port_of_flag_[flag] == 0) return add({&owner, child, connection_id, true, flag}, 1);
    }
    return HvStatus::InsufficientBuffers;
}

void Ports::erase(std::map<u32, Port>::iterator it) {
    // The partition may have been finalized: then its connections are gone, and only the port is left.
    (void)call(Call::DeletePort, hv::DeletePortIn{self_, it->first, 0});
    if (it->second.event) {
        port_of_flag_[it->second.flag] = 0;
        synic_.clear_event(kEventSint, it->second.flag);
    }
    ports_.erase(it);
}

void Ports::disconnect_event(u64 child, u32 connection_id) {
    for (auto it = ports_.begin(); it != ports_.end(); ++it) {
        if (!it->second.event || it->second.child != child || it->second.connection_id != connection_id) continue;
        return erase(it);
    }
}

void Ports::remove(const PortOwner& owner) {
    for (auto it = ports_.begin(); it != ports_.end();) {
        const auto next = std::next(it);
        if (it->second.owner == &owner) erase(it);
        it = next;
    }
}

bool Ports::deliver_message(u64 origin, u32 type, std::span<const u8> payload) {
    const auto it = origin <= hv::kPortIdMask ? ports_.find(static_cast<u32>(origin)) : ports_.end();
    if (it == ports_.end() || it->second.event) return false;
    it->second.owner->on_message(type, payload);
    return true;
}

bool Ports::deliver_event(u32 flag) {
    const auto it = flag < port_of_flag_.size() ? ports_.find(port_of_flag_[flag]) : ports_.end();
    if (it == ports_.end()) return false;
    it->second.owner->on_signal(it->second.connection_id);
    return true;
}

}  // namespace vg::parent
