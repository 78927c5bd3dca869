#include "hv/parent/test_device.h"

#include "base/bits.h"
#include "base/state.h"
#include "hv/spec/synic.h"
#include "hv/synic.h"
#include "hv/vp.h"

namespace vg::hv::parent {

TestDevice::TestDevice(Partition& partition) : partition_(partition), routes_(partition.config().max_vps) {}

TestDevice::~TestDevice() { reset(); }

void TestDevice::reset() {
    for (const auto& [id, connection] : connections_) partition_.connections().disconnect(id);
    connections_.clear();
    routes_.assign(routes_.size(), 0);
}

void TestDevice::fields(StateVisitor& v) {
    std::vector<u32> rows;  // id, kind, VP, SINT
    for (const auto& [id, c] : connections_)
        rows.push_back(id | u32{c.kind == PortKind::Event} << 8 | u32{c.vp} << 16 | u32{c.sint} << 24);
    v("routes", routes_, routes_.size());
    v("connections", rows, 256);
    if (!v.loading()) return;
    std::vector<u16> routes = routes_;
    routes.resize(partition_.config().max_vps);
    reset();
    routes_ = std::move(routes);
    for (const u32 row : rows)
        create(static_cast<u8>(row), {bit(row, 8) ? PortKind::Event : PortKind::Message, static_cast<u8>(row >> 16),
                                      static_cast<u8>(row >> 24)});
}

devices::IoStatus TestDevice::port_read(u16, unsigned, u32& value) {
    value = 0;
    return devices::IoStatus::Ok;
}

devices::IoStatus TestDevice::port_write(u16 offset, unsigned size, u32 value) {
    if (offset != 0 || size != 4) return devices::IoStatus::BadSize;
    const auto sint = static_cast<u8>(value), vp = static_cast<u8>(value >> 8), id = static_cast<u8>(value >> 24);
    Vp* const target = partition_.find_vp(vp);
    const bool there = target != nullptr && vp < routes_.size() && sint < kSintCount;
    switch (static_cast<Command>(value >> 16 & 0xff)) {
        case Command::CreateSintRoute:
            if (there) routes_[vp] = static_cast<u16>(routes_[vp] | 1u << sint);
            break;
        case Command::DestroySintRoute:
            if (there) routes_[vp] = static_cast<u16>(routes_[vp] & ~(1u << sint));
            break;
        case Command::SetSint:
            if (there && bit(routes_[vp], sint)) target->synic().interrupt(sint);
            break;
        case Command::CreateMessageConnection:
            create(id, {PortKind::Message, vp, sint});
            break;
        case Command::DestroyMessageConnection:
            destroy(id, PortKind::Message);
            break;
        case Command::CreateEventConnection:
            create(id, {PortKind::Event, vp, sint});
            break;
        case Command::DestroyEventConnection:
            destroy(id, PortKind::Event);
            break;
    }
    return devices::IoStatus::Ok;
}

void TestDevice::create(u8 id, const Connection& connection) {
    if (connection.sint >= kSintCount || partition_.find_vp(connection.vp) == nullptr) return;
    GuestPort port{&partition_, connection.vp, connection.sint, 0, 0, id};
    if (connection.kind == PortKind::Event) {
        port.base_flag = id;
        port.flag_count = 1;
    }
    if (partition_.connections().connect(id, {connection.kind, port})) connections_.emplace(id, connection);
}

void TestDevice::destroy(u8 id, PortKind kind) {
    const auto found = connections_.find(id);
    if (found == connections_.end() || found->second.kind != kind) return;
    partition_.connections().disconnect(id);
    connections_.erase(found);
}

}  // namespace vg::hv::parent
