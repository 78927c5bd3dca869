// Packets of GDB's remote serial protocol. GDB manual, "Remote Serial Protocol: Overview".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace vg::cli {

/// Finds packets in what came from a peer, whatever that is.
class GdbPackets {
  public:
    static constexpr std::size_t kMaxPacket = 64 * 1024;  ///< bytes between '$' and '#'; longer ones are refused

    struct Item {
        enum class Kind : u8 {
            Packet,     ///< `body`, unescaped
            Damaged,    ///< a packet with a wrong checksum, or too long: ask for it again
            Interrupt,  ///< the byte 0x03 outside a packet
            Ack,
            Again  ///< the peer wants our last packet again
        } kind;
        std::string body;
    };
    [[nodiscard]] std::vector<Item> feed(std::string_view bytes);

    /// A packet around this content, checksum and escapes included.
    [[nodiscard]] static std::string packet(std::string_view body);

  private:
    enum class State : u8 { Outside, Body, First, Second } state_ = State::Outside;
    Item finish(char digit);
    std::string body_;
    bool too_long_ = false;
    u8 sum_ = 0;
    char first_ = 0;
};

}  // namespace vg::cli
