// Ports and connections: how messages and events leave a partition. TLFS "Inter-Partition Communication"; S-40..S-44.
#pragma once

#include <functional>
#include <map>
#include <optional>
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
    u32 port_id = 0;                    ///< origin of its messages (S-01)
};

enum class PortKind : u8 { Message, Event };

struct Port {
    PortKind kind = PortKind::Message;
    std::variant<PortOwner*, GuestPort> target;
};

/// A write to a GPA that becomes an entry of a port owner's event ring instead of an intercept (K-161).
struct Doorbell {
    Gpa gpa;
    u64 value = 0, flags = 0;
    GuestPort port;
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

    /// Doorbells have ids of their own (K-163). False if the id is taken.
    bool add_doorbell(u32 connection_id, const Doorbell& doorbell) {
        return doorbells_.emplace(connection_id, doorbell).second;
    }
    bool remove_doorbell(u32 connection_id) { return doorbells_.erase(connection_id) != 0; }
    /// The doorbell that a write of `size` bytes triggers, or null.
    [[nodiscard]] const Doorbell* find_doorbell(Gpa gpa, u32 size, u64 value) const;
    [[nodiscard]] const std::map<u32, Doorbell>& doorbells() const { return doorbells_; }
    /// Connections of both kinds.
    [[nodiscard]] std::size_t count() const { return map_.size() + doorbells_.size(); }

    /// A port goes away (S-44); `port_id` absent: every port of the partition.
    void disconnect_from(u64 partition_id, std::optional<u32> port_id = {});

  private:
    std::map<u32, Port> map_;
    std::map<u32, Doorbell> doorbells_;
};

}  // namespace vg::hv
