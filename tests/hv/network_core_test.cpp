// The network core: NVSP negotiation, buffers, what is sent, what is received, sub-channels. Row ids as in the names.
#include <catch2/catch.hpp>

#include <set>

#include "base/state.h"
#include "hv/vsp/toeplitz.h"
#include "tests/support/network_guest.h"
#include "tests/support/state_tree.h"

using namespace vg;
using namespace vg::test;
using netvsc::MessageType;
using netvsc::Status;

namespace {

constexpr u32 kSuccess = static_cast<u32>(Status::Success), kFail = static_cast<u32>(Status::Fail),
              kInvalid = static_cast<u32>(Status::InvalidRndisPacket);

rndis::Header header_of(const NetworkWorld::Indication& each) { return read_at<rndis::Header>(each.message, 0); }

Bytes data_of(const Bytes& message) {
    const auto packet = read_at<rndis::Packet>(message, 8);
    const auto from = message.begin() + 8 + packet.data_offset;
    return {from, from + packet.data_length};
}

}  // namespace

TEST_CASE("network: the highest version that both know is taken, and none otherwise (D-51)", "[hv][network]") {
    struct Case {
        u32 min, max, version, status;
    };
    for (const Case& each :
         {Case{netvsc::kVersion61, netvsc::kVersion61, netvsc::kVersion61, kSuccess},
          Case{netvsc::kVersion1, netvsc::kVersion1, netvsc::kVersion1, kSuccess},
          Case{netvsc::kVersion1, netvsc::kVersion5, netvsc::kVersion5, kSuccess},
          Case{0x70000, 0x70001, ~0u, static_cast<u32>(Status::ProtocolTooNew)},
          Case{0x30003, 0x30004, ~0u, static_cast<u32>(Status::ProtocolTooOld)},
          Case{netvsc::kVersion5, netvsc::kVersion1, ~0u, static_cast<u32>(Status::ProtocolTooOld)}}) {
        NetworkBed bed(0, false);
        bed.message(nvsp_init(each.min, each.max));
        REQUIRE(bed.world.completions.size() == 1);
        CHECK(bed.world.completions[0].payload.size() == 40);  // D-50
        CHECK(bed.answer().type == static_cast<u32>(MessageType::InitComplete));
        CHECK(bed.answer().init_complete.version == each.version);
        CHECK(bed.answer().init_complete.status == each.status);
        CHECK(bed.answer().init_complete.max_mdl_chain == 34);
    }
    NetworkBed bed;
    bed.message(nvsp_init(netvsc::kVersion5, netvsc::kVersion5));  // a second one
    CHECK(bed.answer().init_complete.status == kFail);
    CHECK(bed.core->version() == netvsc::kVersion61);
}

TEST_CASE("network: what asks for no completion gets none (D-52, D-53, D-56)", "[hv][network]") {
    NetworkBed bed;
    bed.message(nvsp_config(1514, 0), false);
    auto version = nvsp(MessageType::SendNdisVersion);
    version.ndis_version = {6, 0x1e};
    bed.message(version, false);
    bed.message(nvsp(MessageType::RevokeReceiveBuffer), false);
    bed.message(nvsp(MessageType::RevokeSendBuffer), false);
    CHECK(bed.world.completions.empty());
    CHECK(bed.core->invalid_packets() == 0);
}

TEST_CASE("network: the receive buffer is one section of pieces that take a frame each (D-54)", "[hv][network]") {
    NetworkBed bed(0, false);
    bed.message(nvsp_init(netvsc::kVersion5, netvsc::kVersion5));
    const u32 mtu = GENERATE(1500u, 9000u);
    bed.message(nvsp_config(mtu + 14, 0), false);
    bed.message(nvsp_buffer(MessageType::SendReceiveBuffer, 1, netvsc::kReceiveBufferId));
    const auto& answer = bed.answer().receive_buffer_complete;
    CHECK(bed.answer().type == static_cast<u32>(MessageType::SendReceiveBufferComplete));
    CHECK(answer.status == kSuccess);
    CHECK(answer.section_count == 1);
    CHECK(answer.section.offset == 0);
    CHECK(answer.section.suballocation_size >= std::max(1728u, mtu + 14 + 8 + 36 + 48));
    CHECK(answer.section.suballocation_count > 64);
    CHECK(u64{answer.section.suballocation_size} * answer.section.suballocation_count <= 1 << 20);
    CHECK(answer.section.end == answer.section.suballocation_size * answer.section.suballocation_count);

    bed.message(nvsp_buffer(MessageType::SendReceiveBuffer, 2, netvsc::kReceiveBufferId));  // while there is one
    CHECK(bed.answer().receive_buffer_complete.status == kFail);
    bed.message(nvsp(MessageType::RevokeReceiveBuffer), false);
    bed.world.buffers[3].resize(64 * 1024);  // too little for anything
    for (const u32 gpadl : {3u, 99u}) {
        bed.message(nvsp_buffer(MessageType::SendReceiveBuffer, gpadl, netvsc::kReceiveBufferId));
        CHECK(bed.answer().receive_buffer_complete.status == kFail);
    }
    bed.message(nvsp_buffer(MessageType::SendReceiveBuffer, 2, netvsc::kReceiveBufferId));
    CHECK(bed.answer().receive_buffer_complete.status == kSuccess);
}

TEST_CASE("network: the send buffer's section size is the provider's (D-55)", "[hv][network]") {
    NetworkBed bed(0, false);
    bed.message(nvsp_init(netvsc::kVersion5, netvsc::kVersion5));
    bed.world.buffers[3].resize(6143);
    for (const u32 gpadl : {3u, 99u}) {
        bed.message(nvsp_buffer(MessageType::SendSendBuffer, gpadl, 0));
        CHECK(bed.answer().send_buffer_complete.status == kFail);
    }
    bed.message(nvsp_buffer(MessageType::SendSendBuffer, 2, 0));
    CHECK(bed.answer().type == static_cast<u32>(MessageType::SendSendBufferComplete));
    CHECK(bed.answer().send_buffer_complete.status == kSuccess);
    CHECK(bed.answer().send_buffer_complete.section_size == 6144);
}

TEST_CASE("network: messages that lie in the send buffer, in pages, or in both are sent (D-58)", "[hv][network]") {
    NetworkBed bed;
    const Bytes frame = plain_frame(kPeerAddress, 1514), message = rndis_frame(frame);
    bed.send(message);
    bed.send_section(3, message);
    const auto cut = message.begin() + 44;  // headers in the section, the frame in pages
    bed.send_section(4, {message.begin(), cut}, {cut, message.end()});
    REQUIRE(bed.world.sent.size() == 3);
    for (const auto& sent : bed.world.sent) CHECK(sent.bytes == frame);
    CHECK(bed.world.completions.empty());
    REQUIRE(bed.world.scheduled.size() == 3);
    CHECK(bed.world.scheduled[0].second == message.size());
    bed.settle();
    REQUIRE(bed.world.completions.size() == 3);  // D-57
    for (const auto& each : bed.world.completions) {
        CHECK(each.payload.size() >= 8);
        CHECK(read_at<u32>(each.payload, 0) == 108);
        CHECK(read_at<u32>(each.payload, 4) == kSuccess);
    }
    for (u32 slot = 0; slot < vsp::Network::kMaxInFlight; ++slot) bed.core->finish(slot);  // exactly once
    CHECK(bed.world.completions.size() == 3);
}

TEST_CASE("network: a section holds several messages, the last of which goes on in pages (D-58, D-59)",
          "[hv][network]") {
    NetworkBed bed;
    Bytes head;
    std::vector<Bytes> frames;
    for (u32 i = 0; i < 4; ++i) {
        frames.push_back(plain_frame(kPeerAddress, 60 + 13 * i, static_cast<u8>(i)));
        const u32 padding = (8 - (frames.back().size() + 44) % 8) % 8;
        const Bytes message = rndis_frame(frames.back(), {}, i < 3 ? padding : 0);
        head.insert(head.end(), message.begin(), message.end());
    }
    const auto cut = head.end() - static_cast<std::ptrdiff_t>(frames.back().size());
    bed.send_section(0, {head.begin(), cut}, {cut, head.end()});
    REQUIRE(bed.world.sent.size() == 4);
    for (u32 i = 0; i < 4; ++i) CHECK(bed.world.sent[i].bytes == frames[i]);
    bed.settle();
    CHECK(bed.world.completions.size() == 1);

    Bytes nine;
    for (u32 i = 0; i < 9; ++i) {  // one more than INITIALIZE_CMPLT allowed
        const Bytes message = rndis_frame(frames[0], {}, 0);
        nine.insert(nine.end(), message.begin(), message.end());
    }
    bed.send(nine);
    bed.settle();
    CHECK(bed.rndis_status() == kInvalid);
}

TEST_CASE("network: sections and lengths that are lies send nothing and are answered (D-57, D-58)", "[hv][network]") {
    NetworkBed bed;
    const Bytes message = rndis_frame(plain_frame(kPeerAddress, 100));
    const u32 sections = (1 << 20) / 6144;
    const auto refused = [&](const netvsc::Message& header, vsp::GuestData* data = nullptr, bool malformed = false) {
        bed.forget();
        auto packet = bed.packet(bytes_of(header));
        packet.data = data;
        packet.data_malformed = malformed;
        bed.core->on_packet(packet);
        bed.settle();
        CHECK(bed.world.sent.empty());
        REQUIRE(bed.world.completions.size() == 1);
        CHECK(bed.rndis_status() == kInvalid);
    };
    refused(nvsp_rndis(0, sections, 100));
    refused(nvsp_rndis(0, 0xffff'fffe, 100));
    refused(nvsp_rndis(0, 0, 6145));
    refused(nvsp_rndis(0, 0, 0xffff'ffff));
    refused(nvsp_rndis(2));
    refused(nvsp_rndis(0), nullptr, true);
    PacketData missing(message);
    missing.missing = true;
    refused(nvsp_rndis(0), &missing);
    PacketData huge(message);
    huge.pretended = 16 << 20;
    refused(nvsp_rndis(0), &huge);
    CHECK(huge.reads == 0);
    PacketData control(Bytes(4097));
    refused(nvsp_rndis(1), &control);
    bed.world.buffers.erase(NetworkBed::kSendGpadl);
    refused(nvsp_rndis(0, 0, 100));
    bed.core->buffer_gone(NetworkBed::kSendGpadl);
    bed.world.buffers[NetworkBed::kSendGpadl].resize(1 << 20);
    refused(nvsp_rndis(0, 0, 100));  // the pages came back, the buffer did not
}

TEST_CASE("network: a data message cut at every byte, or with any field of its header wrong, is refused (D-73)",
          "[hv][network]") {
    NetworkBed bed;
    const Bytes whole = rndis_frame(plain_frame(kPeerAddress, 90), {{rndis::kInfoChecksum, rndis::kSendIpv4}});
    for (std::size_t size = 0; size < whole.size(); ++size) {
        bed.forget();
        bed.send({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
        bed.settle();
        CHECK(bed.world.sent.empty());
        REQUIRE(bed.world.completions.size() == 1);
        CHECK(bed.rndis_status() == (size == 0 ? kSuccess : kInvalid));  // nothing at all is nothing wrong
    }
    for (const std::size_t field : {4u, 8u, 12u, 28u, 32u, 44u, 52u}) {  // lengths and offsets
        for (const u32 value : {0x7fff'ffffu, 0xffff'ffffu, 0xffff'fff8u, 4u}) {
            bed.forget();
            Bytes lie = whole;
            std::memcpy(lie.data() + field, &value, sizeof value);
            bed.send(lie);
            bed.settle();
            CAPTURE(field, value);
            CHECK(bed.world.sent.empty());
            CHECK(bed.rndis_status() == kInvalid);
        }
    }
    CHECK(bed.core->in_flight() == 0);
}

TEST_CASE("network: NVSP messages cut at every byte are answered with a failure or not at all", "[hv][network]") {
    for (const u32 type : {1u, 100u, 101u, 103u, 104u, 106u, 107u, 125u, 129u, 131u, 133u, 9999u}) {
        for (u32 size = 0; size < 40; ++size) {
            NetworkBed bed(3);
            auto message = nvsp(static_cast<MessageType>(type));
            bed.core->on_packet(bed.packet(bytes_of(message).first(size)));
            bed.settle();
            CHECK(bed.world.completions.size() == 1);
            CHECK(bed.world.sub_channels.empty());
        }
    }
}

TEST_CASE("network: per-packet information asks for checksums, segments and a tag (D-74)", "[hv][network]") {
    NetworkBed bed;
    const Bytes frame = plain_frame(kPeerAddress, 200);
    bed.send(rndis_frame(frame, {{rndis::kInfoChecksum, rndis::kSendIpv4 | rndis::kSendTcp | 34 << 16}}));
    bed.send(rndis_frame(frame, {{rndis::kInfoChecksum, rndis::kSendIpv6 | rndis::kSendUdp}}));
    bed.send(rndis_frame(frame, {{rndis::kInfoChecksum, rndis::kSendIpv4 | rndis::kSendIpHeader}}));
    bed.send(rndis_frame(plain_frame(kPeerAddress, 60000),
                         {{rndis::kInfoLargeSend, 1448 | 34 << 20 | rndis::kLargeSendVersion2}}));
    bed.send(rndis_frame(frame, {{rndis::kInfoHash, 77}, {rndis::kInfoVlan, rndis::vlan_info(0x7005)}}));
    REQUIRE(bed.world.sent.size() == 5);
    CHECK((bed.world.sent[0].tcp && !bed.world.sent[0].udp && !bed.world.sent[0].ip));
    CHECK((!bed.world.sent[1].tcp && bed.world.sent[1].udp));
    CHECK(bed.world.sent[2].ip);
    CHECK(bed.world.sent[3].segment_bytes == 1448);
    CHECK(bed.world.sent[3].bytes.size() == 60000);
    const Bytes& tagged = bed.world.sent[4].bytes;
    REQUIRE(tagged.size() == 204);
    CHECK(std::equal(tagged.begin(), tagged.begin() + 12, frame.begin()));
    CHECK((tagged[12] == 0x81 && tagged[13] == 0 && tagged[14] == 0x70 && tagged[15] == 5));
    CHECK(std::equal(tagged.begin() + 16, tagged.end(), frame.begin() + 12));

    bed.forget();
    bed.send(rndis_frame(plain_frame(kPeerAddress, 1519)));                              // longer than the MTU allows
    bed.send(rndis_frame(frame, {{rndis::kInfoLargeSend, rndis::kLargeSendVersion2}}));  // segments of nothing
    bed.send(rndis_frame(frame, {{rndis::kInfoLargeSend, 1448}}));                       // version 1 was not offered
    bed.send(rndis_frame(plain_frame(kPeerAddress, 13)));
    CHECK(bed.world.sent.empty());
}

TEST_CASE(
    "network: a frame arrives in a section of the receive buffer, which is its until the guest says so (D-61, D-73)",
    "[hv][network]") {
    NetworkBed bed;
    const Bytes frame = plain_frame(kGuestAddress, 1514);
    bed.receive(frame);
    REQUIRE(bed.world.indications.size() == 1);
    const auto first = bed.world.indications[0];
    CHECK(first.channel == NetworkBed::kPrimary);
    CHECK(first.channel_type == 0);
    CHECK(first.range.byte_offset % 1728 == 0);
    CHECK(first.range.byte_count <= 1728);
    CHECK(header_of(first).type == 1);
    CHECK(header_of(first).length == first.range.byte_count);
    CHECK(data_of(first.message) == frame);
    bed.receive(frame);
    CHECK(bed.world.indications[1].range.byte_offset != first.range.byte_offset);
    CHECK(bed.core->sections_used() == 2);
    bed.core->on_completion(NetworkBed::kPrimary, first.transaction_id);
    CHECK(bed.core->sections_used() == 1);
    CHECK(bed.core->invalid_packets() == 0);
    bed.core->on_completion(NetworkBed::kPrimary, first.transaction_id);  // twice
    bed.core->on_completion(NetworkBed::kPrimary, 0);
    bed.core->on_completion(NetworkBed::kPrimary, ~u64{0});
    bed.core->on_completion(99, bed.world.indications[1].transaction_id);  // on another channel
    CHECK(bed.core->sections_used() == 1);
    CHECK(bed.core->invalid_packets() == 4);
    bed.receive(frame);  // takes the first section again, under another transaction
    CHECK(bed.world.indications[2].range.byte_offset == first.range.byte_offset);
    CHECK(bed.world.indications[2].transaction_id != first.transaction_id);
    bed.core->on_completion(NetworkBed::kPrimary, first.transaction_id);
    CHECK(bed.core->sections_used() == 2);
}

TEST_CASE("network: a guest that gives nothing back loses frames, and still gets its answers", "[hv][network]") {
    NetworkBed bed;
    const Bytes frame = plain_frame(kGuestAddress, 100);
    for (u32 i = 0; i < 5000; ++i) bed.receive(frame);
    const u32 sections = (1 << 20) / 1728;
    CHECK(bed.world.indications.size() == sections - vsp::Network::kControlSections);
    CHECK(bed.core->free_sections() == 0);
    CHECK(bed.core->rndis().counters.no_buffer == 5000 - bed.world.indications.size());
    std::set<u32> offsets;
    for (const auto& each : bed.world.indications) offsets.insert(each.range.byte_offset);
    CHECK(offsets.size() == bed.world.indications.size());
    bed.forget();
    for (u32 i = 0; i < 40; ++i) bed.control(rndis_request(rndis::MessageType::Query, i, rndis::kOidLinkSpeed));
    CHECK(bed.world.indications.size() == vsp::Network::kControlSections);
    CHECK(bed.world.completions.size() == 40);
}

TEST_CASE("network: buffers that go away are not touched again", "[hv][network]") {
    NetworkBed bed;
    const Bytes frame = plain_frame(kGuestAddress, 100);
    bed.receive(frame);
    const auto before = bed.world.indications[0];
    const u64 writes = bed.world.writes;
    SECTION("by a message") { bed.message(nvsp(MessageType::RevokeReceiveBuffer), false); }
    SECTION("with their pages") { bed.core->buffer_gone(NetworkBed::kReceiveGpadl); }
    SECTION("with the channel") { bed.core->channel_closed(NetworkBed::kPrimary); }
    bed.receive(frame);
    bed.control(rndis_request(rndis::MessageType::Query, 1, rndis::kOidLinkSpeed));
    CHECK(bed.world.indications.size() == 1);
    CHECK(bed.world.writes == writes);
    CHECK(bed.core->sections_used() == 0);
    bed.core->on_completion(NetworkBed::kPrimary, before.transaction_id);
    CHECK(bed.core->sections_used() == 0);
    CHECK_FALSE(bed.core->listens());
}

TEST_CASE("network: pages that are not memory lose the frame and no section", "[hv][network]") {
    NetworkBed bed;
    bed.world.failing = true;
    bed.receive(plain_frame(kGuestAddress, 100));
    CHECK(bed.world.indications.empty());
    CHECK(bed.core->sections_used() == 0);
}

TEST_CASE("network: closing the channel forgets what is in flight, and opening it starts over", "[hv][network]") {
    NetworkBed bed;
    bed.send(rndis_frame(plain_frame(kPeerAddress, 100)));
    REQUIRE(bed.core->in_flight() == 1);
    bed.core->channel_closed(NetworkBed::kPrimary);
    CHECK(bed.core->in_flight() == 0);
    CHECK(bed.core->state() == vsp::Network::State::AwaitInit);
    bed.settle();
    CHECK(bed.world.completions.empty());
    bed.core->channel_opened(NetworkBed::kPrimary, 0);
    bed.message(nvsp_buffer(MessageType::SendSendBuffer, 2, 0));  // out of turn
    CHECK(bed.answer().type == 0);
    bed.message(nvsp_init(netvsc::kVersion5, netvsc::kVersion5));
    CHECK(bed.answer().init_complete.status == kSuccess);
}

TEST_CASE("network: no more messages are taken than can be remembered", "[hv][network]") {
    NetworkBed bed;
    const Bytes message = rndis_frame(plain_frame(kPeerAddress, 60));
    u32 taken = 0;
    while (bed.core->can_accept()) {
        bed.send(message);
        ++taken;
    }
    CHECK(taken == vsp::Network::kMaxInFlight);
    bed.settle();
    CHECK(bed.world.completions.size() == taken);
    std::set<u64> ids;
    for (const auto& each : bed.world.completions) ids.insert(each.transaction_id);
    CHECK(ids.size() == taken);
}

TEST_CASE("network: sub-channels come after they were asked for, and the guest hears over what to spread (D-64, V-64)",
          "[hv][network]") {
    NetworkBed bed(3);
    bed.message(nvsp_sub_channels(7));
    CHECK(bed.answer().type == static_cast<u32>(MessageType::SubChannel));
    CHECK(bed.world.completions.back().payload.size() >= 12);
    CHECK(bed.answer().sub_channels_complete.status == kSuccess);
    CHECK(bed.answer().sub_channels_complete.count == 3);
    CHECK(bed.world.sub_channels == std::vector<u16>{3});
    bed.core->channel_opened(11, 1);
    bed.core->channel_opened(12, 2);
    bed.core->channel_opened(13, 3);
    REQUIRE(bed.world.sends.size() == 3);
    const Bytes& table = bed.world.sends.back().second;
    CHECK(bed.world.sends.back().first == NetworkBed::kPrimary);
    const auto message = read_at<netvsc::Message>(table, 0);
    CHECK(message.type == 134);
    CHECK(message.indirection.count == 16);
    REQUIRE(message.indirection.offset + 64 <= table.size());
    for (u32 i = 0; i < 16; ++i) CHECK(read_at<u32>(table, message.indirection.offset + 4 * i) == i % 4);

    NetworkBed single;
    single.message(nvsp_sub_channels(1));
    CHECK(single.answer().sub_channels_complete.status == kFail);
    CHECK(single.world.sub_channels.empty());
}

TEST_CASE("network: what belongs to the primary channel is refused on another", "[hv][network]") {
    NetworkBed bed(1);
    bed.core->channel_opened(11, 1);
    auto message = nvsp(MessageType::RevokeReceiveBuffer);
    auto packet = bed.packet(bytes_of(message));
    packet.channel = 11;
    packet.sub_channel = true;
    bed.core->on_packet(packet);
    CHECK(bed.core->invalid_packets() == 1);
    CHECK(bed.core->listens());
    const Bytes content = rndis_frame(plain_frame(kPeerAddress, 100));
    PacketData data(content);
    const auto header = nvsp_rndis(0);
    packet.payload = bytes_of(header);
    packet.data = &data;
    bed.core->on_packet(packet);  // data may come on any
    bed.settle();
    CHECK(bed.world.sent.size() == 1);
    CHECK(bed.world.completions.back().channel == 11);
}

TEST_CASE("network: the data path is what it was, without a virtual function (D-62, D-63)", "[hv][network]") {
    NetworkBed bed;
    bed.message(nvsp(MessageType::SwitchDataPath));
    REQUIRE(bed.world.completions.size() == 1);
    CHECK(bed.world.completions[0].payload.empty());
    bed.receive(plain_frame(kGuestAddress, 100));
    CHECK(bed.world.indications.size() == 1);
}

TEST_CASE("network: a state in the middle of everything is the same after it was loaded", "[hv][network]") {
    NetworkBed bed(3);
    bed.message(nvsp_sub_channels(3));
    bed.core->channel_opened(11, 1);
    for (u32 i = 0; i < 5; ++i) bed.receive(plain_frame(kGuestAddress, 100 + i));
    bed.core->on_completion(NetworkBed::kPrimary, bed.world.indications[1].transaction_id);
    for (u32 i = 0; i < 4; ++i) bed.send(rndis_frame(plain_frame(kPeerAddress, 100)));
    bed.core->finish(2);
    const auto tree = save(*bed.core);

    NetworkBed other(3, false);
    CHECK(load(tree, *other.core).empty());
    CHECK(save(*other.core) == tree);
    CHECK(other.core->in_flight() == 3);
    CHECK(other.core->sections_used() == 4);
    other.core->finish(2);  // was finished before
    CHECK(other.world.completions.empty());
    other.core->finish(3);
    CHECK(other.world.completions.size() == 1);
    other.core->on_completion(NetworkBed::kPrimary, bed.world.indications[1].transaction_id);
    CHECK(other.core->sections_used() == 4);
    other.core->on_completion(NetworkBed::kPrimary, bed.world.indications[2].transaction_id);
    CHECK(other.core->sections_used() == 3);
    other.receive(plain_frame(kGuestAddress, 100));
    REQUIRE(other.world.indications.size() == 1);
    CHECK(other.world.indications[0].range.byte_offset == bed.world.indications[1].range.byte_offset);
}
