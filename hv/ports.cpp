#include "hv/ports.h"

#include "base/bits.h"
#include "hv/partition.h"
#include "hv/spec/port.h"

namespace vg::hv {

const Doorbell* Connections::find_doorbell(Gpa gpa, u32 size, u64 value) const {
    for (const auto& [id, doorbell] : doorbells_) {
        if (doorbell.gpa != gpa) continue;
        const u64 wanted = doorbell.flags & doorbell_flag::kSizeMask;
        if (wanted != 0 && size != u32{1} << (wanted - 1)) continue;
        const u64 mask = low_mask(size * 8);
        if ((doorbell.flags & doorbell_flag::kAnyValue) == 0 && ((doorbell.value ^ value) & mask) != 0) continue;
        return &doorbell;
    }
    return nullptr;
}

void Connections::disconnect_from(u64 partition_id, std::optional<u32> port_id) {
    const auto goes = [&](const GuestPort& port) {
        return port.partition != nullptr && port.partition->id() == partition_id &&
               (!port_id || port.port_id == *port_id);
    };
    std::erase_if(map_, [&](const auto& each) {
        const GuestPort* port = std::get_if<GuestPort>(&each.second.target);
        return port != nullptr && goes(*port);
    });
    std::erase_if(doorbells_, [&](const auto& each) { return goes(each.second.port); });
}

}  // namespace vg::hv
