// Protocol core of the network VSP: one adapter. Bytes in, effects out; no I/O, no heap. Rows D-50..D-74.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>

#include "base/types.h"
#include "hv/spec/netvsc.h"
#include "hv/vsp/guest_data.h"
#include "hv/vsp/rndis.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv::vsp {

/// A frame that the guest sends, and what is left to do for it.
struct OutgoingFrame {
    std::span<u8> bytes;  ///< whole, with its VLAN tag; may be changed
    bool ip_checksum = false, tcp_checksum = false, udp_checksum = false;
    u32 segment_bytes = 0;  ///< TCP payload of each frame that this is to become; 0: it is one
};

/// What is known about the checksums of a frame that arrives; nothing: not looked at, or there are none.
struct IncomingChecksums {
    std::optional<bool> ip, transport;
    bool udp = false;
};

/// What the core asks of the world around it.
class NetworkHost {
  public:
    virtual ~NetworkHost() = default;
    /// Sends a completion for a transaction on the channel it came from.
    virtual void complete(u32 channel, u64 transaction_id, std::span<const u8> payload) = 0;
    /// Sends a message that wants no completion.
    virtual void send(u32 channel, std::span<const u8> payload) = 0;
    /// Sends a transfer-page packet that wants a completion. Its data is in the receive buffer.
    virtual void indicate(u32 channel, u64 transaction_id, const netvsc::TransferRange& range,
                          std::span<const u8> payload) = 0;
    /// Bytes of a GPADL of the primary channel with one range; 0: there is no such.
    [[nodiscard]] virtual u64 buffer_size(u32 gpadl) = 0;
    /// False: outside of it, gone, or not memory.
    [[nodiscard]] virtual bool read_buffer(u32 gpadl, u64 offset, std::span<u8> out) = 0;
    [[nodiscard]] virtual bool write_buffer(u32 gpadl, u64 offset, std::span<const u8> data) = 0;
    /// RNDIS messages as they lie in buffers, for people: of a packet that was taken (its channel, its transaction), or
    /// that was indicated. Of a received frame the headers alone.
    virtual void show(u32 channel, bool to_guest, u64 transaction_id, std::span<const u8> messages) = 0;
    /// The guest sends a frame; its bytes are gone when this returns.
    virtual void transmit(const OutgoingFrame& frame) = 0;
    /// A message of `bytes` has been sent; call Network::finish(slot) when it should end.
    virtual void schedule(u32 slot, u32 bytes) = 0;
    /// The guest asks for sub-channels 1..count; called after the answer to it was sent.
    virtual void offer_sub_channels(u16 count) = 0;
};

/// A packet as it came from a ring, in private memory.
struct NetworkPacket {
    u32 channel = 0;
    bool sub_channel = false;
    u64 transaction_id = 0;
    bool completion_requested = true;
    std::span<const u8> payload;
    GuestData* data = nullptr;    ///< no data: nullptr
    bool data_malformed = false;  ///< the description of the data made no sense
};

class Network {
  public:
    enum class State : u8 { AwaitInit, Negotiated };

    static constexpr u32 kMaxInFlight = 512;     ///< messages of the guest that are being sent
    static constexpr u32 kMaxQueues = 16;        ///< the primary channel and its sub-channels
    static constexpr u32 kMaxSections = 4096;    ///< of the receive buffer that are used
    static constexpr u32 kControlSections = 16;  ///< of these, kept free for what is not a frame
    static constexpr u32 kMinSections = 64;
    static constexpr u32 kMinReceiveSection = 1728;
    static constexpr u32 kSendSection = 6144;
    static constexpr u32 kMaxMessageBytes = 128 * 1024;  ///< of one packet, wherever its parts are
    static constexpr u32 kMaxControlBytes = 4096;

    /// @param name              for people; outlives this
    /// @param max_sub_channels  at most kMaxQueues - 1; 0: a single channel
    Network(NetworkHost& host, std::array<u8, 6> address, std::string_view name, u16 max_sub_channels);
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

    /// True if another packet can be taken.
    [[nodiscard]] bool can_accept() const { return in_flight_ < kMaxInFlight; }
    /// Takes one packet that is not a completion; asserts can_accept().
    void on_packet(const NetworkPacket& packet);
    /// The guest is done with what indicate() gave it.
    void on_completion(u32 channel, u64 transaction_id);
    /// Ends a scheduled message: its completion is sent.
    void finish(u32 slot);
    [[nodiscard]] bool is_scheduled(u32 slot) const { return requests_[slot].used; }

    /// A channel is open; `index` 0 is the primary one, with which the guest starts over.
    void channel_opened(u32 channel, u32 index);
    /// Forgets what is in flight on a channel; the primary one takes everything along.
    void channel_closed(u32 channel);
    /// The guest takes back memory: if it is a buffer, it is used no more.
    void buffer_gone(u32 gpadl);

    /// A frame arrives, 14 bytes or more. What the guest does not want or has no room for is lost.
    void receive(std::span<const u8> frame, const IncomingChecksums& checksums);
    /// Whether the guest listens at all.
    [[nodiscard]] bool listens() const;
    /// Frames that there is room for.
    [[nodiscard]] u32 free_sections() const;
    /// Plugs the cable or pulls it. A guest that is there hears of it.
    void set_link(bool up);

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] u32 version() const { return version_; }
    [[nodiscard]] u32 in_flight() const { return in_flight_; }
    [[nodiscard]] u32 sections_used() const { return sections_used_; }
    [[nodiscard]] u64 invalid_packets() const { return invalid_packets_; }
    [[nodiscard]] const Rndis& rndis() const { return rndis_; }
    void fields(StateVisitor& v);

  private:
    struct Request {
        bool used = false;
        bool silent = false;  ///< the guest wants no completion
        u32 channel = 0;
        u64 transaction_id = 0;
        u32 status = 0;
    };
    struct Buffer {
        bool valid = false;
        u32 gpadl = 0;
        u32 section_bytes = 0, sections = 0;
    };
    struct Section {
        bool used = false;
        u32 channel = 0, sequence = 0;
    };
    struct Queue {
        bool open = false;
        u32 channel = 0;
        u64 frames = 0;  ///< received
    };

    void answer(const NetworkPacket& from, const netvsc::Message& reply);
    void initialise(const NetworkPacket& from, const netvsc::Message& message);
    void take_receive_buffer(const NetworkPacket& from, const netvsc::Message& message);
    void take_send_buffer(const NetworkPacket& from, const netvsc::Message& message);
    void revoke(const NetworkPacket& from, Buffer& buffer);
    void make_sub_channels(const NetworkPacket& from, const netvsc::Message& message);
    void take_rndis(const NetworkPacket& from, const netvsc::Message& message);
    void answer_rndis(const NetworkPacket& from, netvsc::Status status);
    [[nodiscard]] std::optional<u32> gather(const NetworkPacket& from, const netvsc::RndisPacket& place);
    void control(const NetworkPacket& from, std::span<const u8> message);
    [[nodiscard]] bool send_messages(std::span<u8> bytes);
    [[nodiscard]] bool send_frame(std::span<u8> body);
    void begin(const NetworkPacket& from, u32 bytes, netvsc::Status status);
    void release(Request& request);
    void forget_requests(std::optional<u32> channel);

    [[nodiscard]] std::optional<u32> take_section(u32 keep_free);
    void free_section(u32 index);
    void free_sections_of(std::optional<u32> channel);
    void indicate(u32 section, u32 channel, u32 channel_type, u32 bytes, std::span<const u8> shown);
    void send_control(std::span<const u8> message);
    void send_indirection_table();
    [[nodiscard]] std::optional<u32> primary() const;
    void reset();
    void request_fields(StateVisitor& v);
    void section_fields(StateVisitor& v);

    NetworkHost& host_;
    u16 max_sub_channels_;
    Rndis rndis_;
    State state_ = State::AwaitInit;
    u32 version_ = 0, ndis_version_ = 0;
    u64 capabilities_ = 0;
    Buffer receive_, send_;
    std::array<Queue, kMaxQueues> queues_{};
    std::array<Request, kMaxInFlight> requests_{};
    u32 in_flight_ = 0;
    std::array<Section, kMaxSections> sections_{};
    u32 sections_used_ = 0, first_free_ = 0;  ///< no section below first_free_ is free
    u32 next_sequence_ = 1;
    u64 invalid_packets_ = 0;
    alignas(64) std::array<u8, kMaxMessageBytes> scratch_{};
};

}  // namespace vg::hv::vsp
