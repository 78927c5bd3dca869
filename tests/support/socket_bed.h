// A child's sockets over a VMBus server and plain memory: the hub, a host that writes down what it hears, and a guest.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/events.h"
#include "hv/parent/socket_hub.h"
#include "tests/support/vmbus_guest.h"

namespace vg::test {

class ToldHost final : public hv::parent::SocketHost {
  public:
    void requested(u32 id, u32 port) override { requests.emplace_back(id, port); }
    void opened(u32 id) override { ++opens[id]; }
    void data(u32 id, std::span<const u8> bytes) override {
        received[id].insert(received[id].end(), bytes.begin(), bytes.end());
    }
    void ended(u32 id) override { ++ends[id]; }
    void closed(u32 id) override { ++closes[id]; }

    std::vector<std::pair<u32, u32>> requests;
    std::map<u32, int> opens, ends, closes;
    std::map<u32, std::vector<u8>> received;
};

struct SocketBed {
    explicit SocketBed(std::size_t pages = 4096)
        : events(clock), world(pages), server(world, log), guest(world, server), hub("sockets", events, log, server) {
        hub.set_host(&host);
    }
    void connect(u32 version = vmbus::kVersion5_3) {
        (void)guest.contact(version);
        (void)guest.request_offers();
        guest.forget();
    }
    /// The guest asks for a connection from its port to the host's.
    void request(u32 guest_port, const hv::Guid& service) {
        guest.post(vmbus::MessageType::TlConnectRequest,
                   vmbus::TlConnectRequest{{}, hv::hvsocket::port_guid(guest_port), service});
    }
    std::optional<vmbus::OfferChannel> offer() {
        return guest.receive<vmbus::OfferChannel>(vmbus::MessageType::OfferChannel);
    }
    /// Lets virtual time pass.
    void pass(VTime time) {
        const VTime end = clock.now() + time;
        while (events.next() <= end) {
            clock.set(std::max(clock.now(), events.next()));
            events.run_due(clock.now());
        }
        clock.set(end);
    }
    /// A packet of the guest, signalled as Linux does.
    void write(u32 relid, VmbusGuest::Pair& rings, std::span<const u8> data) {
        std::vector<u8> payload(8 + data.size());
        const vmbus::PipeHeader header{vmbus::kPipeData, static_cast<u32>(data.size())};
        std::memcpy(payload.data(), &header, sizeof header);
        if (!data.empty()) std::memcpy(payload.data() + 8, data.data(), data.size());
        (void)rings.out.write(vmbus::PacketType::InBand, 0, 0, payload);
        server.on_signal(vmbus::event_connection(static_cast<u16>(relid)));
    }
    /// What the guest reads until the ring is empty; `end` if the last packet said that no more comes.
    std::vector<u8> read(u32 relid, VmbusGuest::Pair& rings, bool& end) {
        std::vector<u8> out;
        while (const auto packet = rings.in.read()) {
            vmbus::PipeHeader header;
            std::memcpy(&header, packet->payload.data(), sizeof header);
            end = header.size == 0;
            out.insert(out.end(), packet->payload.begin() + 8, packet->payload.begin() + 8 + header.size);
            if (packet->signal_host) server.on_signal(vmbus::event_connection(static_cast<u16>(relid)));
        }
        return out;
    }

    ManualClock clock;
    EventQueue events;
    Log log;
    FakeWorld world;
    vmbus::Server server;
    VmbusGuest guest;
    ToldHost host;
    hv::parent::SocketHub hub;
};

}  // namespace vg::test
