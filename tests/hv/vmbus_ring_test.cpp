// Rings against a guest that follows the rules, and one that does not: rows V-70..V-79.
#include <catch2/catch.hpp>

#include <deque>
#include <map>
#include <random>

#include "tests/support/vmbus_guest.h"

using namespace vg;
using namespace vg::hv::vmbus;
using vg::test::FakeDevice;
using vg::test::FakeWorld;
using vg::test::GuestRing;
using vg::test::VmbusGuest;

namespace {

/// An open channel over rings of `pages_each` pages (one is the control page).
struct Bed {
    explicit Bed(u32 pages_each = 2)
        : world(64),
          server(world, log),
          guest(world, server),
          relid(server.offer(Offer{}, device)),
          rings(connect(pages_each)) {
        device.signals = 0;
        world.signals.clear();
    }
    VmbusGuest::Pair connect(u32 pages_each) {
        guest.contact(kVersion5_3);
        guest.request_offers();
        guest.forget();
        return guest.open_rings(relid, pages_each);
    }
    Channel& channel() { return *device.last; }
    void signal() { server.on_signal(event_connection(relid)); }

    FakeWorld world;
    Log log;
    Server server;
    VmbusGuest guest;
    FakeDevice device;
    u16 relid;
    VmbusGuest::Pair rings;
};

std::vector<u8> pattern(std::size_t size, u32 seed) {
    std::vector<u8> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<u8>(seed * 31 + i);
    return bytes;
}

std::vector<u8> padded(std::vector<u8> bytes) {
    bytes.resize((bytes.size() + 7) / 8 * 8);
    return bytes;
}

}  // namespace

TEST_CASE("ring: packets keep order and content over many wrap-arounds, both ways (V-72, V-75, V-76)", "[hv][vmbus]") {
    for (const u32 seed : {1u, 2u, 3u, 4u}) {
        Bed bed(seed < 3 ? 2 : 5);
        std::mt19937 random(seed);
        std::deque<std::pair<u64, std::vector<u8>>> to_host, to_guest;
        u64 id = 0;
        for (u32 step = 0; step < 4000; ++step) {
            const std::size_t size = random() % (step % 50 == 0 ? 3000 : 300);
            switch (random() % 4) {
                case 0: {  // the guest writes
                    const auto payload = pattern(size, step);
                    const auto written = bed.rings.out.write(PacketType::InBand, 1, ++id, payload);
                    if (written.room) to_host.emplace_back(id, padded(payload));
                    if (written.signal) bed.signal();
                    break;
                }
                case 1:
                    bed.signal();
                    break;
                case 2: {  // the host writes
                    const auto payload = pattern(size, step);
                    const u32 start = bed.rings.in.control().write_index;
                    const bool empty = bed.rings.in.used() == 0;
                    const std::size_t signals = bed.world.signals.size();
                    if (!bed.channel().write_packet(PacketType::Completion, 0, ++id, payload)) {
                        CHECK(bed.rings.in.control().pending_send_size == (payload.size() + 7) / 8 * 8 + 24);
                        CHECK(bed.rings.in.control().write_index == start);
                        break;
                    }
                    CHECK((bed.world.signals.size() != signals) == empty);  // V-73
                    to_guest.emplace_back(id, padded(payload));
                    break;
                }
                case 3: {  // the guest reads
                    const u32 start = bed.rings.in.control().read_index;
                    const auto packet = bed.rings.in.read();
                    REQUIRE(packet.has_value() == !to_guest.empty());
                    if (!packet) break;
                    CHECK(packet->trailer_index == start);
                    CHECK(packet->descriptor.transaction_id == to_guest.front().first);
                    CHECK(packet->payload == to_guest.front().second);
                    to_guest.pop_front();
                    break;
                }
            }
            for (const auto& received : bed.device.received) {
                REQUIRE_FALSE(to_host.empty());
                CHECK(received.transaction_id == to_host.front().first);
                CHECK(received.payload == to_host.front().second);
                to_host.pop_front();
            }
            bed.device.received.clear();
            REQUIRE(bed.rings.in.used() < bed.rings.in.size());
        }
        CHECK_FALSE(bed.channel().broken());
        CHECK(bed.channel().stats().packets_in > 400);
        CHECK(bed.channel().stats().packets_out > 400);
    }
}

TEST_CASE("ring: a ring is never filled to the last byte (V-72)", "[hv][vmbus]") {
    Bed bed;
    const u32 size = bed.rings.in.size();
    REQUIRE(bed.channel().write_packet(PacketType::InBand, 0, 1, {}));
    CHECK_FALSE(bed.channel().write_packet(PacketType::InBand, 0, 2, pattern(size - 48, 0)));  // exactly full: refused
    Bed second;
    CHECK(second.channel().write_packet(PacketType::InBand, 0, 1, pattern(size - 24 - 8, 0)));
    CHECK(second.rings.in.free() == 8);
    CHECK_FALSE(second.channel().write_packet(PacketType::InBand, 0, 2, {}));
    CHECK(second.channel().stats().full == 1);
}

TEST_CASE("ring: the host signals on empty to non-empty, unless the guest masks it (V-62, V-73)", "[hv][vmbus]") {
    Bed bed;
    REQUIRE(bed.channel().write_completion(1, pattern(8, 0)));
    CHECK(bed.world.signals.size() == 1);
    REQUIRE(bed.channel().write_completion(2, pattern(8, 0)));
    CHECK(bed.world.signals.size() == 1);  // was not empty
    while (bed.rings.in.read()) {
    }
    bed.rings.in.set_mask(1);
    REQUIRE(bed.channel().write_completion(3, pattern(8, 0)));
    CHECK(bed.world.signals.size() == 1);  // masked
    while (bed.rings.in.read()) {
    }
    bed.rings.in.set_mask(0);
    REQUIRE(bed.channel().write_completion(4, pattern(8, 0)));
    CHECK(bed.world.signals.size() == 2);
    CHECK(bed.channel().stats().signals_out == 2);
}

TEST_CASE("ring: freed space is signalled only when it crosses the pending size, strictly (V-74)", "[hv][vmbus]") {
    // The ring holds 4096 bytes; each packet with a 40-byte payload takes 16 + 40 + 8 = 64.
    struct Row {
        u32 packets, read_at_once;
        s32 pending_offset;  ///< pending size relative to the free space after reading
        u32 features;
        bool signal;
    };
    const Row rows[] = {
        {60, 10, -1, 1, true},     // free crosses from below to one more than pending
        {60, 10, 0, 1, false},     // equal is not enough
        {60, 10, 1, 1, false},     // not reached
        {60, 10, -640, 1, true},   // free before was equal to pending
        {60, 10, -641, 1, false},  // free before was already more
        {60, 10, -1, 0, false},    // the guest does not announce the feature
        {60, 60, -1, 1, true},
    };
    for (const Row& row : rows) {
        Bed bed;
        for (u32 i = 0; i < row.packets; ++i)
            REQUIRE(bed.rings.out.write(PacketType::InBand, 0, i + 1, pattern(40, i)).room);
        const u32 after = bed.rings.out.free() + row.read_at_once * 64;
        bed.rings.out.set_pending(after + static_cast<u32>(row.pending_offset));
        bed.rings.out.set_features(row.features);
        bed.device.limit = row.read_at_once;
        bed.signal();
        CAPTURE(row.pending_offset, row.features);
        CHECK(bed.rings.out.free() == after);
        CHECK((bed.world.signals.size() == 1) == row.signal);
    }
    Bed bed;
    for (u32 i = 0; i < 60; ++i) REQUIRE(bed.rings.out.write(PacketType::InBand, 0, i + 1, pattern(40, i)).room);
    bed.signal();
    CHECK(bed.world.signals.empty());  // no pending size, no signal
}

TEST_CASE("ring: a packet written while the host publishes what it read is not left behind (V-73)", "[hv][vmbus]") {
    Bed bed;
    bool signal = true;
    bed.world.on_write = [&](u64 gpa, u64) {
        if (gpa != bed.rings.out.control_page() + offsetof(RingControl, read_index)) return;
        bed.world.on_write = nullptr;
        // The host has seen an empty ring, but the guest still sees a full one: by the rules it need not signal.
        signal = bed.rings.out.write(PacketType::InBand, 0, 2, pattern(8, 2)).signal;
    };
    REQUIRE(bed.rings.out.write(PacketType::InBand, 0, 1, pattern(8, 1)).signal);
    bed.signal();
    CHECK_FALSE(signal);
    REQUIRE(bed.device.received.size() == 2);
    CHECK(bed.device.received[1].transaction_id == 2);
    CHECK(bed.rings.out.used() == 0);
}

TEST_CASE("ring: fields of the control page are fetched in the order that the races ask for (V-73, V-74)",
          "[hv][vmbus]") {
    Bed bed;
    std::vector<u64> fetched;  // offsets
    u64 page = bed.rings.out.control_page();
    bed.world.on_read = [&](u64 gpa, u64 size) {
        if (gpa < page || gpa >= page + sizeof(RingControl)) return;
        CHECK(size == sizeof(u32));  // two fields in one copy have no order
        fetched.push_back(gpa - page);
    };
    bed.rings.out.set_pending(4000);
    bed.rings.out.set_features(1);
    REQUIRE(bed.rings.out.write(PacketType::InBand, 0, 1, pattern(8, 1)).signal);
    bed.signal();
    // Behind the last look for packets: the pending size, and only then how much is free.
    const auto pending = std::find(fetched.begin(), fetched.end(), offsetof(RingControl, pending_send_size));
    REQUIRE(pending != fetched.end());
    CHECK(std::find(pending, fetched.end(), offsetof(RingControl, write_index)) != fetched.end());
    fetched.clear();
    page = bed.rings.in.control_page();
    REQUIRE(bed.channel().write_completion(1, pattern(8, 0)));
    // Behind the new write index: the mask, and only then whether the ring was empty.
    REQUIRE(fetched.size() >= 2);
    CHECK(fetched[fetched.size() - 2] == offsetof(RingControl, interrupt_mask));
    CHECK(fetched.back() == offsetof(RingControl, read_index));
}

TEST_CASE("ring: the host asks for space through its own pending size and clears it (V-74)", "[hv][vmbus]") {
    Bed bed;
    u64 id = 0;
    while (bed.channel().write_completion(++id, pattern(64, 0))) {
    }
    CHECK(bed.rings.in.control().pending_send_size == 88);
    const auto first = bed.rings.in.read();
    REQUIRE(first);
    CHECK(first->signal_host);
    CHECK(bed.channel().write_completion(id, pattern(64, 0)));
    CHECK(bed.rings.in.control().pending_send_size == 0);
}

TEST_CASE("ring: index and length lies stop the channel until it is reopened (V-75, V-79)", "[hv][vmbus]") {
    Bed bed;
    const auto raw = [&](u16 offset8, u16 length8, std::size_t bytes) {
        std::vector<u8> data(bytes);
        const PacketDescriptor descriptor = {6, offset8, length8, 1, 7};
        std::memcpy(data.data(), &descriptor, std::min(bytes, sizeof descriptor));
        bed.rings.out.write_raw(data);
    };
    SECTION("write index past the end") { bed.rings.out.set_write_index(4096); }
    SECTION("write index huge") { bed.rings.out.set_write_index(0xffff'fff8); }
    SECTION("write index off its boundary") { bed.rings.out.set_write_index(20); }
    SECTION("less than a descriptor") { raw(2, 2, 8); }
    SECTION("descriptor without trailer") { raw(2, 2, 16); }
    SECTION("length zero") { raw(2, 0, 64); }
    SECTION("length less than the descriptor") { raw(1, 1, 64); }
    SECTION("data before the descriptor's end") { raw(1, 4, 64); }
    SECTION("data past the packet's end") { raw(5, 4, 64); }
    SECTION("length that leaves no trailer") { raw(2, 8, 64); }
    SECTION("length past what was written") { raw(2, 0xffff, 64); }
    bed.signal();
    CHECK(bed.channel().broken());
    CHECK(bed.device.received.empty());
    CHECK(bed.rings.out.control().read_index == 0);
    const auto memory = bed.world.memory;
    bed.signal();
    CHECK(bed.channel().write_completion(1, pattern(8, 0)));  // dropped
    CHECK(bed.world.memory == memory);
    bed.guest.post(MessageType::CloseChannel, CloseChannel{{}, bed.relid});
    bed.rings = bed.guest.open_rings(bed.relid);
    CHECK(bed.guest.open_status == 0);
    REQUIRE(bed.rings.out.write(PacketType::InBand, 0, 5, pattern(8, 0)).signal);
    bed.signal();
    CHECK(bed.device.received.size() == 1);
}

TEST_CASE("ring: a lying read index stops the host-to-guest direction", "[hv][vmbus]") {
    for (const u32 index : {4096u, 4u, 0xffff'ffffu}) {
        Bed bed;
        bed.rings.in.set_read_index(index);
        CHECK(bed.channel().write_completion(1, pattern(8, 0)));
        CHECK(bed.channel().broken());
        CHECK(bed.rings.in.control().write_index == 0);
    }
}

TEST_CASE("ring: what the guest does to the host's own indices has no effect", "[hv][vmbus]") {
    Bed bed;
    REQUIRE(bed.rings.out.write(PacketType::InBand, 0, 1, pattern(8, 0)).room);
    bed.signal();
    bed.rings.out.set_read_index(2048);  // the host's in this ring
    REQUIRE(bed.rings.out.write(PacketType::InBand, 0, 2, pattern(8, 0)).room);
    bed.signal();
    CHECK(bed.device.received.size() == 2);
    REQUIRE(bed.channel().write_completion(3, pattern(8, 0)));
    bed.rings.in.set_write_index(2048);  // the host's in that ring
    REQUIRE(bed.channel().write_completion(4, pattern(8, 0)));
    CHECK(bed.rings.in.control().write_index == 64);
}

TEST_CASE("ring: no byte of a packet is fetched twice (C1)", "[hv][vmbus]") {
    Bed bed;
    for (u32 i = 0; i < 20; ++i) REQUIRE(bed.rings.out.write(PacketType::InBand, 0, i, pattern(100, i)).room);
    const u64 data = bed.channel().rings().gpadl != 0 ? (u64{16} << 12) + kPageSize : 0;
    std::map<u64, u32> fetches;
    bed.world.on_read = [&](u64 gpa, u64 size) {
        for (u64 at = gpa; at < gpa + size; ++at)
            if (at >= data && at < data + kPageSize) ++fetches[at];
    };
    bed.signal();
    CHECK(bed.device.received.size() == 20);
    CHECK(fetches.size() >= 20 * 120);
    for (const auto& [at, count] : fetches) CHECK(count == 1);
}

TEST_CASE("ring: a packet that flips while it is copied is parsed as copied (C1)", "[hv][vmbus]") {
    Bed bed;
    REQUIRE(bed.rings.out.write(PacketType::InBand, 0, 1, pattern(64, 1)).room);
    bed.world.on_read = [&](u64 gpa, u64 size) {
        if (size != sizeof(PacketDescriptor) || gpa < (17u << 12)) return;
        // Behind the copy of the descriptor: make its length a lie.
        bed.world.on_read = [&bed, gpa](u64, u64) { bed.world.set<u16>(gpa + 4, 0xffff); };
    };
    bed.signal();
    REQUIRE(bed.device.received.size() == 1);
    CHECK(bed.device.received[0].payload == pattern(64, 1));
}

TEST_CASE("ring: pages that are not memory stop the channel", "[hv][vmbus]") {
    Bed bed;
    REQUIRE(bed.rings.out.write(PacketType::InBand, 0, 1, pattern(64, 1)).room);
    bed.world.memory.resize(16 * kPageSize);
    bed.signal();
    CHECK(bed.channel().broken());
}

TEST_CASE("ring: GPA-direct ranges split at pages, join neighbours and refuse nonsense (V-77)", "[hv][vmbus]") {
    const auto build = [](std::initializer_list<std::pair<GpaRange, std::vector<u64>>> ranges) {
        std::vector<u8> bytes(8);
        const GpaDirectHeader header = {0, static_cast<u32>(ranges.size())};
        std::memcpy(bytes.data(), &header, 8);
        for (const auto& [range, pfns] : ranges) {
            const auto* raw = reinterpret_cast<const u8*>(&range);
            bytes.insert(bytes.end(), raw, raw + 8);
            raw = reinterpret_cast<const u8*>(pfns.data());
            bytes.insert(bytes.end(), raw, raw + pfns.size() * 8);
        }
        return bytes;
    };
    const auto pieces = [](const GpaRanges& ranges, u64 offset, u64 size) {
        std::vector<std::pair<u64, u64>> out;
        CHECK(ranges.for_each(offset, size, [&](u64 gpa, u64, u64 length) {
            out.emplace_back(gpa, length);
            return true;
        }));
        return out;
    };
    using Pieces = std::vector<std::pair<u64, u64>>;
    GpaRanges ranges;
    REQUIRE(ranges.parse(build({{{6000, 0x200}, {7, 9}}, {{16, 5000}, {1, 2}}})));
    CHECK(ranges.size() == 6016);
    CHECK(pieces(ranges, 0, 6016) == Pieces{{0x7200, 3584}, {0x9000, 2416}, {0x2000 + 5000 - 4096, 16}});
    CHECK(pieces(ranges, 3583, 2) == Pieces{{0x7fff, 1}, {0x9000, 1}});
    CHECK(pieces(ranges, 6016, 0).empty());
    const auto any = [](u64, u64, u64) { return true; };
    CHECK_FALSE(ranges.for_each(6016, 1, any));
    CHECK_FALSE(ranges.for_each(~u64{0}, 2, any));
    REQUIRE(ranges.parse(build({{{8192, 0}, {4, 5}}})));
    CHECK(pieces(ranges, 0, 8192) == Pieces{{0x4000, 8192}});

    CHECK_FALSE(ranges.parse({}));
    CHECK_FALSE(ranges.parse(build({})));
    CHECK_FALSE(ranges.parse(build({{{8193, 0}, {4, 5}}})));  // a page number is missing
    CHECK_FALSE(ranges.parse(build({{{0xffff'ffff, 0xffff'ffff}, {4}}})));
    CHECK_FALSE(ranges.parse(build({{{4096, 0}, {kMaxPfn + 1}}})));
    CHECK(ranges.parse(build({{{4096, 0}, {kMaxPfn}}})));
    const auto whole = build({{{6000, 0x200}, {7, 9}}});
    for (std::size_t cut = 0; cut < whole.size(); ++cut) CHECK_FALSE(ranges.parse(std::span(whole).first(cut)));
}
