// Hyper-V sockets: connections both ways, data, ends, limits, and state in the middle. Rows D-15, D-114, D-115, V-46,
// V-48.
#include <catch2/catch.hpp>

#include "tests/support/random.h"
#include "tests/support/socket_bed.h"
#include "tests/support/state_tape.h"

using namespace vg;
using namespace vg::hv;
using namespace vg::hv::vmbus;
using namespace vg::test;
using parent::SocketHub;
using vsp::SocketStream;

namespace {

std::vector<u8> text(const std::string& words) { return {words.begin(), words.end()}; }

/// A connection of the guest's port 5000 to the host's port 80, opened.
struct Opened {
    u32 id = 0, relid = 0;
    VmbusGuest::Pair rings;
};
Opened open_from_guest(SocketBed& bed) {
    bed.request(5000, hvsocket::port_guid(80));
    REQUIRE(!bed.host.requests.empty());
    const u32 id = bed.host.requests.back().first;
    REQUIRE(bed.hub.accept(id));
    const auto offer = bed.offer();
    REQUIRE(offer);
    Opened out{id, offer->relid, bed.guest.open_rings(offer->relid, 6)};
    REQUIRE(bed.guest.open_status == 0);
    REQUIRE(bed.host.opens[id] == 1);
    bed.guest.forget();
    return out;
}

}  // namespace

TEST_CASE("sockets: a port is a service GUID and back (D-15)", "[hv][sockets]") {
    CHECK(to_string(hvsocket::port_guid(0x1234)) == "00001234-facb-11e6-bd58-64006a7986d3");
    CHECK(hvsocket::port_of(hvsocket::port_guid(0xffffffff)) == 0xffffffff);
    CHECK_FALSE(hvsocket::port_of(kKvpClass));
}

TEST_CASE("sockets: the guest connects to the host (V-46, D-114)", "[hv][sockets]") {
    SocketBed bed;
    bed.connect();
    bed.request(5000, hvsocket::port_guid(80));
    REQUIRE(bed.host.requests.size() == 1);
    const auto [id, port] = bed.host.requests[0];
    CHECK(port == 80);
    CHECK(bed.guest.unread() == 0);
    REQUIRE(bed.hub.accept(id));
    CHECK_FALSE(bed.hub.accept(id));
    const auto offer = bed.offer();
    REQUIRE(offer);
    CHECK(offer->type == hvsocket::port_guid(80));
    CHECK(offer->instance == hvsocket::port_guid(5000));
    CHECK((offer->flags & 0x2000) != 0);
    CHECK(offer->user_data[4] == 0);
    CHECK(bed.hub.room(id) == 0);
    auto rings = bed.guest.open_rings(offer->relid, 6);
    CHECK(bed.host.opens[id] == 1);
    CHECK(bed.hub.room(id) == SocketStream::kMaxQueued);
    bed.write(offer->relid, rings, text("hello"));
    CHECK(bed.host.received[id] == text("hello"));
    REQUIRE(bed.hub.send(id, text("answer")));
    bool end = false;
    CHECK(bed.read(offer->relid, rings, end) == text("answer"));
    CHECK_FALSE(end);
}

TEST_CASE("sockets: the host connects to the guest (D-114)", "[hv][sockets]") {
    SocketBed bed;
    CHECK(bed.hub.connect(0x40000000, 22) == 0);  // nobody there
    bed.connect(kVersion3_0);
    CHECK(bed.hub.connect(0x40000000, 22) == 0);  // knows no sockets
    bed.connect();
    const u32 id = bed.hub.connect(0x40000000, 22);
    REQUIRE(id != 0);
    const auto offer = bed.offer();
    REQUIRE(offer);
    CHECK(offer->type == hvsocket::port_guid(22));
    CHECK(offer->instance == hvsocket::port_guid(0x40000000));
    CHECK(offer->user_data[4] == 1);
    CHECK(bed.host.opens[id] == 0);
    bed.guest.open_rings(offer->relid, 6);
    CHECK(bed.host.opens[id] == 1);
}

TEST_CASE("sockets: an offer that nobody takes is taken back", "[hv][sockets]") {
    SocketBed bed;
    bed.connect();
    const u32 id = bed.hub.connect(0x40000000, 22);
    const auto offer = bed.offer();
    bed.pass(SocketHub::kOpenTimeout + 1);
    CHECK(bed.host.closes[id] == 1);
    const auto rescind = bed.guest.receive<RescindOffer>(MessageType::RescindOffer);
    REQUIRE(rescind);
    CHECK(rescind->relid == offer->relid);
    CHECK(bed.hub.connections().empty());
    bed.guest.post(MessageType::RelidReleased, RelidReleased{{}, offer->relid});
    CHECK(bed.server.find(offer->relid) == nullptr);
    CHECK_FALSE(bed.hub.close(id));
}

TEST_CASE("sockets: refusals are told with the version's result (V-48)", "[hv][sockets]") {
    const u32 version = GENERATE(kVersion4_0, kVersion4_1, kVersion5_3);
    SocketBed bed;
    bed.connect(version);
    bed.request(5000, kKvpClass);  // no port
    const auto refused = [&] {
        const auto result = bed.guest.receive<TlConnectResult>(MessageType::TlConnectResult);
        CHECK(result.has_value() == (version >= kVersion4_1));
        CHECK((!result || result->status == kStatusConnectionRefused));
    };
    refused();
    CHECK(bed.host.requests.empty());
    bed.request(5000, hvsocket::port_guid(80));
    REQUIRE(bed.hub.refuse(bed.host.requests[0].first));
    refused();
    CHECK(bed.hub.connections().empty());
}

TEST_CASE("sockets: both ends, then the channel goes when the guest has read (D-115)", "[hv][sockets]") {
    SocketBed bed;
    bed.connect();
    Opened socket = open_from_guest(bed);
    REQUIRE(bed.hub.send(socket.id, text("last words")));
    REQUIRE(bed.hub.end(socket.id));
    CHECK_FALSE(bed.hub.send(socket.id, text("x")));
    bed.write(socket.relid, socket.rings, {});
    CHECK(bed.host.ends[socket.id] == 1);
    bed.pass(100'000'000);
    CHECK(bed.guest.unread() == 0);  // not yet: there is something to read
    bool end = false;
    CHECK(bed.read(socket.relid, socket.rings, end) == text("last words"));
    CHECK(end);
    bed.pass(20'000'000);
    REQUIRE(bed.guest.receive<RescindOffer>(MessageType::RescindOffer));
    CHECK(bed.host.closes[socket.id] == 1);
}

TEST_CASE("sockets: a guest that closes or breaks the protocol loses the connection", "[hv][sockets]") {
    SocketBed bed;
    bed.connect();
    Opened socket = open_from_guest(bed);
    SECTION("closes") { bed.guest.post(MessageType::CloseChannel, CloseChannel{{}, socket.relid}); }
    SECTION("another packet type") {
        const std::array<u8, 16> bytes = {2, 0, 0, 0, 1};
        (void)socket.rings.out.write(PacketType::InBand, 0, 0, bytes);
        bed.server.on_signal(event_connection(static_cast<u16>(socket.relid)));
    }
    SECTION("a length that is a lie") {
        const std::array<u8, 16> bytes = {1, 0, 0, 0, 200};
        (void)socket.rings.out.write(PacketType::InBand, 0, 0, bytes);
        bed.server.on_signal(event_connection(static_cast<u16>(socket.relid)));
    }
    SECTION("more behind the end") {
        bed.write(socket.relid, socket.rings, {});
        bed.write(socket.relid, socket.rings, text("x"));
    }
    CHECK(bed.host.closes[socket.id] == 1);
    bed.pass(10);
    CHECK(bed.guest.receive<RescindOffer>(MessageType::RescindOffer));
    CHECK(bed.hub.connections().empty());
}

TEST_CASE("sockets: a host that does not read stops the guest, and bytes are never lost", "[hv][sockets]") {
    SocketBed bed;
    bed.connect();
    Opened socket = open_from_guest(bed);
    Random random(1);
    std::vector<u8> sent;
    const auto write = [&](std::size_t size) {
        std::vector<u8> data(size);
        for (u8& byte : data) byte = static_cast<u8>(random.next());
        if (socket.rings.out.free() <= size + 40) return false;
        bed.write(socket.relid, socket.rings, data);
        sent.insert(sent.end(), data.begin(), data.end());
        return true;
    };
    while (write(1 + random.next() % 4000)) {
    }
    CHECK(bed.host.received[socket.id].size() < SocketStream::kWindow + hvsocket::kMaxPacketData);
    CHECK(bed.host.received[socket.id].size() < sent.size());
    CHECK_FALSE(bed.hub.taken(socket.id, 1 << 20));
    u64 taken = 0;
    while (taken < 500'000) {
        const u64 part = bed.host.received[socket.id].size() - taken;
        REQUIRE(part != 0);
        REQUIRE(bed.hub.taken(socket.id, part));
        taken += part;
        while (write(1 + random.next() % 4000)) {
        }
    }
    bed.hub.taken(socket.id, bed.host.received[socket.id].size() - taken);
    CHECK(bed.host.received[socket.id].size() >= 500'000);
    CHECK(std::equal(bed.host.received[socket.id].begin(), bed.host.received[socket.id].end(), sent.begin()));
}

TEST_CASE("sockets: connections are limited, and gone with the guest's connection", "[hv][sockets]") {
    SocketBed bed;
    bed.connect();
    for (u32 i = 0; i < SocketHub::kMaxConnections; ++i) bed.request(i, hvsocket::port_guid(80));
    CHECK(bed.host.requests.size() == SocketHub::kMaxConnections);
    CHECK(bed.guest.unread() == 0);
    bed.request(1000, hvsocket::port_guid(80));
    CHECK(bed.guest.receive<TlConnectResult>(MessageType::TlConnectResult));
    REQUIRE(bed.hub.accept(bed.host.requests[0].first));
    bed.server.reset();
    CHECK(bed.host.closes.size() == SocketHub::kMaxConnections);
    CHECK(bed.hub.connections().empty());
    CHECK(bed.server.channels().empty());
    bed.connect();
    CHECK(bed.hub.connect(0x40000000, 22) != 0);
}

TEST_CASE("sockets: saved in the middle, they go on elsewhere", "[hv][sockets]") {
    // What a built-in parent's fields are: the hub before the server.
    struct Whole {
        SocketBed& bed;
        void fields(StateVisitor& v) {
            bed.hub.fields(v);
            bed.server.fields(v);
        }
    };
    SocketBed first;
    first.connect();
    Opened socket = open_from_guest(first);
    std::vector<u8> to_guest(150'000);
    Random random(2);
    for (u8& byte : to_guest) byte = static_cast<u8>(random.next());
    std::size_t queued = 0;
    for (std::size_t room; (room = std::min(first.hub.room(socket.id), to_guest.size() - queued)) != 0; queued += room)
        REQUIRE(first.hub.send(socket.id, std::span(to_guest).subspan(queued, room)));
    first.write(socket.relid, socket.rings, text("unfinished"));
    first.request(6000, hvsocket::port_guid(81));
    const u32 offered = first.hub.connect(0x40000001, 23);
    REQUIRE(offered != 0);

    Whole saved{first};
    StateTape tape;
    tape.save(saved);
    SocketBed second;
    second.world.memory = first.world.memory;
    Whole loaded{second};
    tape.restore(loaded);
    StateTape again;
    again.save(loaded);
    CHECK(second.hub.connections() == first.hub.connections());

    // The guest is the same one, over other memory.
    VmbusGuest::Pair rings{{second.world, socket.rings.out.control_page(), socket.rings.out.size()},
                           {second.world, socket.rings.in.control_page(), socket.rings.in.size()},
                           socket.rings.gpadl};
    std::vector<u8> got;
    bool end = false;
    for (int round = 0; round < 1000 && !end; ++round) {
        const std::vector<u8> part = second.read(socket.relid, rings, end);
        got.insert(got.end(), part.begin(), part.end());
        const std::size_t room = std::min(second.hub.room(socket.id), to_guest.size() - queued);
        if (room != 0) REQUIRE(second.hub.send(socket.id, std::span(to_guest).subspan(queued, room)));
        queued += room;
        if (queued == to_guest.size()) (void)second.hub.end(socket.id);
    }
    CHECK(end);
    CHECK(got == to_guest);
    CHECK(second.hub.taken(socket.id, 10));
    second.write(socket.relid, rings, text(" business"));
    CHECK(second.host.received[socket.id] == text(" business"));
    CHECK(second.hub.accept(first.host.requests.back().first));
    second.pass(SocketHub::kOpenTimeout + 1);  // timers are the event queue's: armed by what happened since
    CHECK(second.host.closes[offered] == 1);
}
