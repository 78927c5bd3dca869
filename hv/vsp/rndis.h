// The Remote NDIS device of a network provider: control messages, objects, filters, receive-side scaling. No I/O, no
// heap. Rows D-65..D-74.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>

#include "base/types.h"
#include "hv/spec/rndis.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv::vsp {

/// What was sent and received, for the guest and for people.
struct NetworkCounters {
    u64 frames_sent = 0, bytes_sent = 0;  ///< by the guest; a large send is one frame
    u64 frames_received = 0, bytes_received = 0;
    u64 send_errors = 0;  ///< messages that made no sense
    u64 filtered = 0;     ///< arrived, but not for this guest
    u64 no_buffer = 0;    ///< arrived, and no room in the receive buffer
    u64 oversize = 0;     ///< arrived, longer than the guest can take
};

class Rndis {
  public:
    enum class State : u8 { Uninitialised, Initialised };

    static constexpr u32 kMinMtu = 576, kDefaultMtu = 1500, kMaxMtu = 9000;
    static constexpr u32 kMaxPacketsPerMessage = 8;  ///< data messages in one packet (D-59)
    static constexpr u32 kAlignmentShift = 3;
    static constexpr u32 kMaxTransfer = 0x4000;
    static constexpr u32 kMaxLargeSend = 62780;  ///< payload of a large send, as offered
    static constexpr u32 kMaxMulticast = 32;
    static constexpr u32 kMaxReply = 1024;
    static constexpr u32 kSpeed_100bps = 100'000'000;  ///< 10 Gbit/s

    /// @param name    for people: "linux.net0"; outlives this
    /// @param queues  receive queues, at least one
    Rndis(std::array<u8, 6> address, std::string_view name, u32 queues)
        : permanent_(address), name_(name), queues_(queues) {
        reset();
    }

    /// As without a guest: everything that one sets is forgotten. Counters go on.
    void reset();
    /// What NVSP negotiated. @param mtu  clamped to kMinMtu..kMaxMtu
    void set_mtu(u32 mtu);
    /// True if it changed and the guest should hear of it.
    bool set_link(bool up);

    /// Takes one control message and writes its answer into `reply` (kMaxReply bytes at least). Returns its length; 0:
    /// there is none.
    u32 control(std::span<const u8> message, std::span<u8> reply);
    /// Makes the message that tells the guest about its link.
    [[nodiscard]] u32 indicate_link(std::span<u8> message) const;

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] u32 mtu() const { return mtu_; }
    [[nodiscard]] const std::array<u8, 6>& address() const { return address_; }
    [[nodiscard]] u32 packet_filter() const { return filter_; }
    /// Whether a frame for this destination is wanted.
    [[nodiscard]] bool accepts(std::span<const u8> destination) const;
    /// Whether the guest wants to know about this kind of received checksum.
    [[nodiscard]] bool reports_ip() const { return receive_ip_; }
    [[nodiscard]] bool reports_transport(bool ipv6, bool udp) const {
        return ipv6 ? (udp ? receive_udp6_ : receive_tcp6_) : (udp ? receive_udp4_ : receive_tcp4_);
    }
    /// Where receive-side scaling puts a flow.
    struct Placement {
        u32 queue = 0;
        std::optional<u32> hash;  ///< over addresses and ports
    };
    /// @param packet  network header and what follows
    [[nodiscard]] Placement place(u16 ether_type, std::span<const u8> packet) const;

    NetworkCounters counters;
    void fields(StateVisitor& v);

  private:
    struct Answer;
    u32 query(std::span<const u8> body, std::span<u8> reply);
    [[nodiscard]] std::optional<u64> number(u32 oid, u32& bytes) const;
    u32 query_object(u32 oid, std::span<const u8> input, Answer& answer) const;
    u32 offload_capabilities(std::span<const u8> input, Answer& answer) const;
    u32 rss_capabilities(Answer& answer) const;
    u32 set_object(u32 oid, std::span<const u8> input);
    u32 set_offload(std::span<const u8> input);
    u32 set_rss(std::span<const u8> input);
    u32 set_parameter(std::span<const u8> input);
    u32 set_multicast(std::span<const u8> input);

    const std::array<u8, 6> permanent_;
    std::string_view name_;
    u32 queues_;
    State state_ = State::Uninitialised;
    bool link_ = true;
    std::array<u8, 6> address_{};
    u32 mtu_ = kDefaultMtu;
    u32 filter_ = 0, lookahead_ = 0;
    std::array<std::array<u8, 6>, kMaxMulticast> multicast_{};
    u32 multicast_count_ = 0;
    bool receive_ip_ = false, receive_tcp4_ = false, receive_udp4_ = false, receive_tcp6_ = false,
         receive_udp6_ = false;
    bool rss_ = false;
    u32 rss_hash_ = 0, rss_entries_ = 0;
    std::array<u8, rndis::kRssTableEntries> rss_table_{};
    std::array<u8, rndis::kRssKeyBytes> rss_key_{};
};

}  // namespace vg::hv::vsp
