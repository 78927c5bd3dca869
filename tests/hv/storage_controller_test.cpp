// The whole path below a partition: ring, server, controller, core, disk, completion at its virtual time.
#include <catch2/catch.hpp>

#include <map>
#include <set>

#include "base/events.h"
#include "base/state.h"
#include "hv/parent/storage_controller.h"
#include "tests/support/state_tree.h"
#include "tests/support/storage_guest.h"
#include "tests/support/vmbus_guest.h"

using namespace vg;
using namespace vg::hv::vmbus;
using hv::parent::storage_latency_ns;
using hv::parent::StorageController;
using test::cdb;
using test::FakeWorld;
using test::MemoryDevice;
using test::srb_packet;
using test::VmbusGuest;
using test::storvsc::DataDirection;
using test::storvsc::Operation;

namespace {

constexpr hv::Guid kInstance = hv::guid("12345678-0000-0000-0000-000000000001");

struct Bed {
    explicit Bed(u16 sub_channels = 0, u32 pages_each = 33) : Bed(Fresh{}, sub_channels) {
        guest.contact(kVersion5_3);
        guest.request_offers();
        guest.forget();
        rings.emplace(guest.open_rings(relid, pages_each));
        CHECK(guest.open_status == 0);
        initialise();
    }
    /// Devices without a guest.
    struct Fresh {};
    explicit Bed(Fresh, u16 sub_channels = 0)
        : controller("scsi0", kInstance, events, log, sub_channels), server(world, log), guest(world, server) {
        CHECK(controller.attach(0, 0, 0, std::make_unique<MemoryDevice>(4096, &flushes)));
        Offer offer;
        offer.type = hv::kScsiControllerClass;
        offer.instance = kInstance;
        relid = server.offer(offer, controller);
    }
    void initialise() {
        u64 id = ~u64{0} - 2;  // D-32
        for (const Operation operation :
             {Operation::BeginInit, Operation::QueryProtocolVersion, Operation::QueryProperties, Operation::EndInit}) {
            test::storvsc::Packet packet{};
            packet.operation = static_cast<u32>(operation);
            packet.version.version = operation == Operation::QueryProtocolVersion ? 0x0602 : 0;
            send(*rings, packet, id);
            const auto answer = receive(*rings);
            CHECK(answer.descriptor.transaction_id == id);
            CHECK(answer.descriptor.type == 0xb);
            CHECK(answer.payload.size() == 64);
            CHECK(packet_of(answer).status == 0);
        }
    }
    static test::storvsc::Packet packet_of(const test::GuestRing::Packet& answer) {
        test::storvsc::Packet packet;
        std::memcpy(&packet, answer.payload.data(), sizeof packet);
        return packet;
    }
    void signal(u16 to) { server.on_signal(event_connection(to)); }
    void send(VmbusGuest::Pair& to, const test::storvsc::Packet& packet, u64 id) {
        const auto written = to.out.write(PacketType::InBand, 1, id, test::bytes_of(packet));
        REQUIRE(written.room);
        if (written.signal) signal(relid);
    }
    /// A GPA-direct packet over one range.
    bool send_data(VmbusGuest::Pair& to, const test::storvsc::Packet& packet, u64 id, u32 offset,
                   const std::vector<u64>& pfns, bool lie = false) {
        std::vector<u8> extension(16 + 8 * pfns.size());
        const u32 header[] = {0, lie ? 2u : 1u, packet.srb.transfer_length, offset};
        std::memcpy(extension.data(), header, 16);
        std::memcpy(extension.data() + 16, pfns.data(), 8 * pfns.size());
        const auto written = to.out.write(PacketType::GpaDirect, 1, id, test::bytes_of(packet), extension);
        if (written.signal) signal(relid);
        return written.room;
    }
    test::GuestRing::Packet receive(VmbusGuest::Pair& from) {
        auto packet = from.in.read();
        REQUIRE(packet);
        if (packet->signal_host) signal(relid);
        return *packet;
    }
    void run_to(VTime when) {
        clock.set(when);
        events.run_due(when);
    }

    ManualClock clock;
    EventQueue events{clock};
    FakeWorld world;
    Log log;
    StorageController controller;
    Server server;
    VmbusGuest guest;
    u32 flushes = 0;
    u16 relid = 0;
    std::optional<VmbusGuest::Pair> rings;
};

test::storvsc::Packet read_packet(u32 lba, u32 sectors) {
    return srb_packet(cdb(0x28, 0, lba >> 24, lba >> 16, lba >> 8, lba, 0, sectors >> 8, sectors), DataDirection::Read,
                      sectors * 512);
}

}  // namespace

TEST_CASE("storage: a read lands in the guest's pages and completes at its virtual time", "[hv][storage]") {
    Bed bed;
    bed.clock.set(1'000'000);
    bed.world.signals.clear();
    REQUIRE(bed.send_data(*bed.rings, read_packet(10, 16), 77, 0x200, {900, 950, 901}));
    CHECK(bed.world.memory[900 * 4096 + 0x1ff] == 0);
    CHECK(bed.world.memory[900 * 4096 + 0x200] == 10);  // sector number is the disk's pattern
    CHECK(bed.world.memory[950 * 4096] == 10 + 7);      // 3584 bytes are in the first page
    CHECK(bed.world.memory[901 * 4096 + 0x1ff] == 10 + 15);
    CHECK(bed.world.memory[901 * 4096 + 0x200] == 0);
    CHECK_FALSE(bed.rings->in.read());
    const VTime due = 1'000'000 + storage_latency_ns(8192);
    CHECK(bed.events.next() == due);
    bed.run_to(due - 1);
    CHECK_FALSE(bed.rings->in.read());
    bed.run_to(due);
    CHECK(bed.world.signals == std::vector<FakeWorld::Signal>{{0, 2, bed.relid}});
    const auto answer = bed.receive(*bed.rings);
    CHECK(answer.descriptor.transaction_id == 77);
    CHECK(Bed::packet_of(answer).srb.srb_status == 1);
    CHECK(Bed::packet_of(answer).srb.transfer_length == 8192);
    CHECK(bed.events.next() == kNever);
}

TEST_CASE("storage: a write is read from the guest's pages when it is taken", "[hv][storage]") {
    Bed bed;
    for (u32 i = 0; i < 4096; ++i) bed.world.memory[900 * 4096 + i] = 0xcc;
    REQUIRE(bed.send_data(*bed.rings, srb_packet(cdb(0x2a, 8, 0, 0, 0, 3, 0, 0, 8), DataDirection::Write, 4096), 1, 0,
                          {900}));
    CHECK(bed.flushes == 1);
    for (u32 i = 0; i < 4096; ++i) bed.world.memory[900 * 4096 + i] = 0;
    REQUIRE(bed.send_data(*bed.rings, read_packet(3, 8), 2, 0, {901}));
    CHECK(std::all_of(bed.world.memory.begin() + 901 * 4096, bed.world.memory.begin() + 902 * 4096,
                      [](u8 b) { return b == 0xcc; }));
}

TEST_CASE("storage: shorter requests overtake longer ones by the latency model alone", "[hv][storage]") {
    Bed bed;
    std::vector<u64> pfns(64);
    for (u32 i = 0; i < 64; ++i) pfns[i] = 900 + i;
    REQUIRE(bed.send_data(*bed.rings, read_packet(0, 512), 1, 0, pfns));
    REQUIRE(bed.send_data(*bed.rings, read_packet(0, 1), 2, 0, {900}));
    bed.signal(bed.relid);
    bed.run_to(10'000'000);
    CHECK(bed.receive(*bed.rings).descriptor.transaction_id == 2);
    CHECK(bed.receive(*bed.rings).descriptor.transaction_id == 1);
}

TEST_CASE("storage: pages that are not memory, and ranges that lie, are answered as invalid (D-39)", "[hv][storage]") {
    Bed bed;
    REQUIRE(bed.send_data(*bed.rings, read_packet(0, 8), 1, 0, {kMaxPfn}));
    REQUIRE(bed.send_data(*bed.rings, read_packet(0, 8), 2, 0, {900}, true));
    REQUIRE(bed.send_data(*bed.rings, read_packet(0, 8), 3, 8, {900}));  // 4096 bytes at 8 need two pages
    bed.signal(bed.relid);
    bed.run_to(10'000'000);
    for (u64 id = 1; id <= 3; ++id) {
        const auto answer = bed.receive(*bed.rings);
        CHECK(Bed::packet_of(answer).srb.srb_status == 6);
    }
}

TEST_CASE("storage: with the core full packets stay in the ring and are taken later", "[hv][storage]") {
    Bed bed(0, 17);
    const auto ready = srb_packet(cdb(0), DataDirection::None, 0);
    for (u64 id = 1; id <= 700; ++id) bed.send(*bed.rings, ready, id);
    bed.signal(bed.relid);
    CHECK(bed.controller.core().in_flight() == test::vsp::Storage::kMaxInFlight);
    CHECK(bed.rings->out.used() == (700 - 256) * 88);
    u64 answers = 0;
    for (VTime now = 0; now < 200'000; now += 1000) {
        bed.run_to(now);
        while (bed.rings->in.read()) ++answers;
    }
    CHECK(answers == 700);
    CHECK(bed.rings->out.used() == 0);
}

TEST_CASE("storage: resets between requests neither let a signal do unbounded work nor cost a completion (D-43)",
          "[hv][storage]") {
    Bed bed(0, 65);
    const auto ready = srb_packet(cdb(0), DataDirection::None, 0);
    test::storvsc::Packet reset{};
    reset.operation = static_cast<u32>(Operation::ResetBus);
    u64 sent = 0;
    for (u32 round = 0; round < 8; ++round) {
        for (u32 i = 0; i < 255; ++i)
            REQUIRE(bed.rings->out.write(PacketType::InBand, 1, ++sent, test::bytes_of(ready)).room);
        REQUIRE(bed.rings->out.write(PacketType::InBand, 1, ++sent, test::bytes_of(reset)).room);
    }
    bed.signal(bed.relid);
    CHECK(bed.rings->out.used() >= (sent - 2 * 256) * 88);  // the rest waits in the ring
    const auto saved = test::save(bed.server, bed.controller, bed.events);
    Bed other(Bed::Fresh{});
    other.world.memory = bed.world.memory;
    CHECK(test::load(saved, other.server, other.controller, other.events).empty());
    CHECK((test::save(other.server, other.controller, other.events) == saved));
    std::set<u64> answered;
    for (VTime now = 0; now < 1'000'000; now += 1000) {
        bed.run_to(now);
        while (const auto packet = bed.rings->in.read()) {
            CHECK(answered.insert(packet->descriptor.transaction_id).second);
            if (packet->signal_host) bed.signal(bed.relid);
        }
    }
    CHECK(answered.size() == sent);
    CHECK(bed.rings->out.used() == 0);
}

TEST_CASE("storage: completions without room wait for the guest and hold further packets back (V-74)",
          "[hv][storage]") {
    Bed bed(0, 3);  // 8 KiB of ring: 93 packets of 88 bytes
    const auto ready = srb_packet(cdb(0), DataDirection::None, 0);
    u64 sent = 0, answers = 0, next_answer = 1;
    for (u32 round = 0; round < 20; ++round) {  // nobody reads answers
        while (bed.rings->out.free() > 96) bed.send(*bed.rings, ready, ++sent);
        bed.signal(bed.relid);
        bed.run_to(bed.clock.now() + 100'000);
    }
    CHECK(sent < 600);  // a bound, whatever the guest does
    CHECK(bed.rings->in.control().pending_send_size == 88);
    while (auto packet = bed.rings->in.read()) {
        CHECK(packet->descriptor.transaction_id == next_answer++);
        ++answers;
        if (packet->signal_host) bed.signal(bed.relid);
        if (bed.rings->in.used() == 0) bed.run_to(bed.clock.now() + 100'000);
    }
    CHECK(answers == sent);
}

TEST_CASE("storage: close with requests in flight touches nothing afterwards (C6)", "[hv][storage]") {
    Bed bed;
    bool in_use = true;
    bed.controller.on_use([&](bool now) { in_use = now; });
    REQUIRE(bed.send_data(*bed.rings, read_packet(0, 8), 1, 0, {900}));
    CHECK(bed.controller.core().in_flight() == 1);
    CHECK(in_use);
    SECTION("CLOSECHANNEL") { bed.guest.post(MessageType::CloseChannel, CloseChannel{{}, bed.relid}); }
    SECTION("GPADL teardown") {
        bed.guest.post(MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, bed.rings->gpadl});
    }
    SECTION("UNLOAD") { bed.guest.post(MessageType::Unload, Unload{}); }
    SECTION("rescind") { bed.server.rescind(bed.relid); }
    SECTION("reset") { bed.server.reset(); }
    CHECK(bed.controller.core().in_flight() == 0);
    CHECK_FALSE(in_use);  // another way to the disk may write now (D-41)
    const auto memory = bed.world.memory;
    const auto signals = bed.world.signals.size();
    bed.run_to(10'000'000);
    CHECK(bed.world.memory == memory);
    CHECK(bed.world.signals.size() == signals);
}

TEST_CASE("storage: a reopened channel starts from BEGIN_INIT and old completions do not reach it (C6)",
          "[hv][storage]") {
    Bed bed;
    REQUIRE(bed.send_data(*bed.rings, read_packet(0, 512), 1, 0, std::vector<u64>(64, 900)));
    bed.guest.post(MessageType::CloseChannel, CloseChannel{{}, bed.relid});
    bool in_use = false;
    bed.controller.on_use([&](bool now) { in_use = now; });
    bed.rings.emplace(bed.guest.open_rings(bed.relid));
    CHECK(in_use);
    bed.initialise();
    REQUIRE(bed.send_data(*bed.rings, read_packet(0, 512), 2, 0, std::vector<u64>(64, 900)));
    const VTime due = bed.clock.now() + storage_latency_ns(512 * 512);
    bed.run_to(due);
    CHECK(bed.receive(*bed.rings).descriptor.transaction_id == 2);
    CHECK_FALSE(bed.rings->in.read());
}

TEST_CASE("storage: sub-channels are offered on demand and answer on their own ring (D-42)", "[hv][storage]") {
    Bed bed(2);
    test::storvsc::Packet packet{};
    packet.operation = static_cast<u32>(Operation::CreateSubChannels);
    packet.sub_channel_count = 2;
    bed.send(*bed.rings, packet, 9);
    CHECK(Bed::packet_of(bed.receive(*bed.rings)).status == 0);
    const auto first = bed.guest.receive<OfferChannel>(MessageType::OfferChannel);
    const auto second = bed.guest.receive<OfferChannel>(MessageType::OfferChannel);
    REQUIRE(first);
    REQUIRE(second);
    CHECK(first->instance == kInstance);
    CHECK(second->sub_channel_index == 2);
    auto sub = bed.guest.open_rings(first->relid);
    REQUIRE(bed.guest.open_status == 0);
    const auto ready = srb_packet(cdb(0), DataDirection::None, 0);
    REQUIRE(sub.out.write(PacketType::InBand, 1, 5, test::bytes_of(ready)).signal);
    bed.signal(static_cast<u16>(first->relid));
    bed.run_to(100'000);
    CHECK(Bed::packet_of(bed.receive(sub)).srb.srb_status == 1);
    CHECK_FALSE(bed.rings->in.read());
}

TEST_CASE("storage: attach refuses a taken place, a bad address and a disk without a sector", "[hv][storage]") {
    Bed bed;
    CHECK_FALSE(bed.controller.attach(0, 0, 0, std::make_unique<MemoryDevice>(1)));
    CHECK_FALSE(bed.controller.attach(8, 0, 0, std::make_unique<MemoryDevice>(1)));
    const auto tiny = bed.controller.attach(0, 0, 1, std::make_unique<MemoryDevice>(0));
    REQUIRE_FALSE(tiny);
    CHECK(tiny.error().text == "scsi0: memory is smaller than one sector");
    CHECK(bed.controller.attach(0, 0, 1, std::make_unique<MemoryDevice>(1)));
}

TEST_CASE("storage: no two disks share a serial number or a designator, whatever controller they are on (D-44)",
          "[hv][storage]") {
    ManualClock clock;
    EventQueue events{clock};
    Log log;
    std::map<std::vector<u8>, std::string> seen;
    for (const u8 number : {u8{0}, u8{1}, u8{2}}) {
        hv::Guid instance = kInstance;  // as a machine numbers its controllers: in the last byte
        instance[15] = number;
        StorageController controller("scsi" + std::to_string(number), instance, events, log, 0);
        for (const auto& [target, lun] : {std::pair<u8, u8>{0, 0}, {0, 1}, {1, 0}})
            REQUIRE(controller.attach(0, target, lun, std::make_unique<MemoryDevice>(1)));
        for (const auto& disk : controller.disks()) {
            for (const u8 page : {u8{0x80}, u8{0x83}}) {
                test::MemoryBuffer answer(255);
                REQUIRE(disk.scsi->execute(cdb(0x12, 1, page, 0, 255), answer).outcome ==
                        test::vsp::ScsiResult::Outcome::Good);
                // The NAA name is the last designator: a guest that knows disks by it must not take two for one.
                const std::size_t from = page == 0x83 ? 4 + 4 + 40 + 4 : 4;
                const std::vector<u8> name(answer.bytes.begin() + static_cast<std::ptrdiff_t>(from),
                                           answer.bytes.begin() + 4 + answer.bytes[3]);
                CAPTURE(page, controller.name(), disk.target, disk.lun, seen[name]);
                CHECK(seen[name].empty());
                seen[name] = controller.name();
            }
        }
    }
    CHECK(seen.size() == 3 * 3 * 2);
}

TEST_CASE("storage: equal histories give equal state", "[hv][storage]") {
    const auto digest = [](u32 sectors) {
        Bed bed;
        CHECK(bed.send_data(*bed.rings, read_packet(0, sectors), 1, 0, {900, 901}));
        StateHasher hasher;
        bed.server.fields(hasher);
        bed.controller.fields(hasher);
        return hasher.digest();
    };
    CHECK(digest(8) == digest(8));
    CHECK(digest(8) != digest(9));
}

TEST_CASE("storage: saved in the middle of requests and loaded into fresh devices, all goes on", "[hv][storage]") {
    Bed bed(2, 3);
    test::storvsc::Packet packet{};
    packet.operation = static_cast<u32>(Operation::CreateSubChannels);
    packet.sub_channel_count = 1;
    bed.send(*bed.rings, packet, 9);
    bed.receive(*bed.rings);
    const auto sub_relid = bed.guest.receive<OfferChannel>(MessageType::OfferChannel)->relid;
    auto sub = bed.guest.open_rings(sub_relid);
    bed.guest.post(MessageType::GpadlHeader, GpadlHeader{{}, bed.relid, 99, 16, 1});  // one that still grows
    const auto ready = srb_packet(cdb(0), DataDirection::None, 0);
    for (u64 id = 1; id <= 120; ++id) {  // answers that find no room
        if (bed.rings->out.free() > 96) bed.send(*bed.rings, ready, id);
        bed.signal(bed.relid);
        if (id == 100) bed.run_to(bed.clock.now() + 100'000);
    }
    REQUIRE(sub.out.write(PacketType::InBand, 1, 500, test::bytes_of(ready)).signal);
    bed.signal(static_cast<u16>(sub_relid));
    bed.world.accept_messages = false;
    bed.guest.post(MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, 1234});
    CHECK(bed.controller.core().in_flight() == 1);
    CHECK(bed.server.has_unsent());

    Bed other(Bed::Fresh{}, 2);
    other.clock.set(bed.clock.now());
    other.world.memory = bed.world.memory;
    const auto saved = test::save(bed.server, bed.controller, bed.events);
    CHECK(saved.at("1/channel1/unsent")[0] != 0);
    CHECK(test::load(saved, other.server, other.controller, other.events).empty());
    CHECK((test::save(other.server, other.controller, other.events) == saved));
    CHECK(other.world.events == bed.world.events);
    CHECK((other.controller.disks()[0].scsi->stats().commands == bed.controller.disks()[0].scsi->stats().commands));

    bed.world.accept_messages = true;
    for (Bed* each : {&bed, &other}) {
        each->server.flush();
        for (u32 round = 0; round < 20; ++round) {
            each->run_to(each->clock.now() + 50'000);
            test::GuestRing ring(each->world, bed.rings->in.control_page(), 2 * 4096);
            while (const auto answer = ring.read()) {
                if (answer->signal_host) each->signal(each->relid);
            }
        }
        CHECK(each->controller.core().in_flight() == 0);
        CHECK_FALSE(each->server.has_unsent());
    }
    CHECK(other.world.memory == bed.world.memory);
    CHECK(other.world.messages.back() == bed.world.messages.back());
    CHECK(test::save(other.server, other.controller, other.events) ==
          test::save(bed.server, bed.controller, bed.events));
}

TEST_CASE("storage: damaged saved state is loaded without harm (C12)", "[hv][storage]") {
    Bed bed(0, 3);
    REQUIRE(bed.send_data(*bed.rings, read_packet(0, 8), 1, 0, {900}));
    const auto saved = test::save(bed.server, bed.controller);
    u32 seed = 1;
    for (const auto& [path, value] : saved) {
        for (const u8 damage : {u8{0}, u8{1}, u8{0x7f}, u8{0xff}}) {
            auto tree = saved;
            for (u8& byte : tree[path]) byte = damage;
            if (seed++ % 5 == 0) tree.erase(path);
            Bed other(Bed::Fresh{});
            other.world.memory = bed.world.memory;
            (void)test::load(tree, other.server, other.controller);
            other.signal(other.relid);
            other.run_to(1'000'000);
            other.guest.post(MessageType::CloseChannel, CloseChannel{{}, other.relid});
            other.guest.post(MessageType::Unload, Unload{});
        }
    }
}
