// The host's ends of a child's Hyper-V sockets: Unix sockets. A program connects to PATH and writes "CONNECT <port>\n";
// once the guest has taken the connection it reads "OK <port of the host's end>\n", and then the guest's bytes. What
// the guest connects to port P goes to the listener at PATH_P.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "hv/parent/socket_hub.h"
#include "machine/socket_input.h"

namespace vg::machine {

class HostSockets final : private hv::parent::SocketHost {
  public:
    static constexpr std::size_t kMaxClients = 64;     ///< connections to PATH that have not said where to
    static constexpr std::size_t kMaxLine = 32;        ///< of what they say
    static constexpr u32 kFirstHostPort = 0x40000000;  ///< ports of the host's ends of its own connections

    /// @param path  "": every request is refused. Otherwise a socket that nobody listens on is replaced.
    /// Errors: Usage, if the socket cannot be made there.
    static Result<std::unique_ptr<HostSockets>> create(hv::parent::SocketHub& hub, const std::string& path);
    ~HostSockets() override;
    HostSockets(const HostSockets&) = delete;
    HostSockets& operator=(const HostSockets&) = delete;

    /// Does what the host can do now, and lets it into the machine: `enter` carries an input out, or answers false.
    /// Between slices. True if the guest got something.
    /// @param wait_ms  how long to wait if the host has nothing
    bool exchange(int wait_ms, const std::function<bool(const SocketInput&)>& enter);

  private:
    /// One connection to a program of the host. It is there as long as the hub has its connection.
    struct Peer {
        int fd = -1;
        std::vector<u8> unsent;                  ///< the guest's bytes
        u64 not_counted = 0;                     ///< of them: our own words, which the hub does not know
        u32 port = 0;                            ///< of the host's end, for the answer; 0: none is due
        bool guest_ended = false, shut = false;  ///< `shut`: and the program knows
        bool host_ended = false;
    };
    /// A program that has not said where to yet.
    struct Client {
        int fd = -1;
        std::string line;
    };

    HostSockets(hv::parent::SocketHub& hub, std::string path) : hub_(hub), path_(std::move(path)) {}
    Result<void> listen();

    // SocketHost
    void requested(u32 id, u32 port) override { requests_.emplace_back(id, port); }
    void opened(u32 id) override;
    void data(u32 id, std::span<const u8> bytes) override;
    void ended(u32 id) override;
    void closed(u32 id) override;

    using Enter = std::function<bool(const SocketInput&)>;
    void wait(int wait_ms);
    void forget_strangers(const Enter& enter);
    bool answer_requests(const Enter& enter);
    void accept_clients();
    bool read_clients(const Enter& enter);
    bool dial(Client& client, const Enter& enter);
    bool write_to(u32 id, Peer& peer, const Enter& enter);
    bool read_from(u32 id, Peer& peer, const Enter& enter);
    void hang_up(u32 id);

    hv::parent::SocketHub& hub_;
    std::string path_;
    int listener_ = -1;
    std::map<u32, Peer> peers_;  ///< by connection
    std::vector<Client> clients_;
    std::vector<std::pair<u32, u32>> requests_;  ///< connection and port
    u32 next_port_ = kFirstHostPort;
};

}  // namespace vg::machine
