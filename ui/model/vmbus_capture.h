// What a machine's VMBus did: channels, messages and packets, decoded, requests matched with their completions. Fed
// with events, from a machine of this process or through the control protocol. Bounded, whatever a guest does.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "ui/model/event_record.h"
#include "ui/model/vmbus_decode.h"

namespace vg::model {

/// A channel: what its offer said, and what has passed since.
struct VmbusChannel {
    u64 partition = 0;
    u16 relid = 0;
    hv::Guid interface_type{}, instance{};
    Service service = Service::Unknown;
    std::string name;   ///< the parent's name for it, if it is known
    std::string state;  ///< "offered", "open", "closed", "rescinded"; "": packets came and nothing is known
    u16 sub_channel = 0;
    std::optional<u8> monitor;
    u64 packets[2] = {}, bytes[2] = {}, signals[2] = {};  ///< [to_guest]
    u64 requests = 0, completions = 0;                    ///< packets that asked for one; answers to such
    u64 malformed = 0;
    VTime latency_sum = 0, latency_min = 0, latency_max = 0;  ///< ns, of `completions`
};

/// One thing in the capture.
struct VmbusEntry {
    enum class Kind : u8 { Message, Packet, Signal };
    Kind kind = Kind::Packet;
    u64 number = 0;  ///< from 1, without gaps
    EventRecord event;
    bool to_guest = false;
    u16 relid = 0;  ///< 0: a message of no channel
    Service service = Service::Unknown;
    Decoded decoded;
    // of packets
    u64 transaction = 0;
    u16 packet_type = 0;
    u32 length = 0;  ///< bytes in the ring, without trailer
    bool wants_completion = false;
    u64 peer = 0;            ///< number of the request (of a completion) or of its completion; 0: none yet
    VTime latency = 0;       ///< ns from request to this completion
    std::string peer_title;  ///< of the request
};

class VmbusCapture {
  public:
    /// Kinds of events that it wants.
    static constexpr TapMask kKinds =
        tap_bit(TapKind::VmbusMessage) | tap_bit(TapKind::VmbusPacket) | tap_bit(TapKind::VmbusSignal);
    static constexpr std::size_t kMaxChannels = 8192, kMaxOutstanding = 65536;

    /// @param capacity  entries kept, at least 1; older ones go, and with them nothing but themselves
    explicit VmbusCapture(std::size_t capacity = 100'000) : capacity_(capacity) {}

    /// A channel that was there before the capture began. Replaces what is known of it, but not its counts.
    void know(const VmbusChannel& channel);
    /// Takes an event. Null: it is of another kind. The entry stays valid until the next call.
    const VmbusEntry* add(EventRecord event);

    [[nodiscard]] const std::deque<VmbusEntry>& entries() const { return entries_; }
    /// Null: gone, or not there yet.
    [[nodiscard]] const VmbusEntry* find(u64 number) const;
    /// By partition and relid.
    [[nodiscard]] const std::map<std::pair<u64, u16>, VmbusChannel>& channels() const { return channels_; }
    [[nodiscard]] Service service(u64 partition, u16 relid) const;
    /// Requests that have no completion yet.
    [[nodiscard]] std::size_t outstanding() const { return outstanding_.size(); }

  private:
    struct Request {
        u64 number;
        VTime time;
        std::string title;
    };
    /// Partition, relid, sent to the guest, transaction, number: the oldest of equal ones is answered first.
    using Key = std::tuple<u64, u16, bool, u64, u64>;

    void message(VmbusEntry& entry);
    void packet(VmbusEntry& entry);
    void match(VmbusEntry& entry, VmbusChannel& channel);
    void forget(u64 partition, u16 relid);
    void forget_all(u64 partition);
    VmbusChannel* channel(u64 partition, u16 relid);

    std::size_t capacity_;
    u64 next_ = 1;
    std::deque<VmbusEntry> entries_;
    std::map<std::pair<u64, u16>, VmbusChannel> channels_;
    std::map<Key, Request> outstanding_;
};

/// One line of `vmbus follow`, without time: "guest -> host  channel 1 storage  READ(10) LBA 0 blocks 8, 4096 bytes".
[[nodiscard]] std::string entry_line(const VmbusEntry& entry);
/// The same as an object, everything in it.
[[nodiscard]] Json entry_json(const VmbusEntry& entry);
[[nodiscard]] std::string channel_line(const VmbusChannel& channel);
[[nodiscard]] Json channel_json(const VmbusChannel& channel);

}  // namespace vg::model
