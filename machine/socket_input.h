// What the host does with a child's sockets, as it enters the machine.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/types.h"
#include "hv/parent/socket_hub.h"

namespace vg::machine {

struct SocketInput {
    enum class Kind : u8 {
        Connect,  ///< from the host's port `number` to the guest's `id`
        Accept,   ///< of connection `id`, and so on
        Refuse,
        Data,
        Taken,  ///< `number` bytes
        End,
        Close
    };
    Kind kind = Kind::Connect;
    u32 id = 0;
    u32 number = 0;
    std::vector<u8> bytes{};  ///< Data
};

/// Does it. False: the connection is not in a state for that, and nothing has changed.
bool apply(const SocketInput& input, hv::parent::SocketHub& hub);

[[nodiscard]] std::vector<u8> encode_socket_input(const SocketInput& input);
/// Nothing for bytes that encode_socket_input did not make.
[[nodiscard]] std::optional<SocketInput> decode_socket_input(std::span<const u8> bytes);

}  // namespace vg::machine
