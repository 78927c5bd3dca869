// The built-in parent over a real partition: hypercalls in, SynIC messages and event flags out.
#include <catch2/catch.hpp>

#include <cstring>

#include "hv/parent/built_in_parent.h"
#include "hv/spec/msr.h"
#include "hv/vmbus/channel.h"
#include "tests/hv/fixture.h"
#include "tests/support/storage_guest.h"

using namespace vg;
using namespace vg::hv;
using namespace vg::hv::vmbus;
using parent::BuiltInParent;
using vg::hv::test::Fixture;

namespace {

constexpr Guid kInstance = guid("12345678-0000-0000-0000-000000000001");

struct Bed {
    explicit Bed(ServerOptions options = {}) : bus(f.log), parent("child", f.events, f.log, bus, {}, options) {
        parent.attach(*f.partition);
        controller = &parent.add_storage_controller("child.scsi0", kInstance);
        CHECK(controller->attach(0, 0, 0, std::make_unique<vg::test::MemoryDevice>(64)));
        f.wrmsr(msr::GUEST_OS_ID, Fixture::kOsId);
        f.enable_synic();
    }
    template <class T>
    void put(u64 gpa, const T& value) {
        CHECK(f.partition->write_memory(Gpa(gpa), &value, sizeof value));
    }
    template <class T>
    T get(u64 gpa) {
        T value{};
        CHECK(f.partition->read_memory(Gpa(gpa), &value, sizeof value));
        return value;
    }
    template <class Message>
    u64 post(u32 connection, MessageType type, Message message, std::span<const u64> words = {}) {
        message.header = {static_cast<u32>(type), 0};
        const u32 head[] = {connection, 0, kMessageTypeChannel, static_cast<u32>(sizeof message + words.size_bytes())};
        put(kInput, head);
        put(kInput + 16, message);
        CHECK(f.partition->write_memory(Gpa(kInput + 16 + sizeof message), words.data(), words.size_bytes()));
        return f.hypercall(0x5c, kInput).value_or(~u64{0});
    }
    u64 signal(u32 connection, u16 flag = 0) {
        return f.hypercall(0x1005d, connection | u64{flag} << 32).value_or(~u64{0});
    }
    /// Takes the message out of slot 2 as Linux does.
    template <class Message>
    std::optional<Message> receive(MessageType type) {
        const u64 slot = Fixture::slot(2);
        if (f.guest_read<u32>(slot) != kMessageTypeChannel) return std::nullopt;
        if (f.guest_read<u8>(slot + 4) != sizeof(Message)) return std::nullopt;  // V-02: the exact size
        Message message;
        for (std::size_t i = 0; i < sizeof message; ++i)
            reinterpret_cast<u8*>(&message)[i] = f.guest_read<u8>(slot + 16 + i);
        if (message.header.type != static_cast<u32>(type)) return std::nullopt;
        f.guest_write<u32>(slot, 0);
        if ((f.guest_read<u8>(slot + 5) & 1) != 0) f.wrmsr(msr::EOM, 0);
        return message;
    }
    void settle() { f.advance_ns(BuiltInParent::kWorkDelay); }

    u32 connect() {
        InitiateContact contact{};
        contact.version = kVersion5_3;
        contact.interrupt_page_or_target = kDefaultSint;
        CHECK(post(kMessageConnectionContact, MessageType::InitiateContact, contact) == 0);
        settle();
        const auto response = receive<VersionResponse>(MessageType::VersionResponse);
        REQUIRE(response);
        CHECK(response->supported == 1);
        CHECK(post(response->connection_id, MessageType::RequestOffers, RequestOffers{}) == 0);
        settle();
        const auto offer = receive<OfferChannel>(MessageType::OfferChannel);
        REQUIRE(offer);
        CHECK(receive<AllOffersDelivered>(MessageType::AllOffersDelivered));
        event = offer->connection_id;
        relid = offer->relid;
        return response->connection_id;
    }
    void open(u32 connection) {
        GpadlHeader header{};
        header.relid = relid;
        header.gpadl = 1;
        header.range_count = 1;
        const u64 words[] = {4 * kPageSize, 0x100, 0x101, 0x102, 0x103};
        CHECK(post(connection, MessageType::GpadlHeader, header, words) == 0);
        OpenChannel message{};
        message.relid = message.open_id = relid;
        message.ring_gpadl = 1;
        message.downstream_page_offset = 2;
        CHECK(post(connection, MessageType::OpenChannel, message) == 0);
        settle();
        REQUIRE(receive<GpadlCreated>(MessageType::GpadlCreated)->status == 0);
        REQUIRE(receive<OpenResult>(MessageType::OpenResult)->status == 0);
    }

    static constexpr u64 kInput = 0x20000;
    Fixture f;
    devices::IoBus bus;
    BuiltInParent parent;
    parent::StorageController* controller = nullptr;
    u32 event = 0, relid = 0;
};

class Scratch final : public mmu::MmioHandler {
  public:
    u64 mmio_read(u64 offset, unsigned size) override { return offset << 8 | size; }
    void mmio_write(u64 offset, unsigned size, u64 value) override { last = {offset, size, value}; }
    std::array<u64, 3> last{};
};

}  // namespace

TEST_CASE("parent: a guest connects, opens storage and gets an answer, all through hypercalls", "[hv][vmbus]") {
    Bed bed;
    bed.open(bed.connect());
    storvsc::Packet packet{};
    packet.operation = static_cast<u32>(storvsc::Operation::BeginInit);
    const PacketDescriptor descriptor = {6, 2, 10, kPacketCompletionRequested, 42};
    bed.put(0x101000, descriptor);
    bed.put(0x101010, packet);
    bed.put<u32>(0x100000, 88);
    CHECK(bed.signal(bed.event) == 0);
    CHECK(bed.get<u32>(0x100004) == 0);  // nothing happens inside the hypercall
    CHECK(bed.f.events.next() == bed.f.clock.now() + BuiltInParent::kWorkDelay);
    bed.settle();
    CHECK(bed.get<u32>(0x100004) == 88);
    CHECK(bed.get<u32>(0x102000) == 88);
    CHECK(bed.get<PacketDescriptor>(0x103000).transaction_id == 42);
    CHECK(bed.get<PacketDescriptor>(0x103000).type == 0xb);
    CHECK(bed.f.guest_read<u8>(Fixture::kSiefp + 2 * 256 + bed.relid / 8) == 1 << bed.relid % 8);  // V-61
    CHECK(bed.parent.server().find(bed.relid)->stats().packets_in == 1);
    CHECK(bed.parent.lost_signals() == 0);
}

TEST_CASE("parent: connections exist as the protocol has them (S-40, V-01)", "[hv][vmbus]") {
    Bed bed;
    InitiateContact contact{};
    contact.version = kVersion4_1;
    CHECK(bed.post(2, MessageType::InitiateContact, contact) == static_cast<u64>(HvStatus::InvalidConnectionId));
    CHECK(bed.post(kMessageConnectionLegacy, MessageType::InitiateContact, contact) == 0);
    bed.settle();
    CHECK(bed.receive<VersionResponse>(MessageType::VersionResponse)->supported == 1);
    CHECK(bed.signal(event_connection(1)) == static_cast<u64>(HvStatus::InvalidConnectionId));  // not open
    bed.open(bed.connect());
    CHECK(bed.signal(bed.event) == 0);
    CHECK(bed.signal(bed.event, 1) == static_cast<u64>(HvStatus::InvalidParameter));
    CHECK(bed.signal(kMessageConnectionContact) == static_cast<u64>(HvStatus::InvalidConnectionId));
    bed.parent.reset();
    CHECK(bed.signal(bed.event) == static_cast<u64>(HvStatus::InvalidConnectionId));
}

TEST_CASE("parent: any connection id that a guest chooses for its signals works, 0 too (V-34)", "[hv][vmbus]") {
    Bed bed;
    InitiateContact contact{};
    contact.version = kVersion6_0;
    contact.interrupt_page_or_target = kDefaultSint | u64{kFeatureGuestSignalParameters} << 32;
    CHECK(bed.post(kMessageConnectionContact, MessageType::InitiateContact, contact) == 0);
    bed.settle();
    REQUIRE(bed.receive<VersionResponse2>(MessageType::VersionResponse));
    CHECK(bed.post(kMessageConnectionContact, MessageType::RequestOffers, RequestOffers{}) == 0);
    bed.settle();
    bed.relid = bed.receive<OfferChannel>(MessageType::OfferChannel)->relid;
    CHECK(bed.receive<AllOffersDelivered>(MessageType::AllOffersDelivered));
    GpadlHeader header{};
    header.relid = bed.relid;
    header.gpadl = 1;
    header.range_count = 1;
    const u64 words[] = {4 * kPageSize, 0x100, 0x101, 0x102, 0x103};
    CHECK(bed.post(kMessageConnectionContact, MessageType::GpadlHeader, header, words) == 0);
    OpenChannel message{};
    message.relid = message.open_id = bed.relid;
    message.ring_gpadl = 1;
    message.downstream_page_offset = 2;
    const u64 extra[] = {u64{bed.relid} << 32, 0};  // OpenChannel2Extra: connection id 0, the usual event flag
    CHECK(bed.post(kMessageConnectionContact, MessageType::OpenChannel, message, extra) == 0);
    bed.settle();
    REQUIRE(bed.receive<GpadlCreated>(MessageType::GpadlCreated)->status == 0);
    REQUIRE(bed.receive<OpenResult>(MessageType::OpenResult)->status == 0);
    const u64 before = bed.parent.server().find(bed.relid)->stats().signals_in;
    for (u32 i = 0; i < 3; ++i) {
        CHECK(bed.signal(0) == 0);
        bed.settle();
    }
    CHECK(bed.parent.server().find(bed.relid)->stats().signals_in == before + 3);
    CHECK(bed.post(kMessageConnectionContact, MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, 7}) == 0);
    bed.settle();
    CHECK(bed.receive<GpadlTorndown>(MessageType::GpadlTorndown));
}

TEST_CASE("parent: a full inbox is answered with InsufficientBuffers and nothing is lost (K-100, V-03)",
          "[hv][vmbus]") {
    Bed bed;
    const u32 connection = bed.connect();
    u32 accepted = 0;
    while (bed.post(connection, MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, accepted}) == 0) ++accepted;
    CHECK(accepted == BuiltInParent::kMaxQueuedMessages);
    bed.settle();
    for (u32 handle = 0; handle < accepted; ++handle) {
        const auto torn = bed.receive<GpadlTorndown>(MessageType::GpadlTorndown);
        REQUIRE(torn);
        CHECK(torn->gpadl == handle);
    }
}

TEST_CASE("parent: a guest that reads no messages is held back, then gets all of them (V-04)", "[hv][vmbus]") {
    ServerOptions options;
    options.max_unsent_messages = 4;
    Bed bed(options);
    const u32 connection = bed.connect();
    u32 accepted = 0;
    for (u32 round = 0; round < 100; ++round) {
        while (bed.post(connection, MessageType::GpadlTeardown, GpadlTeardown{{}, bed.relid, accepted}) == 0)
            ++accepted;
        bed.f.advance_ns(1'000'000);
    }
    CHECK(accepted < 64 + 1 + 4 + 64 + 2);  // queue of the SINT, slot, server, inbox
    const u32 before = accepted;
    u32 received = 0;
    for (u32 round = 0; round < 1000 && received < before; ++round) {
        while (const auto torn = bed.receive<GpadlTorndown>(MessageType::GpadlTorndown))
            CHECK(torn->gpadl == received++);
        bed.f.advance_ns(BuiltInParent::kMaxRetryDelay);
    }
    CHECK(received == before);
}

TEST_CASE("parent: ports, MMIO and partition events reach the machine", "[hv][vmbus]") {
    Bed bed;
    u32 resets = 0, offs = 0;
    std::string crash;
    devices::IoBus bus(bed.f.log);
    parent::ParentEvents events;
    events.reset = [&] { ++resets; };
    events.power_off = [&] { ++offs; };
    events.crashed = [&](const CrashReport& report) { crash = report.message; };
    BuiltInParent parent("second", bed.f.events, bed.f.log, bus, events);
    Scratch scratch;
    parent.add_mmio(Gpa(0xfec00000), 0x1000, scratch);
    u64 value = 0;
    CHECK(parent.mmio_read(*bed.f.vp, Gpa(0xfec00010), 4, value));
    CHECK(value == 0x1004);
    CHECK(parent.mmio_write(*bed.f.vp, Gpa(0xfec00ff8), 8, 7));
    CHECK(scratch.last == std::array<u64, 3>{0xff8, 8, 7});
    CHECK_FALSE(parent.mmio_write(*bed.f.vp, Gpa(0xfec00ffc), 8, 7));
    CHECK_FALSE(parent.mmio_read(*bed.f.vp, Gpa(0xfebfffff), 1, value));
    CHECK_FALSE(parent.mmio_read(*bed.f.vp, Gpa(0xfec01000), 1, value));
    CHECK(parent.port_read(*bed.f.vp, 0x1234, 2) == 0xffff);
    parent.partition_reset(*bed.f.vp);
    parent.partition_shutdown(*bed.f.vp);
    CHECK(resets == 1);
    CHECK(offs == 1);
}

TEST_CASE("parent: messages to a VP or SynIC that is not there are dropped with a line", "[hv][vmbus]") {
    Bed bed;
    InitiateContact contact{};
    contact.version = kVersion5_3;
    contact.target_vp = 99;
    contact.interrupt_page_or_target = kDefaultSint;
    CHECK(bed.post(kMessageConnectionContact, MessageType::InitiateContact, contact) == 0);
    bed.settle();
    CHECK_FALSE(bed.parent.server().has_unsent());
    CHECK(bed.f.events.next() == kNever);
    CHECK(bed.f.lines.size() == 1);
}
