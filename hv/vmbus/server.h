// The VMBus server of one child partition: a state machine with no I/O inside. Rows V-01..V-81.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/types.h"
#include "hv/spec/guid.h"
#include "hv/spec/vmbus.h"
#include "hv/vmbus/gpadl.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv::vmbus {

using hv::Guid;  ///< in wire order

/// What the server asks of the world. Implemented by hv/parent (through ports and the child's memory).
class Notifier {
  public:
    virtual ~Notifier() = default;
    /// Sends a channel message (SynIC message type 1) to the SINT and VP of INITIATE_CONTACT, in order.
    /// False: no buffer now; the server keeps it and tries again at Server::flush.
    [[nodiscard]] virtual bool send_message(u32 vp_index, u8 sint, std::span<const u8> message) = 0;
    /// Signals the guest: event flag `flag` (relid) of the SINT on a VP.
    virtual void signal_guest(u32 vp_index, u8 sint, u16 flag) = 0;
    /// Creates or removes the event connection by which the guest signals a channel. False: the id is taken.
    [[nodiscard]] virtual bool connect_event(u32 connection_id) = 0;
    virtual void disconnect_event(u32 connection_id) = 0;
    /// Guest memory: false if some page is not RAM. Writes honour code tracking.
    [[nodiscard]] virtual bool read_guest(u64 gpa, void* out, u64 size) = 0;
    [[nodiscard]] virtual bool write_guest(u64 gpa, const void* data, u64 size) = 0;
    /// Memory at the beginning of [gpa, gpa+size) that may be filled (`fill`) or looked at by address, side by side on the
    /// host, until the guest runs again. Empty: only write_guest (read_guest) will do.
    [[nodiscard]] virtual std::span<u8> guest_memory(u64 gpa, u64 size, bool fill) {
        (void)gpa, (void)size, (void)fill;
        return {};
    }
    /// The guest's partition in what is told to tools (base/tap.h).
    [[nodiscard]] virtual u64 partition_id() const { return 0; }
};

class Channel;

/// A device behind an offer: a protocol core plus its back end. All calls on the machine's thread. A device must not
/// rescind its own offer from inside a call.
class ChannelDevice {
  public:
    virtual ~ChannelDevice() = default;
    /// The guest opened the channel (or sub-channel): rings are mapped.
    virtual void opened(Channel& channel) = 0;
    /// The guest signalled, or the channel was just opened: read packets until the ring is empty.
    virtual void signalled(Channel& channel) = 0;
    /// Closed, rescinded or unloaded: forget all requests in flight; the rings must not be touched any more.
    virtual void closed(Channel& channel) = 0;
    /// The guest takes these pages back: they must not be touched any more. Not called for what goes with a channel.
    virtual void gpadl_torn_down(u32 gpadl) { (void)gpadl; }
    /// Saved state was loaded and the channel is open as it was then; the device's own fields are loaded after this.
    virtual void restored(Channel&) {}
    virtual void fields(StateVisitor& v) = 0;
};

/// Who answers the guest's requests for sockets. Rows V-46, V-48.
class SocketService {
  public:
    virtual ~SocketService() = default;
    /// The guest's endpoint wants a connection to a service of the host. False: refused at once; else Server::offer or
    /// Server::refuse_socket follows.
    [[nodiscard]] virtual bool connect_requested(const Guid& endpoint, const Guid& service) = 0;
    /// The guest's connection is gone, and with it every channel of a socket.
    virtual void forgotten() = 0;
};

/// What is offered. The relid, the connection id and the monitor fields are the server's.
struct Offer {
    std::string name;  ///< for people: "storage0"
    Guid type{};
    Guid instance{};
    u16 flags = 0;  ///< D-18
    u16 mmio_megabytes = 0;
    std::array<u8, 120> user_data{};
    u16 sub_channel = 0;
};

/// Limits of one server; what a guest asks beyond them is refused with the protocol's answer.
struct ServerOptions {
    u32 max_version = kVersion6_0;  ///< highest version that is accepted
    /// Connection id for channel messages that VERSION_RESPONSE names from 5.0 on; the world must have connected it.
    u32 message_connection = kMessageConnectionContact;
    u32 max_channels = 256;        ///< offers and sub-channels, at most kMaxRelid
    u32 max_gpadls = 1024;         ///< finished and growing ones
    u64 max_gpadl_pages = 65536;   ///< of one GPADL: 256 MiB
    u64 max_total_pages = 262144;  ///< of all GPADLs: 1 GiB
    u32 max_unsent_messages = 64;  ///< above it, no further message is taken from the guest
};

/// The server. Calls in, effects out through the Notifier. Not thread-safe.
class Server {
  public:
    enum class State : u8 { Disconnected, Connected };

    Server(Notifier& notifier, Log& log, ServerOptions options = {});
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    // ---- devices
    /// Offers a device; a connected guest that has asked for offers hears at once. Returns the relid, or 0 if
    /// max_channels are in use.
    u16 offer(Offer offer, ChannelDevice& device);
    /// The same under a given relid, without a word to the guest: for state that is being loaded. False: it is in use.
    [[nodiscard]] bool offer_at(u16 relid, Offer offer, ChannelDevice& device);
    /// Forgets a channel without a word to the guest or the device: for state that is being loaded.
    void drop(u16 relid);
    /// Who answers requests for sockets; null: all are refused. It outlives the server's use.
    void set_socket_service(SocketService* service) { sockets_ = service; }
    /// Whether sockets can be offered now: the guest knows them and has asked for offers.
    [[nodiscard]] bool takes_sockets() const { return offers_requested_ && version_ >= kVersion4_0; }
    void refuse_socket(const Guid& endpoint, const Guid& service);
    /// Takes an offer (and its sub-channels) back. The relid is free again when the guest has released it.
    void rescind(u16 relid);
    /// Offers sub-channels 1..count of a primary channel (V-64). Returns how many there are now.
    u16 offer_sub_channels(Channel& primary, u16 count);

    // ---- from the guest
    /// False while too many answers wait for the guest: leave further messages with their sender.
    [[nodiscard]] bool accepting() const { return unsent_.size() < options_.max_unsent_messages; }
    /// One channel message as posted (K-100 payload). Answers V-04 are never lost: they wait in the server.
    void on_message(std::span<const u8> message);
    /// The guest signalled this event connection.
    void on_signal(u32 connection_id);
    /// Tries again to send what send_message refused.
    void flush();
    [[nodiscard]] bool has_unsent() const { return !unsent_.empty(); }
    /// The partition was reset: everything of the guest is forgotten, offers stay.
    void reset();

    // ---- for Channel
    void signal_guest(Channel& channel);
    [[nodiscard]] Notifier& notifier() { return notifier_; }
    [[nodiscard]] Log& log() { return log_; }
    /// True while another line about this guest may be logged.
    [[nodiscard]] bool may_complain() { return complaints_.pass(); }

    // ---- for people
    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] u32 version() const { return version_; }  ///< negotiated, 0 if not connected
    /// The version of the latest successful negotiation, also after the guest unloaded.
    [[nodiscard]] u32 last_version() const { return last_version_; }
    [[nodiscard]] const std::map<u16, std::unique_ptr<Channel>>& channels() const { return channels_; }
    [[nodiscard]] Channel* find(u32 relid) const;
    [[nodiscard]] const std::map<u32, Gpadl>& gpadls() const { return gpadls_; }
    [[nodiscard]] u64 gpadl_pages() const;
    void fields(StateVisitor& v);

  private:
    template <class Message>
    bool dispatch(std::span<const u8> message, u32 first_version);
    void handle(const RequestOffers&, std::span<const u8>);
    void handle(const OpenChannel&, std::span<const u8>);
    void handle(const CloseChannel&, std::span<const u8>);
    void handle(const GpadlHeader&, std::span<const u8>);
    void handle(const GpadlBody&, std::span<const u8>);
    void handle(const GpadlTeardown&, std::span<const u8>);
    void handle(const RelidReleased&, std::span<const u8>);
    void handle(const InitiateContact&, std::span<const u8>);
    void handle(const Unload&, std::span<const u8>);
    void handle(const TlConnectRequest&, std::span<const u8>);
    void handle(const ModifyChannel&, std::span<const u8>);

    template <class Message>
    void send(MessageType type, Message message);
    void send_bytes(std::vector<u8> message);
    void log_message(const char* direction, std::span<const u8> message);
    void tell_message(bool to_guest, std::span<const u8> message);
    void send_offer(Channel& channel);
    [[nodiscard]] bool acceptable(u32 version) const;
    [[nodiscard]] u32 try_open(Channel& channel, const OpenChannel& request, std::span<const u8> extra);
    void feed_gpadl(Gpadl& gpadl, std::span<const u8> words);
    void close(Channel& channel);
    void withdraw(Channel& channel);
    void disconnect(bool sockets_too = true);
    [[nodiscard]] u16 free_relid() const;
    void scan_interrupt_page();
    void unsent_fields(StateVisitor& v);
    void gpadl_fields(StateVisitor& v);
    void channel_fields(StateVisitor& v);
    [[nodiscard]] Channel* restore_channel(u16 relid, u16 primary_relid, u16 index);

    Notifier& notifier_;
    Log& log_;
    ServerOptions options_;
    SocketService* sockets_ = nullptr;

    State state_ = State::Disconnected;
    u32 version_ = 0;
    u32 last_version_ = 0;
    u32 features_ = 0;
    u32 message_vp_ = 0;
    u8 message_sint_ = kDefaultSint;
    bool contacted_ = false;  ///< message_vp_ and message_sint_ are known
    bool offers_requested_ = false;
    u64 interrupt_page_ = 0;  ///< below 5.0
    u64 parent_to_child_monitor_ = 0, child_to_parent_monitor_ = 0;
    std::map<u16, std::unique_ptr<Channel>> channels_;
    std::map<u32, Gpadl> gpadls_;
    std::deque<std::vector<u8>> unsent_;
    u64 contacts_ = 0;  ///< connections so far
    u64 messages_received_ = 0, messages_sent_ = 0, messages_ignored_ = 0;
    RateLimit complaints_{20};
    RateLimit messages_logged_{1000};  ///< at level debug
};

}  // namespace vg::hv::vmbus
