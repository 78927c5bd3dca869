// Ports and connections: how messages and events leave a partition. TLFS "Inter-Partition Communication"; S-40..S-44.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <variant>

#include "base/types.h"
#include "hv/spec/status.h"

namespace vg::hv {

class Partition;
class Vp;

/// A message as posted: type and up to 240 bytes (K-100).
struct PostedMessage {
    u32 type = 0;
    std::span<const u8> payload;
};

/// The receiving end when it is not a guest's SynIC but the built-in parent. Called on the poster's thread inside the
/// hypercall; must not re-enter the poster's hypercall path (queue answers instead: Partition::post_message is fine).
class PortOwner {
  public:
    virtual ~PortOwner() = default;
    /// HvCallPostMessage on a connection to this port. Status as K-100 (Success, InsufficientBuffers...).
    virtual HvStatus on_message(Partition& from, u32 connection_id, const PostedMessage& message) = 0;
    /// HvCallSignalEvent.
    virtual HvStatus on_signal(Partition& from, u32 connection_id, u16 flag) = 0;
};

/// A port of a guest partition: message or event into a SINT of a VP.
struct GuestPort {
    Partition* partition = nullptr;
    u32 vp_index = 0;
    u8 sint = 0;
    u16 base_flag = 0, flag_count = 0;  ///< event ports
};

enum class PortKind : u8 { Message, Event };

struct Port {
    PortKind kind = PortKind::Message;
    std::variant<PortOwner*, GuestPort> target;
};

/// A partition's connection id space: id to port.
class Connections {
  public:
    /// False if the id is taken.
    bool connect(u32 connection_id, Port port) { return map_.emplace(connection_id, port).second; }
    void disconnect(u32 connection_id) { map_.erase(connection_id); }
    [[nodiscard]] const Port* find(u32 connection_id) const {
        const auto it = map_.find(connection_id);
        return it == map_.end() ? nullptr : &it->second;
    }
    [[nodiscard]] const std::map<u32, Port>& all() const { return map_; }

  private:
    std::map<u32, Port> map_;
};

}  // namespace vg::hv
