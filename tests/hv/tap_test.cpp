// What the hypervisor and the bus tell of themselves (base/tap_kinds.def): each thing once, where it happens.
#include <catch2/catch.hpp>
#include <cstring>

#include "tests/hv/fixture.h"
#include "tests/support/tap_record.h"
#include "tests/support/vmbus_guest.h"

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;
using vg::test::TapRecord;

namespace {

bool has_values(const TapEvent& event, std::array<u64, 4> values) {
    return std::equal(values.begin(), values.end(), event.values);
}

struct Bed {
    Bed() : server(world, log), guest(world, server) {
        vmbus::Offer offer;
        offer.type = kScsiControllerClass;
        relid = server.offer(offer, device);
    }
    vg::test::FakeWorld world{64};
    Log log;
    vmbus::Server server;
    vg::test::VmbusGuest guest;
    vg::test::FakeDevice device;
    u16 relid = 0;
};

}  // namespace

TEST_CASE("tap: a hypercall is told with its registers, its input and its result", "[hv][tap]") {
    Fixture f;
    f.wrmsr(msr::GUEST_OS_ID, Fixture::kOsId);
    const TapRecord record(f.log.tap());
    constexpr u64 kSlowSignal = 0x5d, kFastSignal = 0x1005d, kInput = 0x30000;
    f.guest_write<u64>(kInput, 0x1234);
    CHECK(f.hypercall(kSlowSignal, kInput, 0x99) == static_cast<u64>(HvStatus::InvalidConnectionId));
    CHECK(f.hypercall(kFastSignal, 0x5678, 0) == static_cast<u64>(HvStatus::InvalidConnectionId));
    CHECK(f.hypercall(0x7777, 1, 2) == static_cast<u64>(HvStatus::InvalidHypercallCode));
    const auto calls = record.of(TapKind::Hypercall);
    REQUIRE(calls.size() == 3);
    const u64 unknown = static_cast<u64>(HvStatus::InvalidConnectionId);
    CHECK(has_values(calls[0].event, {kSlowSignal, kInput, 0x99, unknown}));
    CHECK(calls[0].event.partition == f.partition->id());
    CHECK(calls[0].event.vp == 0);
    CHECK(calls[0].payload == std::vector<u8>{0x34, 0x12, 0, 0, 0, 0, 0, 0});
    CHECK(has_values(calls[1].event, {kFastSignal, 0x5678, 0, unknown}));
    CHECK(calls[1].payload == std::vector<u8>{0x78, 0x56, 0, 0, 0, 0, 0, 0});
    CHECK(has_values(calls[2].event, {0x7777, 1, 2, static_cast<u64>(HvStatus::InvalidHypercallCode)}));
    CHECK(calls[2].payload.empty());
}

TEST_CASE("tap: a message is told when the guest can see it, an event flag each time", "[hv][tap]") {
    Fixture f;
    f.enable_synic();
    const TapRecord record(f.log.tap());
    const std::array<u8, 3> payload = {7, 8, 9};
    CHECK(f.partition->post_message(0, 2, 1, payload, 0x77) == HvStatus::Success);
    CHECK(f.partition->post_message(0, 2, 5, payload, 0x78) == HvStatus::Success);
    REQUIRE(record.of(TapKind::SynicMessage).size() == 1);
    f.guest_write<u32>(Fixture::slot(2), 0);
    f.wrmsr(msr::EOM, 0);
    const auto messages = record.of(TapKind::SynicMessage);
    REQUIRE(messages.size() == 2);
    CHECK(has_values(messages[0].event, {2, 1, 0, 0x77}));
    CHECK(has_values(messages[1].event, {2, 5, 0, 0x78}));
    CHECK(messages[1].payload == std::vector<u8>{7, 8, 9});

    CHECK(f.partition->signal_event(0, 2, 100) == HvStatus::Success);
    CHECK(f.partition->signal_event(0, 2, 100) == HvStatus::Success);
    const auto flags = record.of(TapKind::SynicEvent);
    REQUIRE(flags.size() == 2);
    CHECK(has_values(flags[0].event, {2, 100, 0, 1}));
    CHECK(has_values(flags[1].event, {2, 100, 0, 0}));
}

TEST_CASE("tap: channel messages are told both ways, those to the guest when they leave", "[hv][tap]") {
    Bed bed;
    const TapRecord record(bed.log.tap());
    bed.world.accept_messages = false;
    bed.guest.contact(vmbus::kVersion5_3);
    REQUIRE(record.of(TapKind::VmbusMessage).size() == 1);
    bed.world.accept_messages = true;
    bed.server.flush();
    bed.guest.request_offers();
    const auto told = record.of(TapKind::VmbusMessage);
    std::vector<std::pair<u64, u64>> types;
    for (const auto& row : told) types.emplace_back(row.event.values[0], row.event.values[1]);
    CHECK(types == std::vector<std::pair<u64, u64>>{{14, 0}, {15, 1}, {3, 0}, {1, 1}, {4, 1}});
    CHECK(told[3].payload == bed.world.messages[1]);
    bed.server.on_message({});
    CHECK(record.of(TapKind::VmbusMessage).back().payload.empty());
}

TEST_CASE("tap: a packet is told once, whole, with its descriptor, as it is read or written", "[hv][tap]") {
    Bed bed;
    bed.guest.contact(vmbus::kVersion5_3);
    bed.guest.request_offers();
    bed.guest.forget();
    auto rings = bed.guest.open_rings(bed.relid);
    const TapRecord record(bed.log.tap());
    const std::vector<u8> payload = {1, 2, 3, 4, 5, 6, 7, 8, 9}, extension(24, 0xee);
    rings.out.write(vmbus::PacketType::GpaDirect, 1, 0xabc, payload, extension);
    rings.out.write(vmbus::PacketType::InBand, 0, 0xabd, std::vector<u8>(6000, 0x55));
    CHECK(record.of(TapKind::VmbusPacket).empty());
    bed.server.on_signal(vmbus::event_connection(bed.relid));
    CHECK(bed.device.last->write_completion(0xabc, payload));
    const auto packets = record.of(TapKind::VmbusPacket);
    REQUIRE(packets.size() == 3);
    CHECK(has_values(packets[0].event, {bed.relid, 0, 0xabc, 9}));
    REQUIRE(packets[0].payload.size() == 16 + 24 + 16);
    vmbus::PacketDescriptor descriptor{};
    std::memcpy(&descriptor, packets[0].payload.data(), sizeof descriptor);
    CHECK(descriptor.type == 9);
    CHECK(descriptor.data_offset8 == 5);
    CHECK(descriptor.total_length8 == 7);
    CHECK(descriptor.flags == 1);
    CHECK(descriptor.transaction_id == 0xabc);
    CHECK(packets[0].payload[16] == 0xee);
    CHECK(packets[0].payload[40] == 1);
    CHECK(packets[0].payload[48] == 9);
    CHECK(packets[0].payload[49] == 0);
    REQUIRE(packets[1].payload.size() == 4096);
    std::memcpy(&descriptor, packets[1].payload.data(), sizeof descriptor);
    CHECK(descriptor.total_length8 * 8 == 6016);
    CHECK(has_values(packets[2].event, {bed.relid, 1, 0xabc, 11}));
    CHECK(packets[2].payload.size() == 32);
    const auto in = rings.in.read();
    REQUIRE(in);
    CHECK(std::memcmp(&in->descriptor, packets[2].payload.data(), 16) == 0);

    const auto signals = record.of(TapKind::VmbusSignal);
    REQUIRE(signals.size() == 2);
    CHECK(has_values(signals[0].event, {bed.relid, 0}));
    CHECK(has_values(signals[1].event, {bed.relid, 1}));
}
