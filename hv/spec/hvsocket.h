// Hyper-V sockets: one VMBus channel per connection. Rows D-15, D-114, D-115, V-46, V-48.
#pragma once

#include <cstring>
#include <optional>

#include "base/types.h"
#include "hv/spec/guid.h"
#include "hv/spec/vmbus.h"

namespace vg::hv::hvsocket {

/// Services of Linux's address family: this with the port in the first field.
inline constexpr Guid kPortTemplate = guid("00000000-facb-11e6-bd58-64006a7986d3");

[[nodiscard]] inline Guid port_guid(u32 port) {
    Guid out = kPortTemplate;
    std::memcpy(out.data(), &port, sizeof port);
    return out;
}
/// Nothing for a service that is no port.
[[nodiscard]] inline std::optional<u32> port_of(const Guid& service) {
    u32 port;
    std::memcpy(&port, service.data(), sizeof port);
    return service == port_guid(port) ? std::optional(port) : std::nullopt;
}

inline constexpr u16 kOfferFlag = 0x2000;  ///< "TLNPI provider": a socket, not a device
inline constexpr std::size_t kFromHostOffset =
    4;  ///< of the user data: 1 if the host connects; before it the pipe's type, 0

/// What a guest puts into one packet behind the pipe header, at most. A packet without any says that no more will come.
inline constexpr u32 kMaxPacketData = 16 * 1024;

}  // namespace vg::hv::hvsocket
