// All Hyper-V sockets of one child: connection requests both ways, a channel for each connection, and what the host has
// to do with them. Rows V-46, V-48, D-114, D-115.
#pragma once

#include <array>
#include <map>
#include <string>

#include "base/events.h"
#include "base/log.h"
#include "hv/vmbus/channel.h"
#include "hv/vsp/socket_stream.h"

namespace vg::hv::parent {

/// The other ends. Calls are effects: they answer nothing and call nothing back; what the host does comes in through
/// the functions of SocketHub.
class SocketHost {
  public:
    virtual ~SocketHost() = default;
    /// The guest wants to connect to `port` of the host: accept() or refuse().
    virtual void requested(u32 id, u32 port) = 0;
    /// The guest has taken the connection that connect() offered.
    virtual void opened(u32 id) = 0;
    /// Bytes of the guest: taken() when they are no longer here.
    virtual void data(u32 id, std::span<const u8> bytes) = 0;
    /// The guest sends no more.
    virtual void ended(u32 id) = 0;
    /// There is no such connection any more. Not called for what refuse() or close() ended.
    virtual void closed(u32 id) = 0;
};

/// A ChannelDevice with one channel for each connection. All calls on the machine's thread.
class SocketHub final : public vmbus::ChannelDevice, public vmbus::SocketService {
  public:
    static constexpr std::size_t kMaxConnections = 64;
    /// How long an offered connection waits for the guest, and a finished one until it has read everything.
    static constexpr VTime kOpenTimeout = 1'000'000'000, kReadTimeout = 2'000'000'000;

    /// @param name    unique in the machine: names the timer
    /// @param server  of the child; outlives this
    SocketHub(std::string name, EventQueue& events, Log& log, vmbus::Server& server);
    ~SocketHub() override;
    SocketHub(const SocketHub&) = delete;
    SocketHub& operator=(const SocketHub&) = delete;
    /// Who hears of connections; null: nobody.
    void set_host(SocketHost* host) { host_ = host; }

    // ---- from the host. False: there is no such connection, or it cannot do that now; nothing has changed.
    /// Offers a connection from the host's port to the guest's. 0: the guest has no VMBus connection, or too many.
    u32 connect(u32 host_port, u32 guest_port);
    bool accept(u32 id);
    bool refuse(u32 id);
    /// At most room(id) bytes.
    bool send(u32 id, std::span<const u8> bytes);
    [[nodiscard]] std::size_t room(u32 id) const;
    bool taken(u32 id, u64 bytes);
    /// The host sends no more.
    bool end(u32 id);
    /// Gives a connection up at once.
    bool close(u32 id);
    [[nodiscard]] std::vector<u32> connections() const;

    // SocketService
    bool connect_requested(const Guid& endpoint, const Guid& service) override;
    void forgotten() override;
    // ChannelDevice
    void opened(vmbus::Channel& channel) override;
    void signalled(vmbus::Channel& channel) override;
    void closed(vmbus::Channel& channel) override;
    /// Channels are offered anew before the server loads their state.
    void fields(StateVisitor& v) override;

  private:
    struct Connection {
        enum class State : u8 {
            Requested,  ///< by the guest; the host decides
            Offered,    ///< the guest decides
            Open,
            Closing,   ///< to be taken back with the next tick
            Rescinded  ///< the guest has still to release it
        };
        State state = State::Requested;
        bool from_host = false;
        u16 relid = 0;
        Guid service{}, endpoint{};
        VTime deadline = kNever;
        vsp::SocketStream stream;
    };
    using Entry = std::map<u32, Connection>::iterator;

    [[nodiscard]] Entry find(const vmbus::Channel& channel);
    [[nodiscard]] Connection* live(u32 id);
    [[nodiscard]] vmbus::Offer offer_of(const Connection& connection) const;
    [[nodiscard]] u32 add(const Guid& service, const Guid& endpoint, bool from_host);
    bool offer(Connection& connection);
    void pump(Entry entry);
    void begin_close(Entry entry);
    void purge();
    void arm();
    void tick();

    std::string name_;
    EventQueue& events_;
    Log& log_;
    vmbus::Server& server_;
    SocketHost* host_ = nullptr;
    std::map<u32, Connection> connections_;
    u32 last_id_ = 0;
    EventQueue::TimerId timer_;
    RateLimit complaints_;
    std::array<u8, vsp::SocketStream::kMaxPacket> buffer_{};
};

}  // namespace vg::hv::parent
