// What users write about networks: ports of the host that lead into a guest, and hardware addresses.
#pragma once

#include <string_view>

#include "base/result.h"
#include "devices/net/frame.h"

namespace vg::devices {

/// A port of the host that leads to one of a guest behind address translation.
struct HostForward {
    bool udp = false;
    u32 host_address = 0, guest_address = 0;  ///< IPv4, first byte highest; a guest address of 0: its DHCP address
    u16 host_port = 0, guest_port = 0;
};

/// "tcp:127.0.0.1:2222-10.0.2.15:22" or "tcp:2222-22". Left out: 127.0.0.1 on the host, the DHCP address in the guest.
/// Error (Usage): what is wrong, and an example.
[[nodiscard]] Result<HostForward> parse_host_forward(std::string_view text);

/// "52:54:00:12:34:56". Error (Usage): not six bytes, a group address, or all zero.
[[nodiscard]] Result<MacAddress> parse_mac_address(std::string_view text);

}  // namespace vg::devices
