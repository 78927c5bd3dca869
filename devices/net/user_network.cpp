#include "devices/net/user_network.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <poll.h>
#include <slirp/libslirp.h>

#include <algorithm>

namespace vg::devices {

namespace {

constexpr u32 kNetwork = 0x0a000200, kMask = 0xffffff00, kGateway = 0x0a000202, kNameServer = 0x0a000203,
              kGuest = 0x0a00020f;

in_addr address(u32 value) { return {htonl(value)}; }

struct EventName {
    int slirp;
    short host;
};
constexpr EventName kEvents[] = {{SLIRP_POLL_IN, POLLIN},
                                 {SLIRP_POLL_OUT, POLLOUT},
                                 {SLIRP_POLL_PRI, POLLPRI},
                                 {SLIRP_POLL_ERR, POLLERR},
                                 {SLIRP_POLL_HUP, POLLHUP}};

}  // namespace

struct UserNetwork::PollSet {
    std::vector<pollfd> descriptors;

    static int add(int fd, int events, void* opaque) {
        auto& set = *static_cast<PollSet*>(opaque);
        short wanted = 0;
        for (const EventName& each : kEvents) {
            if ((events & each.slirp) != 0) wanted = static_cast<short>(wanted | each.host);
        }
        set.descriptors.push_back({fd, wanted, 0});
        return static_cast<int>(set.descriptors.size()) - 1;
    }
    static int result(int index, void* opaque) {
        const auto& set = *static_cast<PollSet*>(opaque);
        int events = 0;
        if (index < 0 || static_cast<std::size_t>(index) >= set.descriptors.size()) return 0;
        for (const EventName& each : kEvents) {
            if ((set.descriptors[static_cast<std::size_t>(index)].revents & each.host) != 0) events |= each.slirp;
        }
        return events;
    }
};

struct UserNetwork::Callbacks {
    static ssize_t send_packet(const void* data, std::size_t size, void* opaque) {
        auto& self = *static_cast<UserNetwork*>(opaque);
        if (self.card_ == nullptr || size < kEthernetHeaderBytes || size > kMaxFrameBytes) return 0;
        self.card_->put({static_cast<const u8*>(data), size});
        self.delivered_ = true;
        return static_cast<ssize_t>(size);
    }
    static void guest_error(const char*, void*) {}  // the guest's mistakes are its own
    static s64 clock_get_ns(void* opaque) { return static_cast<s64>(static_cast<UserNetwork*>(opaque)->clock_.now()); }
    // Timers are for router advertisements, which belong to IPv6: that is off, so none is ever made.
    static void* timer_new(SlirpTimerCb, void*, void*) { return nullptr; }
    static void timer_free(void*, void*) {}
    static void timer_mod(void*, s64, void*) {}
    // exchange() asks for the descriptors anew each time, and is called soon.
    static void register_poll_fd(int, void*) {}
    static void unregister_poll_fd(int, void*) {}
    static void notify(void*) {}

    static SlirpCb make() {
        SlirpCb callbacks{};
        callbacks.send_packet = send_packet;
        callbacks.guest_error = guest_error;
        callbacks.clock_get_ns = clock_get_ns;
        callbacks.timer_new = timer_new;
        callbacks.timer_free = timer_free;
        callbacks.timer_mod = timer_mod;
        callbacks.register_poll_fd = register_poll_fd;
        callbacks.unregister_poll_fd = unregister_poll_fd;
        callbacks.notify = notify;
        return callbacks;
    }
};

Result<std::unique_ptr<UserNetwork>> UserNetwork::create(const Clock& clock, const Options& options) {
    std::unique_ptr<UserNetwork> network(new UserNetwork(clock));
    SlirpConfig config{};
    config.version = 1;
    config.in_enabled = true;
    config.vnetwork = address(kNetwork);
    config.vnetmask = address(kMask);
    config.vhost = address(kGateway);
    config.vdhcp_start = address(kGuest);
    config.vnameserver = address(kNameServer);
    config.disable_host_loopback = !options.host_access;
    static const SlirpCb callbacks = Callbacks::make();  // libslirp keeps the pointer
    network->slirp_ = slirp_new(&config, &callbacks, network.get());
    if (network->slirp_ == nullptr) return fail(Error::Code::Host, "libslirp does not start");
    for (const HostForward& forward : options.forwards) {
        const u32 guest = forward.guest_address != 0 ? forward.guest_address : kGuest;
        if (slirp_add_hostfwd(network->slirp_, forward.udp ? 1 : 0, address(forward.host_address), forward.host_port,
                              address(guest), forward.guest_port) == 0) {
            continue;
        }
        return fail(Error::Code::Host, fmt::format("port {} of the host cannot be forwarded: it is taken, or not "
                                                   "allowed; choose another",
                                                   forward.host_port));
    }
    return network;
}

UserNetwork::~UserNetwork() {
    if (slirp_ != nullptr) slirp_cleanup(slirp_);
}

void UserNetwork::put(std::span<const u8> frame) {
    if (frame.size() > kQueueBytes - queue_bytes_) return;
    queue_.emplace_back(frame.begin(), frame.end());
    queue_bytes_ += frame.size();
}

void UserNetwork::exchange(int wait_ms, u64 room, FrameSink& card) {
    card_ = &card;
    delivered_ = false;
    for (; !queue_.empty(); queue_.pop_front()) {
        const std::vector<u8>& frame = queue_.front();
        queue_bytes_ -= frame.size();
        slirp_input(slirp_, frame.data(), static_cast<int>(frame.size()));
    }
    if (room >= kNeededRoom) {
        PollSet set;
        u32 timeout = static_cast<u32>(delivered_ ? 0 : std::max(wait_ms, 0));
        slirp_pollfds_fill(slirp_, &timeout, PollSet::add, &set);
        timeout = std::min(timeout, static_cast<u32>(delivered_ ? 0 : std::max(wait_ms, 0)));
        const int ready = ::poll(set.descriptors.data(), set.descriptors.size(), static_cast<int>(timeout));
        slirp_pollfds_poll(slirp_, ready < 0 ? 1 : 0, PollSet::result, &set);
    }
    card_ = nullptr;
}

}  // namespace vg::devices
