// One channel (or sub-channel) as its device sees it.
#pragma once

#include <span>

#include "base/types.h"
#include "hv/vmbus/ring.h"
#include "hv/vmbus/server.h"

namespace vg::hv::vmbus {

/// Packet type that no ring has: bytes in a buffer, to which the packet with the same transaction refers, as they are told
/// to tools (base/tap_kinds.def, vmbus_packet).
inline constexpr u16 kContentType = 0x8000;

struct ChannelStats {
    u64 packets_in = 0, bytes_in = 0;    ///< guest to host, payload bytes
    u64 packets_out = 0, bytes_out = 0;  ///< host to guest
    u64 signals_in = 0, signals_out = 0;
    u64 full = 0;  ///< packets that found no room at first
};

/// Lives from its offer until the guest released the relid. All calls on the machine's thread.
class Channel {
  public:
    enum class State : u8 {
        Offered,  ///< not open
        Open,
        Rescinded  ///< taken back; waits for RELID_RELEASED
    };
    /// Where the rings are and whom to signal.
    struct Rings {
        RingMemory incoming, outgoing;
        u32 gpadl = 0;
        u32 split = 0;  ///< pages of the guest-to-host ring: they come first
        u32 target_vp = kNoVp;
        u32 connection_id = 0;
        u16 event_flag = 0;
        /// Lays both rings over a GPADL at `split`. V-70: it must be the channel's and one page-aligned range; each
        /// direction has a control page and at least one data page.
        [[nodiscard]] bool map(Notifier& memory, const Gpadl& pages, u16 relid);
    };

    Channel(Server& server, ChannelDevice& device, Offer offer, u16 relid, u16 primary_relid)
        : server_(server), device_(device), offer_(std::move(offer)), relid_(relid), primary_relid_(primary_relid) {}

    // ---- for the device
    /// The next packet in private memory (valid until the next call). False: none, and all that was read is published;
    /// or the guest broke the ring.
    [[nodiscard]] bool read_packet(Packet& packet);
    /// Publishes what was read, for a device that stops before the ring is empty.
    void commit();
    /// False: no room; the device is signalled when there is. A packet for a closed or broken ring is dropped (true).
    /// @param extension  what lies between descriptor and payload; whole 8-byte units
    [[nodiscard]] bool write_packet(PacketType type, u16 flags, u64 transaction_id, std::span<const u8> payload,
                                    std::span<const u8> extension = {});
    [[nodiscard]] bool write_completion(u64 transaction_id, std::span<const u8> payload) {
        return write_packet(PacketType::Completion, 0, transaction_id, payload);
    }
    /// Whether the guest has read everything that was written to it; true for a ring that is of no use any more.
    [[nodiscard]] bool all_consumed() const { return !is_open() || broken_ || outgoing_.all_consumed(); }
    /// Whether anybody listens to packets.
    [[nodiscard]] bool is_watched() const;
    /// Tells tools what lies in a buffer for a packet of this channel: one that was read, or written.
    void tell_content(bool to_guest, u64 transaction_id, std::span<const u8> content);
    /// Offers sub-channels 1..count of this (primary) channel; returns how many there are.
    u16 offer_sub_channels(u16 count) { return server_.offer_sub_channels(*this, count); }

    [[nodiscard]] u16 relid() const { return relid_; }
    [[nodiscard]] u16 sub_channel() const { return offer_.sub_channel; }
    /// relid of the primary channel; 0 if this is one.
    [[nodiscard]] u16 primary_relid() const { return primary_relid_; }
    [[nodiscard]] const Offer& offer() const { return offer_; }
    [[nodiscard]] ChannelDevice& device() const { return device_; }
    [[nodiscard]] Server& server() const { return server_; }
    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] bool is_open() const { return state_ == State::Open; }
    /// The guest put nonsense into a ring: nothing is read or written until it reopens the channel.
    [[nodiscard]] bool broken() const { return broken_; }
    [[nodiscard]] const ChannelStats& stats() const { return stats_; }
    void fields(StateVisitor& v);

    // ---- for the server
    [[nodiscard]] bool open(Rings rings);
    void close(State next);
    void deliver_signal();
    void run_device();
    /// Of a signal to (or from) the guest.
    void count_signal(bool to_guest);
    void set_state(State state) { state_ = state; }
    void set_target_vp(u32 vp) { rings_.target_vp = vp; }
    [[nodiscard]] const Rings& rings() const { return rings_; }
    [[nodiscard]] bool announced() const { return announced_; }
    void set_announced(bool announced) { announced_ = announced; }

  private:
    void mark_broken(const char* which);
    void tell_packet(bool to_guest, const Packet& packet);
    [[nodiscard]] bool restore_rings();

    Server& server_;
    ChannelDevice& device_;
    Offer offer_;
    u16 relid_;
    u16 primary_relid_;
    State state_ = State::Offered;
    bool announced_ = false;  ///< the connected guest has been told
    bool broken_ = false;
    Rings rings_;
    IncomingRing incoming_;
    OutgoingRing outgoing_;
    ChannelStats stats_;
};

}  // namespace vg::hv::vmbus
