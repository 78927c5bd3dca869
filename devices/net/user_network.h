// A network of its own for one card, behind address translation by libslirp: nothing but a user's sockets on the host.
#pragma once

#include <deque>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "devices/net/host_forward.h"
#include "devices/net/net_backend.h"

struct Slirp;

namespace vg::devices {

/// 10.0.2.0/24: gateway 10.0.2.2, name server 10.0.2.3, the guest 10.0.2.15 by DHCP; IPv4 only. libslirp runs on the
/// thread that calls, in exchange() alone; its clock is virtual time.
class UserNetwork final : public NetBackend {
  public:
    struct Options {
        /// 10.0.2.2 is the host: its services on 127.0.0.1 can be reached. Else the guest cannot.
        bool host_access = false;
        std::vector<HostForward> forwards;
    };
    /// Frames of the guest that wait; further ones are lost.
    static constexpr u64 kQueueBytes = 4 << 20;
    /// What one look at the host may bring is not limited by libslirp: less room than this in the card, and it is not
    /// asked. TCP then waits in the host.
    static constexpr u64 kNeededRoom = 512 << 10;

    /// Error (Host): a port to be forwarded is taken.
    static Result<std::unique_ptr<UserNetwork>> create(const Clock& clock, const Options& options);
    ~UserNetwork() override;
    UserNetwork(const UserNetwork&) = delete;
    UserNetwork& operator=(const UserNetwork&) = delete;

    void put(std::span<const u8> frame) override;
    void exchange(int wait_ms, u64 room, FrameSink& card) override;
    [[nodiscard]] bool has_queued() const override { return !queue_.empty(); }

  private:
    struct Callbacks;

    explicit UserNetwork(const Clock& clock) : clock_(clock) {}

    const Clock& clock_;
    Slirp* slirp_ = nullptr;
    FrameSink* card_ = nullptr;  // during exchange()
    bool delivered_ = false;     // in the present exchange()
    std::deque<std::vector<u8>> queue_;
    u64 queue_bytes_ = 0;
    struct PollSet;
};

}  // namespace vg::devices
