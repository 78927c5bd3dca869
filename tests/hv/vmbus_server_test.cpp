// Channel messages against the server: rows V-01..V-64 and S-40.
#include <catch2/catch.hpp>

#include "tests/support/vmbus_guest.h"

using namespace vg;
using namespace vg::hv::vmbus;
using vg::test::FakeDevice;
using vg::test::FakeWorld;
using vg::test::VmbusGuest;

namespace {

struct Bed {
    explicit Bed(ServerOptions options = {}, std::size_t pages = 1024)
        : world(pages), server(world, log, options), guest(world, server) {
        Offer offer;
        offer.name = "disk";
        offer.type = hv::kScsiControllerClass;
        offer.instance = hv::guid("00000000-0000-0000-0000-000000000001");
        offer.flags = kOfferEnumerate;
        relid = server.offer(offer, device);
    }
    void connect(u32 version = kVersion5_3) {
        REQUIRE(guest.contact(version)->supported == 1);
        REQUIRE(guest.request_offers().size() == 1);
        REQUIRE(guest.receive<AllOffersDelivered>(MessageType::AllOffersDelivered));
    }
    FakeWorld world;
    Log log;
    Server server;
    VmbusGuest guest;
    FakeDevice device;
    u16 relid = 0;
};

ServerOptions up_to(u32 version) {
    ServerOptions options;
    options.max_version = version;
    return options;
}

}  // namespace

TEST_CASE("vmbus: GUIDs are parsed into wire order and printed back", "[hv][vmbus]") {
    constexpr hv::Guid id = hv::guid("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
    CHECK(id ==
          hv::Guid{0xd9, 0x63, 0x61, 0xba, 0xa1, 0x04, 0x29, 0x4d, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f});
    CHECK(hv::to_string(id) == "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
    hv::Guid out{};
    CHECK_FALSE(hv::parse_guid("ba6163d9-04a1-4d29-b605-72e2ffb1dc7", out));
    CHECK_FALSE(hv::parse_guid("ba6163d9-04a1-4d29-b605x72e2ffb1dc7f", out));
    CHECK_FALSE(hv::parse_guid("ga6163d9-04a1-4d29-b605-72e2ffb1dc7f", out));
}

TEST_CASE("vmbus: Linux 6.1's sequence connects, lists offers and opens (V-06, V-20, V-30, V-34, D-01, D-18)",
          "[hv][vmbus]") {
    Bed bed;
    const auto response = bed.guest.contact(kVersion5_3, 0, 2);
    REQUIRE(response);
    CHECK(response->supported == 1);
    CHECK(response->connection_state == 0);
    CHECK(response->connection_id == kMessageConnectionContact);  // V-43: a working id
    CHECK(bed.world.last_sint == 2);
    CHECK(bed.server.version() == kVersion5_3);

    const auto offers = bed.guest.request_offers();
    REQUIRE(offers.size() == 1);
    CHECK(bed.guest.receive<AllOffersDelivered>(MessageType::AllOffersDelivered));
    CHECK(offers[0].type == hv::kScsiControllerClass);
    CHECK(offers[0].relid == bed.relid);
    CHECK(offers[0].sub_channel_index == 0);
    CHECK(offers[0].monitor_allocated == 0);    // V-63
    CHECK(offers[0].dedicated_interrupt == 1);  // V-60
    CHECK(offers[0].connection_id == (0x2000u | bed.relid));
    CHECK((offers[0].flags & 0x400) == 0);

    auto rings = bed.guest.open_rings(bed.relid);
    CHECK(bed.guest.open_status == kStatusSuccess);
    CHECK(bed.device.opens == 1);
    CHECK(bed.device.signals == 1);
    CHECK(bed.world.events.contains(offers[0].connection_id));
    CHECK((rings.in.features() & 1) == 1);  // V-71

    bed.guest.post(MessageType::CloseChannel, CloseChannel{{}, bed.relid});
    CHECK(bed.device.closes == 1);
    CHECK(bed.world.events.empty());
    CHECK(bed.guest.unread() == 0);  // V-36: no response
    bed.guest.post(MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, rings.gpadl});
    const auto torn = bed.guest.receive<GpadlTorndown>(MessageType::GpadlTorndown);
    REQUIRE(torn);
    CHECK(torn->gpadl == rings.gpadl);
    CHECK(bed.server.gpadls().empty());
}

TEST_CASE("vmbus: Linux 7.2 starts at 6.0; a server of 5.3 refuses it, then 5.3 is taken (V-19, V-20)", "[hv][vmbus]") {
    Bed bed(up_to(kVersion5_3));
    const auto refused = bed.guest.contact(kVersion6_0);
    REQUIRE(refused);
    CHECK(refused->supported == 0);
    CHECK(bed.server.state() == Server::State::Disconnected);
    const auto accepted = bed.guest.contact(kVersion5_3);
    REQUIRE(accepted);
    CHECK(accepted->supported == 1);
    CHECK(bed.guest.unread() == 0);
}

TEST_CASE("vmbus: 6.0 without features gets the short answer, with known features the long one (V-21)", "[hv][vmbus]") {
    Bed bed;
    CHECK(bed.guest.contact(kVersion6_0)->supported == 1);
    InitiateContact message{};
    message.version = kVersion6_0;
    message.interrupt_page_or_target = 2 | u64{0x11} << 32;
    bed.guest.post(MessageType::InitiateContact, message);
    const auto longer = bed.guest.receive<VersionResponse2>(MessageType::VersionResponse);
    REQUIRE(longer);
    CHECK(longer->supported == 1);
    CHECK(longer->features == kFeatureGuestSignalParameters);
    message.interrupt_page_or_target = 2 | u64{0x100} << 32;  // an unknown feature
    bed.guest.post(MessageType::InitiateContact, message);
    CHECK(bed.guest.receive<VersionResponse>(MessageType::VersionResponse));
}

TEST_CASE(
    "vmbus: each known version up to the maximum is accepted, every other refused (V-10..V-20, V-12, V-13, V-14, V-16, "
    "V-18)",
    "[hv][vmbus]") {
    for (const u32 maximum : kKnownVersions) {
        for (const u32 version : kKnownVersions) {
            Bed bed(up_to(maximum));
            const auto response = bed.guest.contact(version);
            REQUIRE(response);
            CHECK((response->supported == 1) == (version <= maximum));
            if (version < kVersion5_0 && version <= maximum) CHECK(response->connection_id == version);
        }
    }
    for (const u32 unknown : {0u, 0x00020003u, 0x00050004u, 0x00060001u, 0xffffffffu}) {
        Bed bed;
        const auto response = bed.guest.contact(unknown);
        REQUIRE(response);
        CHECK(response->supported == 0);
    }
}

TEST_CASE("vmbus: messages go to the VP and SINT of INITIATE_CONTACT as the version has it (V-02)", "[hv][vmbus]") {
    Bed bed;
    bed.guest.contact(kVersion5_3, 3, 5);
    CHECK(bed.world.last_vp == 3);
    CHECK(bed.world.last_sint == 5);
    bed.guest.contact(kVersion3_0, 3);
    CHECK(bed.world.last_vp == 3);
    CHECK(bed.world.last_sint == 2);
    bed.guest.contact(kVersion2_4, 3);
    CHECK(bed.world.last_vp == 0);  // honoured from 3.0 on
    CHECK(bed.guest.contact(kVersion5_3, 0, 16)->supported == 0);
    CHECK(bed.guest.contact(kVersion5_3, 0, 0)->supported == 0);
}

TEST_CASE("vmbus: ALLOFFERS_DELIVERED comes even without offers (V-33)", "[hv][vmbus]") {
    FakeWorld world;
    Log log;
    Server server(world, log);
    VmbusGuest guest(world, server);
    guest.contact(kVersion5_3);
    CHECK(guest.request_offers().empty());
    CHECK(guest.receive<AllOffersDelivered>(MessageType::AllOffersDelivered));
}

TEST_CASE("vmbus: V-32 a second REQUESTOFFERS on one connection brings no second offers", "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    bed.guest.post(MessageType::RequestOffers, RequestOffers{});  // the same relids again would be released as doubles
    CHECK(bed.guest.unread() == 0);
    bed.connect();  // on a new one it does
}

TEST_CASE("vmbus: a GPADL of 16 MiB comes in 146 bodies and is answered after the last (V-37..V-39)", "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    const auto pfns = bed.guest.pages(4096);
    CHECK(bed.guest.create_gpadl(bed.relid, 0xE1E10, pfns) == kStatusSuccess);
    CHECK(bed.guest.bodies == 146);
    CHECK_FALSE(bed.guest.early_answer);
    REQUIRE(bed.server.gpadls().size() == 1);
    const Gpadl& gpadl = bed.server.gpadls().begin()->second;
    REQUIRE(gpadl.ranges().size() == 1);
    CHECK(gpadl.ranges()[0].pfns == pfns);
    bed.guest.post(MessageType::GpadlBody, GpadlBody{{}, 0, 0xE1E10});  // one too many: ignored
    CHECK(bed.guest.unread() == 0);
}

TEST_CASE("vmbus: a GPADL of several ranges with offsets completes when all pages came", "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    const auto word = [](u32 bytes, u32 offset) { return u64{offset} << 32 | bytes; };
    const u64 words[] = {word(4096, 0), 10, word(4096, 100), 20, 21, word(1, 4095), 30};
    GpadlHeader header{};
    header.relid = bed.relid;
    header.gpadl = 7;
    header.range_count = 3;
    for (std::size_t cut = 0; cut <= std::size(words); ++cut) {
        const auto* raw = reinterpret_cast<const u8*>(words);
        bed.guest.post(MessageType::GpadlHeader, header, {raw, cut * 8});
        if (cut < std::size(words)) {
            CHECK(bed.guest.unread() == 0);
            bed.guest.post(MessageType::GpadlBody, GpadlBody{{}, 0, 7}, {raw + cut * 8, (std::size(words) - cut) * 8});
        }
        CHECK(bed.guest.receive<GpadlCreated>(MessageType::GpadlCreated)->status == kStatusSuccess);
        CHECK(bed.server.gpadl_pages() == 4);
        bed.guest.post(MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, 7});
        CHECK(bed.guest.receive<GpadlTorndown>(MessageType::GpadlTorndown));
    }
}

TEST_CASE("vmbus: bad GPADLs are refused with a status and leave nothing behind (V-39)", "[hv][vmbus]") {
    ServerOptions options;
    options.max_gpadls = 2;
    options.max_gpadl_pages = 100;
    options.max_total_pages = 150;
    Bed bed(options);
    bed.connect();
    const auto single = bed.guest.pages(1);
    SECTION("unknown channel") { CHECK(bed.guest.create_gpadl(99, 1, single) == kStatusUnexpected); }
    SECTION("no range") {
        bed.guest.post(MessageType::GpadlHeader, GpadlHeader{{}, bed.relid, 1, 0, 0});
        CHECK(bed.guest.receive<GpadlCreated>(MessageType::GpadlCreated)->status == kStatusUnexpected);
    }
    SECTION("empty range") {
        const u64 zero = 0;
        bed.guest.post(MessageType::GpadlHeader, GpadlHeader{{}, bed.relid, 1, 8, 1},
                       {reinterpret_cast<const u8*>(&zero), 8});
        CHECK(bed.guest.receive<GpadlCreated>(MessageType::GpadlCreated)->status == kStatusUnexpected);
    }
    SECTION("a page number that no address has") {
        const u64 pfns[] = {u64{1} << 40};
        CHECK(bed.guest.create_gpadl(bed.relid, 1, pfns) == kStatusUnexpected);
    }
    SECTION("the largest range that 32 bits can say") {
        const u64 word = ~u64{0};
        bed.guest.post(MessageType::GpadlHeader, GpadlHeader{{}, bed.relid, 1, 8, 1},
                       {reinterpret_cast<const u8*>(&word), 8});
        CHECK(bed.guest.receive<GpadlCreated>(MessageType::GpadlCreated)->status == kStatusUnexpected);
    }
    SECTION("pages per GPADL: 100 pass, 101 do not") {
        CHECK(bed.guest.create_gpadl(bed.relid, 1, bed.guest.pages(101)) == kStatusUnexpected);
        CHECK(bed.guest.create_gpadl(bed.relid, 1, bed.guest.pages(100)) == kStatusSuccess);
        return;
    }
    SECTION("pages in all: 150 pass, 151 do not") {
        CHECK(bed.guest.create_gpadl(bed.relid, 1, bed.guest.pages(100)) == kStatusSuccess);
        CHECK(bed.guest.create_gpadl(bed.relid, 2, bed.guest.pages(51)) == kStatusUnexpected);
        CHECK(bed.guest.create_gpadl(bed.relid, 2, bed.guest.pages(50)) == kStatusSuccess);
        CHECK(bed.guest.create_gpadl(bed.relid, 3, single) == kStatusUnexpected);  // max_gpadls
        return;
    }
    SECTION("a handle in use keeps its first meaning") {
        CHECK(bed.guest.create_gpadl(bed.relid, 1, single) == kStatusSuccess);
        CHECK(bed.guest.create_gpadl(bed.relid, 1, bed.guest.pages(1)) == kStatusUnexpected);
        CHECK(bed.server.gpadls().at(1).ranges()[0].pfns == single);
        return;
    }
    CHECK(bed.server.gpadls().empty());
}

TEST_CASE("vmbus: rings of every size that drivers use open (V-70, V-81)", "[hv][vmbus]") {
    // keyboard and mouse, integration components, balloon and vPCI, storage, video, network: pages per direction
    for (const u32 pages_each : {2u, 3u, 4u, 5u, 9u, 32u, 64u, 128u}) {
        Bed bed;
        bed.connect();
        auto rings = bed.guest.open_rings(bed.relid, pages_each);
        CHECK(bed.guest.open_status == kStatusSuccess);
        REQUIRE(rings.out.write(PacketType::InBand, 0, 1, std::array<u8, 8>{}).signal);
        bed.server.on_signal(event_connection(bed.relid));
        CHECK(bed.device.received.size() == 1);
        REQUIRE(bed.device.last->write_completion(1, std::array<u8, 8>{}));
        CHECK(rings.in.read());
    }
}

TEST_CASE("vmbus: OPENCHANNEL with a wrong ring is answered with both ids and a status (V-35)", "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    REQUIRE(bed.guest.create_gpadl(bed.relid, 1, bed.guest.pages(6)) == kStatusSuccess);
    const auto status = [&](u32 relid, u32 gpadl, u32 split) {
        const auto result = bed.guest.open(relid, gpadl, split);
        REQUIRE(result);
        CHECK(result->relid == relid);
        CHECK(result->open_id == relid);
        return result->status;
    };
    CHECK(status(99, 1, 3) != 0);
    CHECK(status(0xffff'ffff, 1, 3) != 0);
    CHECK(status(bed.relid, 2, 3) != 0);
    for (const u32 split : {0u, 1u, 5u, 6u, 7u, 0xffff'ffffu}) CHECK(status(bed.relid, 1, split) != 0);
    CHECK(bed.device.opens == 0);
    CHECK(bed.world.events.empty());
    CHECK(status(bed.relid, 1, 2) == 0);
    CHECK(status(bed.relid, 1, 2) != 0);  // already open
    CHECK(bed.device.opens == 1);
}

TEST_CASE("vmbus: a ring whose indices or pages are impossible does not open (V-71)", "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    auto pfns = bed.guest.pages(4);
    const u64 out = pfns[0] << 12;
    SECTION("write index past the end") { bed.world.set<u32>(out, 4096); }
    SECTION("read index off its boundary") { bed.world.set<u32>(out + 4, 12); }
    SECTION("host-to-guest write index past the end") { bed.world.set<u32>(out + 0x2000, 0xffff'fff8); }
    SECTION("not memory") { pfns[2] = kMaxPfn; }
    REQUIRE(bed.guest.create_gpadl(bed.relid, 1, pfns) == kStatusSuccess);
    CHECK(bed.guest.open(bed.relid, 1, 2)->status != 0);
    CHECK(bed.world.events.empty());
    CHECK(bed.device.opens == 0);
}

TEST_CASE("vmbus: tearing down the GPADL of an open ring closes the channel first (V-40)", "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    auto rings = bed.guest.open_rings(bed.relid);
    bed.guest.post(MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, rings.gpadl});
    CHECK(bed.guest.receive<GpadlTorndown>(MessageType::GpadlTorndown));
    CHECK(bed.device.closes == 1);
    const auto before = bed.world.memory;
    CHECK(bed.device.last->write_completion(1, std::array<u8, 8>{}));  // dropped: the pages are the guest's again
    bed.server.on_signal(0x2000u | bed.relid);
    CHECK(bed.world.memory == before);
    bed.guest.post(MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, 0x1234});
    CHECK(bed.guest.receive<GpadlTorndown>(MessageType::GpadlTorndown)->gpadl == 0x1234);  // V-04: answered always
}

TEST_CASE("vmbus: a relid is reused only after RELID_RELEASED (V-31, V-41)", "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    auto rings = bed.guest.open_rings(bed.relid);
    bed.server.rescind(bed.relid);
    CHECK(bed.guest.receive<RescindOffer>(MessageType::RescindOffer)->relid == bed.relid);
    CHECK(bed.device.closes == 1);
    FakeDevice second;
    const u16 other = bed.server.offer(Offer{}, second);
    CHECK(other != bed.relid);
    CHECK(bed.guest.receive<OfferChannel>(MessageType::OfferChannel)->relid == other);  // a late offer is announced
    // Linux cleans up like this, also after a rescind (V-40).
    bed.guest.post(MessageType::CloseChannel, CloseChannel{{}, bed.relid});
    bed.guest.post(MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, rings.gpadl});
    CHECK(bed.guest.receive<GpadlTorndown>(MessageType::GpadlTorndown));
    bed.guest.post(MessageType::RelidReleased, RelidReleased{{}, other});  // not rescinded: no effect
    bed.guest.post(MessageType::RelidReleased, RelidReleased{{}, bed.relid});
    CHECK(bed.server.find(other) != nullptr);
    CHECK(bed.server.find(bed.relid) == nullptr);
    CHECK(bed.server.offer(Offer{}, second) == bed.relid);
}

TEST_CASE("vmbus: an offer that no guest has seen is taken back silently", "[hv][vmbus]") {
    Bed bed;
    bed.server.rescind(bed.relid);
    CHECK(bed.guest.unread() == 0);
    CHECK(bed.server.channels().empty());
}

TEST_CASE("vmbus: the number of channels is limited", "[hv][vmbus]") {
    ServerOptions options;
    options.max_channels = 3;
    Bed bed(options);
    CHECK(bed.server.offer(Offer{}, bed.device) == 2);
    CHECK(bed.server.offer(Offer{}, bed.device) == 3);
    CHECK(bed.server.offer(Offer{}, bed.device) == 0);
}

TEST_CASE("vmbus: sub-channels share GUIDs, have own relids and go with their primary (V-64)", "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    CHECK(bed.server.offer_sub_channels(*bed.server.find(bed.relid), 2) == 0);  // not open
    bed.guest.open_rings(bed.relid);
    Channel& primary = *bed.device.last;
    CHECK(primary.offer_sub_channels(2) == 2);
    CHECK(primary.offer_sub_channels(2) == 2);  // not twice
    std::vector<u32> subs;
    for (u16 index = 1; index <= 2; ++index) {
        const auto offer = bed.guest.receive<OfferChannel>(MessageType::OfferChannel);
        REQUIRE(offer);
        CHECK(offer->sub_channel_index == index);
        CHECK(offer->type == hv::kScsiControllerClass);
        CHECK(offer->instance == primary.offer().instance);
        subs.push_back(offer->relid);
    }
    CHECK(bed.guest.unread() == 0);
    bed.guest.open_rings(subs[0]);
    CHECK(bed.guest.open_status == 0);
    CHECK(bed.device.opens == 2);
    bed.guest.post(MessageType::CloseChannel, CloseChannel{{}, bed.relid});
    CHECK(bed.device.closes == 2);
    CHECK(bed.guest.receive<RescindOffer>(MessageType::RescindOffer)->relid == subs[0]);
    CHECK(bed.guest.receive<RescindOffer>(MessageType::RescindOffer)->relid == subs[1]);
}

TEST_CASE("vmbus: signals go to the target VP with the relid as flag, and follow MODIFYCHANNEL (V-47, V-61)",
          "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    const auto pfns = bed.guest.pages(4);
    REQUIRE(bed.guest.create_gpadl(bed.relid, 1, pfns) == 0);
    REQUIRE(bed.guest.open(bed.relid, 1, 2, kNoVp)->status == 0);
    Channel& channel = *bed.device.last;
    bed.server.signal_guest(channel);
    CHECK(bed.world.signals.empty());  // interrupts off until MODIFYCHANNEL
    bed.guest.post(MessageType::ModifyChannel, ModifyChannel{{}, bed.relid, 2});
    const auto response = bed.guest.receive<ModifyChannelResponse>(MessageType::ModifyChannelResponse);
    REQUIRE(response);
    CHECK(response->relid == bed.relid);
    CHECK(response->status == 0);
    CHECK(bed.world.signals == std::vector<FakeWorld::Signal>{{2, 2, bed.relid}});  // for what came meanwhile
    bed.server.signal_guest(channel);
    CHECK(bed.world.signals.size() == 2);
    const auto refused = [&](u32 relid, u32 target) {
        bed.guest.post(MessageType::ModifyChannel, ModifyChannel{{}, relid, target});
        return bed.guest.receive<ModifyChannelResponse>(MessageType::ModifyChannelResponse)->status != 0;
    };
    CHECK(refused(77, 2));
    CHECK(refused(bed.relid, kNoVp));  // only OPENCHANNEL turns interrupts off
    CHECK(channel.rings().target_vp == 2);
    CHECK_FALSE(refused(bed.relid, 3));
    CHECK(bed.world.signals.size() == 2);
}

TEST_CASE("vmbus: MODIFYCHANNEL has an answer only from 5.3, and no effect below 4.1 (V-47, V-49)", "[hv][vmbus]") {
    for (const u32 version : kKnownVersions) {
        Bed bed;
        bed.connect(version);
        bed.guest.open_rings(bed.relid);
        bed.guest.post(MessageType::ModifyChannel, ModifyChannel{{}, bed.relid, 1});
        CHECK(bed.guest.receive<ModifyChannelResponse>(MessageType::ModifyChannelResponse).has_value() ==
              (version >= kVersion5_3));
        CHECK((bed.device.last->rings().target_vp == 1) == (version >= kVersion4_1));
    }
}

TEST_CASE("vmbus: guest-specified signal parameters replace connection and flag (V-34)", "[hv][vmbus]") {
    Bed bed;
    InitiateContact contact{};
    contact.version = kVersion6_0;
    contact.interrupt_page_or_target = 2 | u64{kFeatureGuestSignalParameters} << 32;
    bed.guest.post(MessageType::InitiateContact, contact);
    REQUIRE(bed.guest.receive<VersionResponse2>(MessageType::VersionResponse));
    bed.guest.request_offers();
    bed.guest.forget();
    REQUIRE(bed.guest.create_gpadl(bed.relid, 1, bed.guest.pages(4)) == 0);
    OpenChannel open{};
    open.relid = bed.relid;
    open.ring_gpadl = 1;
    open.downstream_page_offset = 2;
    const auto try_open = [&](OpenChannel2Extra extra) {
        bed.guest.post(MessageType::OpenChannel, open, {reinterpret_cast<const u8*>(&extra), sizeof extra});
        return bed.guest.receive<OpenResult>(MessageType::OpenResult)->status;
    };
    bed.world.events.insert(0x777);
    CHECK(try_open({0x777, 9, 0, 0}) != 0);               // the connection id is taken
    CHECK(try_open({0x9999, 2048, 0, 0}) != 0);           // no such event flag
    CHECK(bed.guest.open(bed.relid, 1, 2)->status != 0);  // the short form is not what was negotiated
    CHECK(try_open({0x9999, 9, 0, 0}) == 0);
    CHECK(bed.world.events.contains(0x9999));
    bed.server.signal_guest(*bed.device.last);
    CHECK(bed.world.signals.back().flag == 9);
    bed.server.on_signal(0x9999);
    CHECK(bed.device.signals == 2);
}

TEST_CASE("vmbus: UNLOAD is answered with channels open, again when repeated, and contact works after it (V-44)",
          "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    bed.guest.open_rings(bed.relid);
    bed.device.last->offer_sub_channels(1);
    bed.guest.forget();
    bed.guest.post(MessageType::Unload, Unload{});
    CHECK(bed.guest.receive<UnloadResponse>(MessageType::UnloadResponse));
    CHECK(bed.device.closes == 1);
    CHECK(bed.server.gpadls().empty());
    CHECK(bed.server.channels().size() == 1);
    CHECK(bed.world.events.empty());
    CHECK(bed.server.last_version() == kVersion5_3);
    bed.guest.post(MessageType::Unload, Unload{});
    CHECK(bed.guest.receive<UnloadResponse>(MessageType::UnloadResponse));
    bed.connect(kVersion4_1);
    bed.guest.open_rings(bed.relid);
    CHECK(bed.guest.open_status == 0);
}

TEST_CASE("vmbus: a new contact without UNLOAD starts over (kexec)", "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    bed.guest.open_rings(bed.relid);
    CHECK(bed.guest.contact(kVersion5_3)->supported == 1);
    CHECK(bed.guest.unread() == 0);
    CHECK(bed.device.closes == 1);
    CHECK(bed.server.gpadls().empty());
}

TEST_CASE("vmbus: a socket connection is refused with a result from 4.1 on (V-46, V-48)", "[hv][vmbus]") {
    for (const u32 version : kKnownVersions) {
        Bed bed;
        bed.connect(version);
        TlConnectRequest request{};
        request.endpoint[0] = 1;
        request.service[0] = 2;
        bed.guest.post(MessageType::TlConnectRequest, request, std::array<u8, 16>{});  // 56 bytes from 5.2 on
        const auto result = bed.guest.receive<TlConnectResult>(MessageType::TlConnectResult);
        CHECK(result.has_value() == (version >= kVersion4_1));
        if (result) {
            CHECK(result->endpoint == request.endpoint);
            CHECK(result->service == request.service);
            CHECK(result->status == 0xC0000236);
        }
    }
}

TEST_CASE("vmbus: below 2.4 signals go through the interrupt page and the shared connection (V-10, V-42)",
          "[hv][vmbus]") {
    Bed bed;
    bed.connect(kVersion1_1);
    CHECK(bed.world.events == std::set<u32>{kSharedEventConnection});
    bed.guest.open_rings(bed.relid);
    REQUIRE(bed.guest.open_status == 0);
    const u64 page = VmbusGuest::kInterruptPage;
    bed.world.memory[page + 2048 + bed.relid / 8] = static_cast<u8>(1 << bed.relid % 8);
    const u32 before = bed.device.signals;
    bed.server.on_signal(kSharedEventConnection);
    CHECK(bed.device.signals == before + 1);
    CHECK(bed.world.memory[page + 2048 + bed.relid / 8] == 0);
    bed.server.on_signal(kSharedEventConnection);
    CHECK(bed.device.signals == before + 1);
    bed.server.signal_guest(*bed.device.last);
    CHECK(bed.world.signals.back() == FakeWorld::Signal{0, 2, 0});
    CHECK(bed.world.memory[page + bed.relid / 8] == 1 << bed.relid % 8);
}

TEST_CASE("vmbus: answers wait while the guest takes no messages, and nothing more is accepted (V-04)", "[hv][vmbus]") {
    ServerOptions options;
    options.max_unsent_messages = 3;
    Bed bed(options);
    bed.connect();
    bed.world.accept_messages = false;
    u32 taken = 0;
    for (; taken < 100 && bed.server.accepting(); ++taken)
        bed.guest.post(MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, taken});
    CHECK(taken == 3);
    CHECK(bed.server.has_unsent());
    bed.world.accept_messages = true;
    bed.server.flush();
    CHECK_FALSE(bed.server.has_unsent());
    for (u32 handle = 0; handle < taken; ++handle)
        CHECK(bed.guest.receive<GpadlTorndown>(MessageType::GpadlTorndown)->gpadl == handle);  // V-03: in order
}

TEST_CASE("vmbus: before contact and for unknown types messages are ignored", "[hv][vmbus]") {
    Bed bed;
    bed.guest.post(MessageType::RequestOffers, RequestOffers{});
    bed.guest.post(MessageType::Unload, Unload{});
    bed.guest.open(bed.relid, 1, 2);
    CHECK(bed.guest.unread() == 0);
    bed.connect();
    for (const u32 type : {0u, 1u, 2u, 4u, 6u, 18u, 19u, 20u, 25u, 29u, 0xffffffffu}) {
        std::array<u8, 240> message{};
        std::memcpy(message.data(), &type, 4);
        bed.server.on_message(message);
    }
    CHECK(bed.guest.unread() == 0);
}

TEST_CASE("vmbus: every message truncated at every byte does no harm", "[hv][vmbus]") {
    for (u32 type = 0; type < 32; ++type) {
        for (std::size_t size = 0; size <= kMaxMessageSize + 1; ++size) {
            Bed bed({}, 64);
            bed.connect();
            bed.guest.open_rings(bed.relid, 2);
            std::vector<u8> message(size, u8{1});  // relid 1, handle 0x01010101...
            const u32 words[] = {type, 0, bed.relid, 0xE1E10};
            if (size != 0) std::memcpy(message.data(), words, std::min(size, sizeof words));
            const std::size_t before = bed.world.messages.size();
            bed.server.on_message(message);
            bed.server.on_signal(0x2000u | bed.relid);
            // Whatever it was, a complete message of type 3, 5, 8, 11, 14, 16, 21, 22 is answered and a short one is
            // not.
            if (size < sizeof(MessageHeader) || size > kMaxMessageSize) CHECK(bed.world.messages.size() == before);
            if (type == 5 && size < 148) CHECK(bed.world.messages.size() == before);
            if (type == 14 && size < 40) CHECK(bed.world.messages.size() == before);
            if (type == 11 && size >= 16 && size <= 240) CHECK(bed.world.messages.size() == before + 1);
        }
    }
}

TEST_CASE("vmbus: reset forgets the guest and keeps the offers", "[hv][vmbus]") {
    Bed bed;
    bed.connect();
    bed.guest.open_rings(bed.relid);
    bed.server.reset();
    CHECK(bed.device.closes == 1);
    CHECK(bed.server.last_version() == 0);
    bed.guest.post(MessageType::Unload, Unload{});
    CHECK(bed.guest.unread() == 0);
    bed.connect();
}

TEST_CASE("vmbus: at level debug each message is one line, within a limit (C14)", "[hv][vmbus]") {
    Bed bed;
    std::vector<std::string> lines;
    bed.log.set_sink([&](Area, Level, std::string_view line) { lines.emplace_back(line); });
    bed.log.set_level(Area::Vmbus, Level::Debug);
    bed.guest.contact(kVersion5_3);
    REQUIRE(lines.size() == 3);
    CHECK(lines[0] == "guest: InitiateContact (14), 40 bytes: 00050003 00000000 00000002 00000000 00002000");
    CHECK(lines[1] == "connected with version 5.3");
    CHECK(lines[2] == "host:  VersionResponse (15), 16 bytes: 00000001 00000004");
    for (u32 i = 0; i < 3000; ++i) bed.server.on_message(std::array<u8, 3>{});
    CHECK(lines.size() < 1100);
}
