// What bytes on a bus mean, and that any bytes have a meaning: V-30..V-49, V-75..V-78, D-30..D-121.
#include "ui/model/vmbus_decode.h"

#include <catch2/catch.hpp>
#include <random>

#include "tests/support/vmbus_events.h"

using namespace vg;
using namespace vg::hv::vmbus;
using model::Decoded;
using model::Service;

namespace {

const std::vector<u8> kRead10 = {0x28, 0, 0, 0, 8, 0, 0, 0, 8, 0};

std::string field(const Decoded& decoded, const std::string& name) {
    for (const auto& [key, value] : decoded.fields)
        if (key == name) return value;
    return "(none)";
}

Decoded message(const std::vector<u8>& bytes) { return model::decode_vmbus_message(bytes, bytes.size()); }

Decoded packet(const std::vector<u8>& bytes, Service service, u64 whole = 0) {
    return model::decode_packet(model::view_packet(bytes, whole == 0 ? bytes.size() : whole), service);
}

std::vector<u8> read_request() {
    return test::packet_bytes(PacketType::GpaDirect, 1, 0x21, test::gpa_direct(4096, 0x200, {0x77, 0x78}),
                              test::storage_request(kRead10, 4096, 1));
}

std::vector<u8> words(std::initializer_list<u32> list) {
    std::vector<u8> out;
    for (const u32 word : list) test::append(out, word);
    return out;
}

}  // namespace

TEST_CASE("vmbus decode: an offer names its interface", "[ui][vmbus]") {
    const Decoded decoded = message(test::offer_bytes(hv::kScsiControllerClass, 3));
    CHECK(decoded.title == "OFFERCHANNEL relid 3 SCSI controller");
    CHECK(field(decoded, "interface") == "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f (SCSI controller)");
    CHECK_FALSE(decoded.malformed);
}

TEST_CASE("vmbus decode: control messages show what they ask and how it ended", "[ui][vmbus]") {
    InitiateContact contact{};
    contact.version = kVersion5_3;
    contact.interrupt_page_or_target = 2;
    CHECK(message(test::message_bytes(MessageType::InitiateContact, contact)).title == "INITIATE_CONTACT version 5.3");
    CHECK(message(test::message_bytes(MessageType::OpenResult, OpenResult{{}, 1, 1, 0})).title ==
          "OPENCHANNEL_RESULT relid 1 open_id 0x1: ok");
    CHECK(message(test::message_bytes(MessageType::GpadlCreated, GpadlCreated{{}, 1, 0xe1e10, kStatusUnexpected}))
              .title == "GPADL_CREATED relid 1 GPADL 0xe1e10: 0x8000ffff");
    auto header = test::message_bytes(MessageType::GpadlHeader, GpadlHeader{{}, 1, 0xe1e10, 24, 1});
    for (const u64 word : {u64{8192}, u64{0x100}, u64{0x101}}) test::append(header, word);
    const Decoded gpadl = message(header);
    CHECK(gpadl.title == "GPADL_HEADER relid 1 GPADL 0xe1e10 2 pages");
    CHECK(field(gpadl, "pages_here") == "2");
    CHECK(field(gpadl, "first_pfn") == "0x100");
    CHECK(message(words({19, 0})).title == "CLOSE_RESERVED_CHANNEL");
    CHECK(message(words({77, 0})).title == "unknown message 77");
}

TEST_CASE("vmbus decode: a message that ends early is malformed, one that was cut is not", "[ui][vmbus]") {
    const auto offer = test::offer_bytes(hv::kNetworkClass, 1);
    for (std::size_t size = 0; size < offer.size(); ++size) {
        const std::span<const u8> part = std::span(offer).first(size);
        CHECK(model::decode_vmbus_message(part, size).malformed);
        const Decoded cut = model::decode_vmbus_message(part, offer.size());
        CHECK_FALSE(cut.malformed);
        CHECK(cut.cut);
    }
}

TEST_CASE("vmbus decode: a storage request shows command, address, length and pages", "[ui][vmbus]") {
    const auto bytes = read_request();
    const model::PacketView view = model::view_packet(bytes, bytes.size());
    CHECK(view.wants_completion());
    CHECK(view.range_bytes == 4096);
    REQUIRE(view.ranges.size() == 1);
    CHECK(view.ranges[0].first_pfn == 0x77);
    CHECK(view.ranges[0].page_count == 2);
    const Decoded decoded = model::decode_packet(view, Service::Storage);
    CHECK(decoded.title == "READ(10) LBA 2048 blocks 8, 4096 bytes");
    CHECK(field(decoded, "lba") == "2048");
    CHECK(field(decoded, "data") == "read");
    CHECK_FALSE(decoded.malformed);
}

TEST_CASE("vmbus decode: SCSI commands have their address where their size puts it", "[ui][vmbus]") {
    const auto title = [](std::vector<u8> cdb) {
        return packet(test::packet_bytes(PacketType::InBand, 1, 1, {}, test::storage_request(std::move(cdb), 0, 2)),
                      Service::Storage)
            .title;
    };
    CHECK(title({0x0a, 0xe1, 2, 3, 0, 0}) == "WRITE(6) LBA 66051 blocks 256, 0 bytes");
    CHECK(title({0x88, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0}) == "READ(16) LBA 4294967298 blocks 256, 0 bytes");
    CHECK(title({0x12, 1, 0xb0, 0, 64, 0}) == "INQUIRY page 0xb0, 0 bytes");
    CHECK(title({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}) == "READ CAPACITY(16), 0 bytes");
    CHECK(title({0xfe}) == "SCSI command 0xfe, 0 bytes");
    CHECK(title({0x28}) == "READ(10) LBA 0 blocks 0, 0 bytes");
}

TEST_CASE("vmbus decode: a completion says how the request ended, with its sense", "[ui][vmbus]") {
    const auto answer = [](u8 srb, u8 scsi, u32 bytes) {
        return packet(test::packet_bytes(PacketType::Completion, 0, 1, {}, test::storage_answer(srb, scsi, bytes)),
                      Service::Storage);
    };
    CHECK(answer(1, 0, 4096).title == "COMPLETE_IO: ok, 4096 bytes");
    const Decoded failed = answer(0x84, 2, 0);
    CHECK(failed.title == "COMPLETE_IO: error, check condition, illegal request 20/00");
    CHECK(field(failed, "sense") == "5/20/00");
}

TEST_CASE("vmbus decode: lengths that lie are malformed", "[ui][vmbus]") {
    const auto good = read_request();
    const auto with = [&](std::size_t at, u8 value) {
        auto bytes = good;
        bytes[at] = value;
        return packet(bytes, Service::Storage);
    };
    CHECK(with(2, 1).malformed);      // data in the descriptor
    CHECK(with(2, 0xff).malformed);   // data beyond the end
    CHECK(with(2, 2).malformed);      // no room for the ranges' header
    CHECK(with(20, 2).malformed);     // a range more than there is
    CHECK(with(23, 0xff).malformed);  // four thousand million ranges
    CHECK(with(26, 1).malformed);     // more pages than there are
    auto cdb = good;
    cdb[16 + 8 + 8 + 16 + 12 + 8] = 17;
    CHECK(packet(cdb, Service::Storage).malformed);
    const auto shorter = test::packet_bytes(PacketType::InBand, 0, 1, {}, std::vector<u8>(8));
    CHECK_FALSE(packet(shorter, Service::Storage).malformed);  // an operation 0: unknown, and whole
    auto srb = test::storage_request(kRead10, 0, 2);
    srb.resize(32);
    CHECK(packet(test::packet_bytes(PacketType::InBand, 0, 1, {}, srb), Service::Storage).malformed);
}

TEST_CASE("vmbus decode: a packet that was cut is said to be, not malformed", "[ui][vmbus]") {
    const auto good = read_request();
    for (std::size_t size = 0; size < good.size(); ++size) {
        const Decoded decoded =
            packet({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}, Service::Storage, good.size());
        CHECK_FALSE(decoded.malformed);
        CHECK(decoded.cut);
    }
}

TEST_CASE("vmbus decode: the other services' messages have names", "[ui][vmbus]") {
    const auto title = [](Service service, std::vector<u8> payload, PacketType type = PacketType::InBand) {
        const Decoded decoded = packet(test::packet_bytes(type, 0, 1, {}, std::move(payload)), service);
        CHECK_FALSE(decoded.malformed);
        return decoded.title;
    };
    CHECK(title(Service::Network, words({1, 0x60001, 0x60001, 0})) == "NVSP INIT");
    CHECK(title(Service::Network, words({107, 1, 0xffffffff, 0})) == "NVSP SEND_RNDIS_PKT control");
    CHECK(title(Service::Network, words({108, 1}), PacketType::Completion) == "NVSP SEND_RNDIS_PKT_COMPLETE");
    CHECK(title(Service::Keyboard, words({3, 0x1e, 2})) == "keyboard EVENT 0x1e up");
    CHECK(title(Service::Mouse, words({1, 13, 1, 13, 0x20000, 1})) == "mouse PROTOCOL_RESPONSE");
    CHECK(title(Service::Video, words({1, 40, 2, 17, 0x50003, 1, 0, 0, 0, 0, 0, 0})) == "video VERSION_RESPONSE");
    // {pipe, header, context, outputs 1, active 1, offset 0, depth 32, 1024 x 768, pitch 4096}: D-94
    CHECK(title(Service::Video, {1, 0, 0, 0, 35, 0, 0, 0, 5, 0, 0, 0, 35, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 32,
                                 0, 4, 0, 0, 0, 3, 0, 0, 0, 16, 0, 0}) == "video SITUATION_UPDATE 1024x768");
    CHECK(title(Service::DynamicMemory, words({1 | 16 << 16, 7, 0x20000, 1})) == "memory VERSION_REQUEST");
    CHECK(title(Service::Pci, words({0x42490013, 0x10004})) == "PCI QUERY_PROTOCOL_VERSION");
    CHECK(title(Service::Socket, words({1, 4, 0x64636261})) == "socket data, 4 bytes");
    // Pipe header, framework 3.0, type, version 3.0, size 40, status, transaction and flags, sequence
    CHECK(title(Service::Heartbeat, words({1, 60, 3, 1 | 3 << 16, 40 << 16, 0, 5 | 3 << 8, 9, 0, 0, 0, 0, 0, 0, 0, 0,
                                           0})) == "heartbeat HEARTBEAT request");
}

TEST_CASE("vmbus decode: whatever a guest writes, there is an answer of bounded size", "[ui][vmbus]") {
    std::mt19937 random(7);
    for (unsigned round = 0; round < 20'000; ++round) {
        std::vector<u8> bytes = round % 2 == 0 ? read_request() : std::vector<u8>(random() % 200);
        for (unsigned i = 0; i < 4 && !bytes.empty(); ++i)
            bytes[random() % bytes.size()] = static_cast<u8>(random() % 3 == 0 ? 0xff : random());
        const auto service = static_cast<Service>(random() % static_cast<unsigned>(Service::Count));
        const u64 whole = bytes.size() + random() % 3 * (random() % 5000);
        const Decoded decoded = model::decode_packet(model::view_packet(bytes, whole), service);
        CHECK(decoded.fields.size() < 150);
        CHECK(decoded.title.size() < 500);
        (void)model::decode_vmbus_message(bytes, whole);
    }
}
