// The RNDIS device of the network provider: initialisation, objects, filters, offloads, receive-side scaling.
#include <catch2/catch.hpp>

#include <set>

#include "hv/vsp/toeplitz.h"
#include "tests/support/network_guest.h"

using namespace vg;
using namespace vg::test;
using rndis::MessageType;

namespace {

struct Reply {
    u32 type = 0, status = 0;
    Bytes information;
};

/// Sends one control message; its answer as it lies in the receive buffer.
Reply ask(NetworkBed& bed, const Bytes& message) {
    bed.forget();
    bed.control(message);
    REQUIRE(bed.world.completions.size() == 1);  // D-57
    if (bed.world.indications.empty()) return {};
    const auto& answer = bed.world.indications.back();
    CHECK(answer.channel_type == netvsc::kChannelControl);
    const Bytes& bytes = answer.message;
    CHECK(read_at<u32>(bytes, 4) == bytes.size());
    Reply reply{read_at<u32>(bytes, 0), read_at<u32>(bytes, 12), {}};
    if (reply.type == static_cast<u32>(MessageType::QueryComplete)) {
        const auto body = read_at<rndis::QueryComplete>(bytes, 8);
        CHECK(body.info_offset >= 16);  // D-67
        REQUIRE(8 + body.info_offset + body.info_length <= bytes.size());
        const auto from = bytes.begin() + 8 + body.info_offset;
        reply.information.assign(from, from + body.info_length);
    }
    bed.settle();
    return reply;
}
Reply query(NetworkBed& bed, u32 oid, std::span<const u8> input = {}) {
    return ask(bed, rndis_request(MessageType::Query, 7, oid, input));
}
u32 number(NetworkBed& bed, u32 oid) {
    const Reply reply = query(bed, oid);
    CHECK(reply.status == 0);
    CHECK(reply.information.size() == 4);
    return read_at<u32>(reply.information, 0);
}
template <class T>
u32 set(NetworkBed& bed, u32 oid, const T& value) {
    const Reply reply = ask(bed, rndis_set(9, oid, value));
    CHECK(reply.type == static_cast<u32>(MessageType::SetComplete));
    return reply.status;
}
u32 set_bytes(NetworkBed& bed, u32 oid, const Bytes& value) {
    return ask(bed, rndis_request(MessageType::Set, 9, oid, value)).status;
}

/// What RSS wants to be set to, as Linux lays it out.
Bytes rss_parameters(const std::vector<u32>& table, const std::vector<u8>& key, u16 flags = 0) {
    rndis::RssParameters parameters{};
    parameters.header = {rndis::kObjectRssParameters, 2, 40};
    parameters.flags = flags;
    parameters.hash =
        rndis::kHashToeplitz | rndis::kHashIpv4 | rndis::kHashTcpIpv4 | rndis::kHashIpv6 | rndis::kHashTcpIpv6;
    parameters.table_bytes = static_cast<u16>(4 * table.size());
    parameters.table_offset = 40;
    parameters.key_bytes = static_cast<u16>(key.size());
    parameters.key_offset = 40 + 4 * static_cast<u32>(table.size());
    Bytes bytes;
    append(bytes, parameters);
    bytes.resize(40);
    for (const u32 entry : table) append(bytes, entry);
    bytes.insert(bytes.end(), key.begin(), key.end());
    return bytes;
}

/// The key and the flows of Microsoft's "Verifying the RSS Hash Calculation".
const std::vector<u8> kKey = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
                              0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
                              0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

}  // namespace

TEST_CASE("rndis: INITIALIZE is answered with the limits of this side (D-66)", "[hv][network]") {
    NetworkBed bed(0, false);
    bed.message(nvsp_init(netvsc::kVersion61, netvsc::kVersion61));
    bed.message(nvsp_buffer(netvsc::MessageType::SendReceiveBuffer, 1, netvsc::kReceiveBufferId));
    CHECK(query(bed, rndis::kOidLinkSpeed).status == rndis::kStatusFailure);  // not yet
    ask(bed, rndis_initialize(77));
    const Bytes& bytes = bed.world.indications.back().message;
    CHECK(bytes.size() == 52);
    const auto body = read_at<rndis::InitializeComplete>(bytes, 8);
    CHECK(read_at<u32>(bytes, 0) == 0x8000'0002);
    CHECK(body.id == 77);
    CHECK(body.status == 0);
    CHECK((body.major == 1 && body.minor == 0 && body.device_flags == 1 && body.medium == 0));
    CHECK(body.max_packets == 8);
    CHECK(body.alignment_shift == 3);
    CHECK(query(bed, rndis::kOidLinkSpeed).status == 0);
}

TEST_CASE("rndis: the objects that Linux asks for at probe are there (D-69)", "[hv][network]") {
    NetworkBed bed(3);
    CHECK(number(bed, rndis::kOidMaxFrameSize) == 1500);
    CHECK(query(bed, rndis::kOidPermanentAddress).information == Bytes(kGuestAddress.begin(), kGuestAddress.end()));
    CHECK(query(bed, rndis::kOidFriendlyName).information == Bytes{'n', 0, 'e', 0, 't', 0, '0', 0});
    CHECK(number(bed, rndis::kOidMediaConnect) == 0);
    CHECK(number(bed, rndis::kOidLinkSpeed) == 100'000'000);
    const Reply caps = query(bed, rndis::kOidRssCapabilities);
    REQUIRE(caps.information.size() >= 18);
    CHECK(caps.information[0] == 0x88);
    CHECK(caps.information[1] == 2);
    CHECK(read_at<u32>(caps.information, 12) == 4);    // queues
    CHECK(read_at<u16>(caps.information, 16) == 128);  // entries
    CHECK(query(bed, 0x12345678).status == rndis::kStatusNotSupported);
    CHECK(query(bed, 0x12345678).information.empty());
}

TEST_CASE("rndis: every object of the supported list can be queried or set", "[hv][network]") {
    NetworkBed bed;
    const Bytes list = query(bed, rndis::kOidSupportedList).information;
    REQUIRE(list.size() % 4 == 0);
    const std::set<u32> only_set = {rndis::kOidProtocolOptions, rndis::kOidNetworkAddresses, rndis::kOidRssParameters,
                                    rndis::kOidConfigParameter, rndis::kOidOffloadParameters};
    for (std::size_t at = 0; at < list.size(); at += 4) {
        const u32 oid = read_at<u32>(list, at);
        CAPTURE(oid);
        if (only_set.contains(oid)) {
            CHECK(set_bytes(bed, oid, {}) != rndis::kStatusNotSupported);
        } else {
            CHECK(query(bed, oid).status == 0);
        }
    }
}

TEST_CASE("rndis: offload capabilities are as long as the guest's header says it knows (D-70)", "[hv][network]") {
    NetworkBed bed;
    struct Case {
        u16 asked, size;
        u8 revision;
    };
    for (const Case& each : {Case{112, 112, 1}, Case{144, 144, 2}, Case{156, 156, 3}, Case{500, 156, 3}}) {
        Bytes input;
        append(input, rndis::ObjectHeader{0xa7, each.revision, each.asked});
        input.resize(each.asked);
        const Bytes answer = query(bed, rndis::kOidOffloadCapabilities, input).information;
        REQUIRE(answer.size() == each.size);
        CHECK(answer[0] == 0xa7);
        CHECK(answer[1] == each.revision);
        CHECK(read_at<u16>(answer, 2) == each.size);
        CHECK(read_at<u32>(answer, 8) == 0x155);  // IPv4: options, TCP options, TCP, UDP, IP
        CHECK(read_at<u32>(answer, 24) == 0x55);  // IPv6
        CHECK(read_at<u32>(answer, 80) == 2);     // large sends on Ethernet
        CHECK(read_at<u32>(answer, 84) == 62780);
        CHECK((read_at<u32>(answer, 104) & 5) == 5);  // IPv6 with extension headers and TCP options
    }
    CHECK(query(bed, rndis::kOidOffloadCapabilities, Bytes{0xa7, 1, 50, 0}).status == rndis::kStatusInvalidData);
    CHECK(query(bed, rndis::kOidOffloadCapabilities).information.size() == 156);
}

TEST_CASE("rndis: control messages cut at every byte, or that point outside of themselves, change nothing (D-67, D-68)",
          "[hv][network]") {
    NetworkBed bed;
    const Bytes whole = rndis_set(3, rndis::kOidPacketFilter, u32{0x20});
    for (std::size_t size = 0; size < whole.size(); ++size) {
        Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK(ask(bed, cut).type == 0);  // its length is a lie
        if (size >= 8) {
            const u32 length = static_cast<u32>(size);
            std::memcpy(cut.data() + 4, &length, 4);
            CHECK(ask(bed, cut).status != 0);
        }
    }
    for (const auto& [offset, value] :
         std::vector<std::pair<u32, u32>>{{16, 0xffff'ffff}, {20, 0xffff'fff0}, {20, 4}, {16, 5}}) {
        Bytes lie = whole;
        std::memcpy(lie.data() + offset, &value, 4);
        CHECK(ask(bed, lie).status == rndis::kStatusInvalidLength);
    }
    CHECK(number(bed, rndis::kOidPacketFilter) == 9);
    CHECK(ask(bed, rndis_message(static_cast<MessageType>(99), u32{1})).type == 0);
}

TEST_CASE("rndis: reset, keep-alive and halt (D-65)", "[hv][network]") {
    NetworkBed bed;
    CHECK(ask(bed, rndis_message(MessageType::KeepAlive, u32{5})).type == 0x8000'0008);
    CHECK(ask(bed, rndis_message(MessageType::Reset, u32{0})).type == 0x8000'0006);
    CHECK(number(bed, rndis::kOidPacketFilter) == 0);
    CHECK(ask(bed, rndis_message(MessageType::Halt, u32{5})).type == 0);
    bed.forget();
    bed.send(rndis_frame(plain_frame(kPeerAddress, 100)));
    bed.settle();
    CHECK(bed.world.sent.empty());
    CHECK(bed.rndis_status() == static_cast<u32>(netvsc::Status::InvalidRndisPacket));
    ask(bed, rndis_initialize());
    bed.forget();
    bed.send(rndis_frame(plain_frame(kPeerAddress, 100)));
    CHECK(bed.world.sent.size() == 1);
}

TEST_CASE("rndis: a frame comes in if the packet filter wants its destination (D-71)", "[hv][network]") {
    NetworkBed bed;
    const std::array<u8, 6> broadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, group = {0x01, 0, 0x5e, 1, 2, 3};
    const auto arrives = [&](const std::array<u8, 6>& to) {
        bed.forget();
        bed.receive(plain_frame(to, 60));
        const bool there = !bed.world.indications.empty();
        bed.settle();
        return there;
    };
    const auto filter = [&](u32 bits) { CHECK(set(bed, rndis::kOidPacketFilter, bits) == 0); };
    filter(rndis::kFilterDirected);
    CHECK((arrives(kGuestAddress) && !arrives(kPeerAddress) && !arrives(broadcast) && !arrives(group)));
    filter(rndis::kFilterBroadcast);
    CHECK((!arrives(kGuestAddress) && arrives(broadcast) && !arrives(group)));
    filter(rndis::kFilterMulticast);
    CHECK_FALSE(arrives(group));
    CHECK(set(bed, rndis::kOidMulticastList, group) == 0);
    CHECK(arrives(group));
    CHECK(set(bed, rndis::kOidMulticastList, u32{0}) == rndis::kStatusInvalidLength);
    CHECK(set_bytes(bed, rndis::kOidMulticastList, Bytes(33 * 6)) == rndis::kStatusInvalidLength);
    CHECK(arrives(group));
    CHECK(set_bytes(bed, rndis::kOidMulticastList, {}) == 0);
    CHECK_FALSE(arrives(group));
    filter(rndis::kFilterAllMulticast);
    CHECK((arrives(group) && !arrives(kGuestAddress)));
    filter(rndis::kFilterPromiscuous);
    CHECK((arrives(kPeerAddress) && arrives(group) && arrives(broadcast)));
    filter(0);
    CHECK_FALSE(arrives(broadcast));
}

TEST_CASE("rndis: the address can be changed by a named parameter", "[hv][network]") {
    NetworkBed bed;
    const auto parameter = [](const std::string& name, const std::string& value) {
        Bytes bytes;
        const u32 name_bytes = static_cast<u32>(2 * name.size());
        append(bytes, rndis::ConfigParameter{20, name_bytes, 2, 20 + name_bytes, static_cast<u32>(2 * value.size())});
        for (const char c : name + value) append(bytes, static_cast<u16>(c));
        return bytes;
    };
    CHECK(set_bytes(bed, rndis::kOidConfigParameter, parameter("NetworkAddress", "525400abCDef")) == 0);
    CHECK(query(bed, rndis::kOidCurrentAddress).information == Bytes{0x52, 0x54, 0, 0xab, 0xcd, 0xef});
    CHECK(query(bed, rndis::kOidPermanentAddress).information == Bytes(kGuestAddress.begin(), kGuestAddress.end()));
    CHECK(set_bytes(bed, rndis::kOidConfigParameter, parameter("NetworkAddress", "010000000000")) != 0);  // a group's
    CHECK(set_bytes(bed, rndis::kOidConfigParameter, parameter("NetworkAddress", "5254")) != 0);
    CHECK(set_bytes(bed, rndis::kOidConfigParameter, parameter("NetworkAddress", "52540000000g")) != 0);
    CHECK(set_bytes(bed, rndis::kOidConfigParameter, parameter("Speed", "525400abcdef")) == rndis::kStatusNotSupported);
    const Bytes whole = parameter("NetworkAddress", "525400000001");
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK(set_bytes(bed, rndis::kOidConfigParameter,
                        {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}) != 0);
    CHECK(query(bed, rndis::kOidCurrentAddress).information[3] == 0xab);
}

TEST_CASE("rndis: received checksums are reported when the guest turned that on (D-74)", "[hv][network]") {
    NetworkBed bed;
    const auto verdict = [&](std::optional<bool> ip, std::optional<bool> transport, bool udp) -> std::optional<u32> {
        bed.forget();
        bed.core->receive(tcp_frame(10), {ip, transport, udp});
        REQUIRE(bed.world.indications.size() == 1);
        const Bytes message = bed.world.indications[0].message;
        bed.settle();
        const auto packet = read_at<rndis::Packet>(message, 8);
        if (packet.info_length == 0) return std::nullopt;
        CHECK(read_at<rndis::PacketInfo>(message, 8 + packet.info_offset).type == rndis::kInfoChecksum);
        return read_at<u32>(message, 8 + packet.info_offset + 12);
    };
    CHECK(verdict(true, true, false) == std::nullopt);
    rndis::OffloadParameters parameters{};
    parameters.header = {rndis::kObjectDefault, 1, sizeof parameters};
    parameters.ipv4 = parameters.tcp4 = rndis::kOffloadBoth;
    CHECK(set(bed, rndis::kOidOffloadParameters, parameters) == 0);
    CHECK(verdict(true, true, false) == (rndis::kIpSucceeded | rndis::kTcpSucceeded));
    CHECK(verdict(false, false, false) == (rndis::kIpFailed | rndis::kTcpFailed));
    CHECK(verdict(true, true, true) == rndis::kIpSucceeded);  // UDP was not turned on
    CHECK(verdict(std::nullopt, std::nullopt, false) == std::nullopt);
    parameters.tcp4 = rndis::kOffloadSend;
    parameters.ipv4 = 0;  // no change
    CHECK(set(bed, rndis::kOidOffloadParameters, parameters) == 0);
    CHECK(verdict(true, true, false) == rndis::kIpSucceeded);
    parameters.tcp4 = 5;
    CHECK(set(bed, rndis::kOidOffloadParameters, parameters) == rndis::kStatusInvalidData);
    CHECK(set(bed, rndis::kOidOffloadParameters, u32{0}) == rndis::kStatusInvalidLength);
}

TEST_CASE("rndis: a VLAN tag comes beside the frame if the guest can take it so (D-52, D-74)", "[hv][network]") {
    NetworkBed bed;
    Bytes tagged = plain_frame(kGuestAddress, 104);
    const u8 tag[] = {0x81, 0x00, 0xb0, 0x07};
    tagged.insert(tagged.begin() + 12, tag, tag + 4);
    bed.receive(tagged);
    REQUIRE(bed.world.indications.size() == 1);
    const Bytes message = bed.world.indications[0].message;
    const auto packet = read_at<rndis::Packet>(message, 8);
    CHECK(packet.data_length == 104);
    CHECK(read_at<rndis::PacketInfo>(message, 44).type == rndis::kInfoVlan);
    CHECK(rndis::vlan_tci(read_at<u32>(message, 56)) == 0xb007);
    const Bytes plain = plain_frame(kGuestAddress, 104);
    CHECK(std::equal(plain.begin(), plain.end(), message.begin() + 8 + packet.data_offset));

    bed.message(nvsp_config(1514, 0), false);
    bed.receive(tagged);
    CHECK(read_at<rndis::Packet>(bed.world.indications[1].message, 8).data_length == 108);
}

TEST_CASE("rndis: frames longer than the guest's MTU are lost", "[hv][network]") {
    NetworkBed bed;
    bed.receive(plain_frame(kGuestAddress, 1514));
    bed.receive(plain_frame(kGuestAddress, 1515));
    CHECK(bed.world.indications.size() == 1);
    CHECK(bed.core->rndis().counters.oversize == 1);
}

TEST_CASE("rndis: a change of the link is told to a guest that is there (D-72)", "[hv][network]") {
    NetworkBed bed;
    bed.core->set_link(true);  // it was
    CHECK(bed.world.indications.empty());
    bed.core->set_link(false);
    bed.core->set_link(true);
    REQUIRE(bed.world.indications.size() == 2);
    CHECK(read_at<u32>(bed.world.indications[0].message, 0) == 7);
    CHECK(read_at<u32>(bed.world.indications[0].message, 8) == 0x4001'000c);
    CHECK(read_at<u32>(bed.world.indications[1].message, 8) == 0x4001'000b);
}

TEST_CASE("rndis: the Toeplitz hash is the one of Microsoft's examples", "[hv][network]") {
    // 66.9.149.187:2794 -> 161.142.100.80:1766 and others of "Verifying the RSS Hash Calculation".
    const Bytes tcp = {66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6};
    CHECK(vsp::toeplitz(kKey, tcp) == 0x51ccc178);
    CHECK(vsp::toeplitz(kKey, std::span(tcp).first(8)) == 0x323e8fc2);
    const Bytes other = {199, 92, 111, 2, 65, 69, 140, 83, 0x37, 0x96, 0x12, 0x83};
    CHECK(vsp::toeplitz(kKey, other) == 0xc626b0ea);
    const Bytes ipv6 = {0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0,    7,    0x3f, 0xfe,
                        0x25, 0x01, 0x02, 0x00, 0x00, 0x03, 0,    0,    0, 0, 0, 0, 0, 1, 0x0a, 0xea, 0x06, 0xe6};
    CHECK(vsp::toeplitz(kKey, ipv6) == 0x40207d3d);
}

TEST_CASE("rndis: flows go to the channels that the indirection table names, with their hash", "[hv][network]") {
    NetworkBed bed(3);
    for (u32 i = 1; i <= 3; ++i) bed.core->channel_opened(10 + i, i);
    std::vector<u32> table(128);
    for (u32 i = 0; i < 128; ++i) table[i] = i % 4;
    REQUIRE(set_bytes(bed, rndis::kOidRssParameters, rss_parameters(table, kKey)) == 0);
    bed.forget();
    std::set<u32> channels;
    for (u16 port = 1000; port < 1032; ++port) {
        bed.receive(tcp_frame(10, 0x0a000001, port));
        const auto& each = bed.world.indications.back();
        const u32 hash = read_at<u32>(each.message, 56);
        CHECK(read_at<rndis::PacketInfo>(each.message, 44).type == rndis::kInfoHash);
        const Bytes input = {10, 0, 0, 1, 10, 0, 0, 2, static_cast<u8>(port >> 8), static_cast<u8>(port), 0, 80};
        CHECK(hash == vsp::toeplitz(kKey, input));
        CHECK(each.channel == (hash % 4 == 0 ? NetworkBed::kPrimary : 10 + hash % 4));
        channels.insert(each.channel);
    }
    CHECK(channels.size() == 4);
    bed.forget();
    bed.core->channel_closed(12);  // its flows go to the primary channel
    channels.clear();
    for (u16 port = 1000; port < 1032; ++port) bed.receive(tcp_frame(10, 0x0a000001, port));
    for (const auto& each : bed.world.indications) channels.insert(each.channel);
    CHECK(channels == std::set<u32>{NetworkBed::kPrimary, 11, 13});
    REQUIRE(set_bytes(bed, rndis::kOidRssParameters, rss_parameters(table, kKey, rndis::kRssDisable)) == 0);
    bed.forget();
    bed.receive(tcp_frame(10, 0x0a000001, 1001));
    CHECK(bed.world.indications[0].channel == NetworkBed::kPrimary);
}

TEST_CASE("rndis: parameters of receive-side scaling that lie are refused", "[hv][network]") {
    NetworkBed bed(3);
    const std::vector<u32> table(128, 1);
    const Bytes whole = rss_parameters(table, kKey);
    for (std::size_t size = 0; size < whole.size(); size += size < 60 ? 1 : 37)
        CHECK(set_bytes(bed, rndis::kOidRssParameters,
                        {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}) != 0);
    CHECK(set_bytes(bed, rndis::kOidRssParameters, rss_parameters({}, kKey)) != 0);
    CHECK(set_bytes(bed, rndis::kOidRssParameters, rss_parameters(std::vector<u32>(129, 0), kKey)) != 0);
    CHECK(set_bytes(bed, rndis::kOidRssParameters, rss_parameters(table, {1, 2, 3})) != 0);
    for (const auto& [at, value] : std::vector<std::pair<u32, u32>>{{16, 0xffff'ff00}, {24, 0xffff'ff00}}) {
        Bytes lie = whole;
        std::memcpy(lie.data() + at, &value, 4);
        CHECK(set_bytes(bed, rndis::kOidRssParameters, lie) != 0);
    }
    // Entries that name no queue are brought into range.
    CHECK(set_bytes(bed, rndis::kOidRssParameters, rss_parameters(std::vector<u32>(128, 0xffff'ffff), kKey)) == 0);
    bed.receive(tcp_frame(10));
    CHECK(bed.world.indications.back().channel == NetworkBed::kPrimary);
}
