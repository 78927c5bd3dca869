// The whole path below a partition: rings, buffers by GPADL, the adapter, the cable, completions at their virtual time.
#include <catch2/catch.hpp>

#include <set>

#include "base/events.h"
#include "hv/parent/network_adapter.h"
#include "tests/support/network_guest.h"
#include "tests/support/state_tree.h"
#include "tests/support/vmbus_guest.h"

using namespace vg;
using namespace vg::hv::vmbus;
using namespace vg::test;
using hv::parent::network_latency_ns;
using hv::parent::NetworkAdapter;
using Nvsp = netvsc::MessageType;

namespace {

class Wire final : public devices::FrameSink {
  public:
    void put(std::span<const u8> frame) override { frames.emplace_back(frame.begin(), frame.end()); }
    std::vector<Bytes> frames;
};

/// A guest with buffers of 256 and 16 pages.
struct Bed {
    static constexpr u32 kReceivePages = 256, kSendPages = 16;

    explicit Bed(u16 sub_channels = 0, u32 ring_pages = 9)
        : adapter("net0", kGuestAddress, events, sub_channels), server(world, log), guest(world, server) {
        adapter.connect(wire);
        Offer offer;
        offer.type = hv::kNetworkClass;
        relid = server.offer(offer, adapter);
        guest.contact(kVersion5_3);
        guest.request_offers();
        guest.forget();
        rings.emplace(guest.open_rings(relid, ring_pages));
        CHECK(guest.open_status == 0);
    }
    void start() {
        receive_pages = guest.pages(kReceivePages);
        send_pages = guest.pages(kSendPages);
        std::reverse(receive_pages.begin(), receive_pages.end());  // in no particular order
        CHECK(guest.create_gpadl(relid, kReceive, receive_pages) == 0u);
        CHECK(guest.create_gpadl(relid, kSend, send_pages) == 0u);
        CHECK(ask(nvsp_init(netvsc::kVersion5, netvsc::kVersion5)).init_complete.status == 1);
        CHECK(ask(nvsp_buffer(Nvsp::SendReceiveBuffer, kReceive, netvsc::kReceiveBufferId))
                  .receive_buffer_complete.status == 1);
        CHECK(ask(nvsp_buffer(Nvsp::SendSendBuffer, kSend, 0)).send_buffer_complete.status == 1);
        control(rndis_initialize());
        control(rndis_set(2, rndis::kOidPacketFilter, u32{0x2b}));
    }
    void signal() { server.on_signal(event_connection(relid)); }
    void write(PacketType type, u64 id, std::span<const u8> payload, std::span<const u8> extension = {},
               u16 flags = 1) {
        const auto written = rings->out.write(type, flags, id, payload, extension);
        REQUIRE(written.room);
        if (written.signal) signal();
    }
    std::optional<GuestRing::Packet> read() {
        auto packet = rings->in.read();
        if (packet && packet->signal_host) signal();
        return packet;
    }
    netvsc::Message ask(const netvsc::Message& message) {
        write(PacketType::InBand, ++transaction, test::bytes_of(message));
        const auto packet = read();
        REQUIRE(packet);
        CHECK(packet->descriptor.type == 0xb);
        CHECK(packet->descriptor.transaction_id == transaction);
        return read_at<netvsc::Message>(packet->payload, 0);
    }
    /// Content in one page of its own.
    void send(const Bytes& content, u32 channel_type = 0) {
        const u64 pfn = guest.pages(1)[0];
        std::copy(content.begin(), content.end(), world.memory.begin() + static_cast<std::ptrdiff_t>(pfn * 4096));
        Bytes extension;
        append(extension, u64{1} << 32);
        append(extension, GpaRange{static_cast<u32>(content.size()), 0});
        append(extension, pfn);
        write(PacketType::GpaDirect, ++transaction, test::bytes_of(nvsp_rndis(channel_type)), extension);
    }
    /// A control message: its completion and its answer, which is given back.
    void control(const Bytes& content) {
        send(content, 1);
        const auto completion = read(), answer = read();
        REQUIRE(completion);
        CHECK(completion->descriptor.type == 0xb);
        REQUIRE(answer);
        CHECK(answer->descriptor.type == 7);
        give_back(*answer);
    }
    void give_back(const GuestRing::Packet& packet) {
        const u32 reply[] = {108, 1};
        write(PacketType::Completion, packet.descriptor.transaction_id, {reinterpret_cast<const u8*>(reply), 8}, {}, 0);
    }
    void run_to(VTime when) {
        clock.set(when);
        events.run_due(when);
    }
    [[nodiscard]] u8 receive_byte(u64 offset) const {
        return world.memory[receive_pages[offset / 4096] * 4096 + offset % 4096];
    }

    static constexpr u32 kReceive = 0x100, kSend = 0x101;
    ManualClock clock;
    EventQueue events{clock};
    FakeWorld world;
    Log log;
    Wire wire;
    NetworkAdapter adapter;
    Server server;
    VmbusGuest guest;
    u16 relid = 0;
    std::optional<VmbusGuest::Pair> rings;
    std::vector<u64> receive_pages, send_pages;
    u64 transaction = 0;
};

}  // namespace

TEST_CASE("adapter: a frame goes out when its packet is taken, and completes at its virtual time", "[hv][network]") {
    Bed bed;
    bed.start();
    bed.clock.set(1'000'000);
    const Bytes frame = plain_frame(kPeerAddress, 1000);
    bed.send(rndis_frame(frame));
    REQUIRE(bed.wire.frames.size() == 1);
    CHECK(bed.wire.frames[0] == frame);
    const VTime due = 1'000'000 + network_latency_ns(1044);
    CHECK(bed.events.next() == due);
    bed.run_to(due - 1);
    CHECK_FALSE(bed.rings->in.read());
    bed.run_to(due);
    const auto answer = bed.read();
    REQUIRE(answer);
    CHECK(answer->descriptor.transaction_id == bed.transaction);
    CHECK(read_at<u32>(answer->payload, 0) == 108);
    CHECK(bed.events.next() == kNever);
}

TEST_CASE("adapter: a frame that arrives lies in the guest's pages, as a transfer-page packet says (D-61)",
          "[hv][network]") {
    Bed bed;
    bed.start();
    const Bytes frame = plain_frame(kGuestAddress, 1514);
    const u64 room = bed.adapter.receive_room();
    for (int i = 0; i < 3; ++i) bed.adapter.receive(frame);
    CHECK(bed.adapter.receive_room() == room - 3 * 1514);
    std::vector<u64> offsets;
    for (int i = 0; i < 3; ++i) {
        // The page set lies between descriptor and message.
        const auto control = bed.rings->in.control();
        const u64 at = bed.rings->in.control_page() + 4096 + control.read_index;
        CHECK(bed.world.get<u16>(at + 16) == 0xcafe);
        CHECK(bed.world.get<u32>(at + 20) == 1);
        const u32 count = bed.world.get<u32>(at + 24), offset = bed.world.get<u32>(at + 28);
        const auto packet = bed.read();
        REQUIRE(packet);
        CHECK(packet->descriptor.type == 7);
        CHECK(packet->descriptor.data_offset8 == 4);
        CHECK(packet->descriptor.flags == 1);
        CHECK(read_at<u32>(packet->payload, 0) == 107);
        CHECK(read_at<u32>(packet->payload, 4) == 0);
        REQUIRE(count == 44 + 1514);
        Bytes data;
        for (u64 byte = 44; byte < count; ++byte) data.push_back(bed.receive_byte(offset + byte));
        CHECK(data == frame);
        offsets.push_back(offset);
        bed.give_back(*packet);
    }
    CHECK(std::set<u64>(offsets.begin(), offsets.end()).size() == 3);
    bed.signal();
    CHECK(bed.adapter.core().sections_used() == 0);
    CHECK(bed.adapter.core().invalid_packets() == 0);
}

TEST_CASE("adapter: packets that find no room wait in order, and hold the guest's back", "[hv][network]") {
    Bed bed(0, 3);  // 8 KiB each way
    bed.start();
    for (u8 i = 0; i < 200; ++i) bed.adapter.receive(plain_frame(kGuestAddress, 100, i));
    const auto before = bed.adapter.core().rndis().counters.frames_sent;
    bed.send(rndis_frame(plain_frame(kPeerAddress, 100)));
    bed.signal();
    CHECK(bed.adapter.core().rndis().counters.frames_sent == before);
    u64 seen = 0, last = 0;
    while (const auto packet = bed.read()) {
        if (packet->descriptor.type != 7) continue;
        CHECK(packet->descriptor.transaction_id > last);
        last = packet->descriptor.transaction_id;
        ++seen;
    }
    CHECK(seen == 200);
    bed.signal();
    CHECK(bed.adapter.core().rndis().counters.frames_sent == before + 1);
}

TEST_CASE("adapter: checksums and segments are completed on the way to the cable", "[hv][network]") {
    Bed bed;
    bed.start();
    bed.send(rndis_frame(tcp_frame(3000), {{rndis::kInfoLargeSend, 1000 | 34 << 20 | rndis::kLargeSendVersion2}}));
    CHECK(bed.wire.frames.size() == 3);
    for (const Bytes& frame : bed.wire.frames) CHECK(frame.size() == 1054);
}

TEST_CASE("adapter: a GPADL that goes while its buffer is in use ends the buffer, and nothing is written any more",
          "[hv][network]") {
    Bed bed;
    bed.start();
    bed.adapter.receive(plain_frame(kGuestAddress, 100));
    bed.guest.post(hv::vmbus::MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, Bed::kReceive});
    u64 touched = 0;
    bed.world.on_write = [&](u64 gpa, u64) {
        touched += std::count(bed.receive_pages.begin(), bed.receive_pages.end(), gpa >> 12) != 0;
    };
    bed.adapter.receive(plain_frame(kGuestAddress, 100));
    CHECK(touched == 0);
    CHECK_FALSE(bed.adapter.core().listens());
    CHECK(bed.adapter.core().sections_used() == 0);
    bed.guest.forget();
    // The same handle again is another list of pages.
    CHECK(bed.guest.create_gpadl(bed.relid, Bed::kReceive, bed.receive_pages).has_value());
    bed.adapter.receive(plain_frame(kGuestAddress, 100));
    CHECK(touched == 0);
}

TEST_CASE("adapter: closing the channel in flight leaves nothing behind, and it can be opened again", "[hv][network]") {
    Bed bed;
    bed.start();
    for (int i = 0; i < 20; ++i) bed.send(rndis_frame(plain_frame(kPeerAddress, 100)));
    bed.adapter.receive(plain_frame(kGuestAddress, 100));
    REQUIRE(bed.adapter.core().in_flight() == 20);
    bed.guest.post(hv::vmbus::MessageType::CloseChannel, CloseChannel{{}, bed.relid});
    CHECK(bed.adapter.core().in_flight() == 0);
    CHECK(bed.events.next() == kNever);
    bed.run_to(10'000'000);
    bed.rings.emplace(bed.guest.open_rings(bed.relid, 9));
    CHECK(bed.guest.open_status == 0);
    CHECK(bed.ask(nvsp_init(netvsc::kVersion61, netvsc::kVersion61)).init_complete.status == 1);
}

TEST_CASE("adapter: one signal does a bounded part of the work", "[hv][network]") {
    Bed bed(0, 257);
    bed.start();
    const auto message = nvsp(Nvsp::RevokeSendBuffer);  // costs nothing but its place in the ring
    u32 written = 0;
    while (bed.rings->out.write(PacketType::InBand, 0, 1, test::bytes_of(message)).room) ++written;
    REQUIRE(written > NetworkAdapter::kPacketsPerEvent);
    bed.signal();
    CHECK(bed.rings->out.used() == (written - NetworkAdapter::kPacketsPerEvent) * 64);
    CHECK(bed.events.next() == NetworkAdapter::kPause);
    for (VTime now = 0; now <= 20 * NetworkAdapter::kPause; now += NetworkAdapter::kPause) bed.run_to(now);
    CHECK(bed.rings->out.used() == 0);
    CHECK(bed.events.next() == kNever);
}

TEST_CASE("adapter: sub-channels carry data both ways", "[hv][network]") {
    Bed bed(2);
    bed.start();
    bed.guest.forget();
    CHECK(bed.ask(nvsp_sub_channels(2)).sub_channels_complete.count == 2);
    std::vector<u32> subs;
    while (const auto offer = bed.guest.receive<OfferChannel>(hv::vmbus::MessageType::OfferChannel)) {
        CHECK(offer->sub_channel_index == subs.size() + 1);
        subs.push_back(offer->relid);
    }
    REQUIRE(subs.size() == 2);
    auto sub = bed.guest.open_rings(subs[0], 5);
    CHECK(bed.guest.open_status == 0);
    const auto table = bed.read();
    REQUIRE(table);
    CHECK(table->descriptor.type == 6);
    CHECK(read_at<u32>(table->payload, 0) == 134);
    std::copy_n(rndis_frame(plain_frame(kPeerAddress, 100)).begin(), 144,
                bed.world.memory.begin() + static_cast<std::ptrdiff_t>(bed.send_pages[0] * 4096));
    sub.out.write(PacketType::InBand, 1, 4711, test::bytes_of(nvsp_rndis(0, 0, 144)));
    bed.server.on_signal(event_connection(static_cast<u16>(subs[0])));
    CHECK(bed.wire.frames.size() == 1);
    bed.run_to(1'000'000);
    const auto answer = sub.in.read();
    REQUIRE(answer);
    CHECK(answer->descriptor.transaction_id == 4711);
}

TEST_CASE("adapter: a pulled cable loses frames both ways and tells the guest (D-72)", "[hv][network]") {
    Bed bed;
    bed.start();
    bed.adapter.set_link(false);
    CHECK(bed.read()->descriptor.type == 7);
    bed.adapter.receive(plain_frame(kGuestAddress, 100));
    bed.send(rndis_frame(plain_frame(kPeerAddress, 100)));
    CHECK_FALSE(bed.read());
    CHECK(bed.wire.frames.empty());
    bed.adapter.set_link(true);
    CHECK(bed.read()->descriptor.type == 7);
    bed.adapter.receive(plain_frame(kGuestAddress, 100));
    CHECK(bed.read()->descriptor.type == 7);
}

TEST_CASE("adapter: state saved in the middle goes on in another machine", "[hv][network]") {
    Bed bed(0, 3);
    bed.start();
    for (u8 i = 0; i < 200; ++i) bed.adapter.receive(plain_frame(kGuestAddress, 100, i));  // more than the ring takes
    while (bed.read()) {
    }
    for (u8 i = 0; i < 150; ++i) bed.adapter.receive(plain_frame(kGuestAddress, 100, i));
    for (int i = 0; i < 5; ++i) bed.send(rndis_frame(plain_frame(kPeerAddress, 100)));
    const auto tree = save(bed.events, bed.server, bed.adapter);

    Bed other(0, 3);
    other.world.memory = bed.world.memory;
    other.clock.set(bed.clock.now());
    CHECK(load(tree, other.events, other.server, other.adapter).empty());
    CHECK(save(other.events, other.server, other.adapter) == tree);
    other.rings.emplace(*bed.rings);
    other.rings->in = GuestRing(other.world, bed.rings->in.control_page(), bed.rings->in.size());
    other.rings->out = GuestRing(other.world, bed.rings->out.control_page(), bed.rings->out.size());
    const auto drain = [](Bed& one) {
        std::vector<std::pair<u16, u64>> seen;
        for (VTime now = 0; now < 1'000'000; now += 50'000) {
            one.run_to(now);
            one.signal();
            while (const auto packet = one.read())
                seen.emplace_back(packet->descriptor.type, packet->descriptor.transaction_id);
        }
        return seen;
    };
    const auto here = drain(bed), there = drain(other);
    CHECK(here.size() > 150);
    CHECK(here == there);
    CHECK(bed.adapter.core().in_flight() == 0);
    CHECK(save(other.events, other.server, other.adapter) == save(bed.events, bed.server, bed.adapter));
}
