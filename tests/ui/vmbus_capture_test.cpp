// A capture's channels, matches and limits, and hypercalls in a log.
#include "ui/model/vmbus_capture.h"

#include <catch2/catch.hpp>

#include "hv/spec/hypercall.h"
#include "tests/support/vmbus_events.h"
#include "ui/model/hypercall_log.h"

using namespace vg;
using namespace vg::hv::vmbus;
using model::VmbusCapture;
using model::VmbusEntry;

namespace {

model::EventRecord request(u64 transaction, VTime time) {
    return test::packet_event(test::packet_bytes(PacketType::GpaDirect, 1, transaction, test::gpa_direct(512, 0, {1}),
                                                 test::storage_request({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512, 1)),
                              false, time);
}
model::EventRecord answer(u64 transaction, VTime time) {
    return test::packet_event(
        test::packet_bytes(PacketType::Completion, 0, transaction, {}, test::storage_answer(1, 0, 512)), true, time);
}

}  // namespace

TEST_CASE("vmbus capture: a completion finds its request by transaction, and the latency is theirs", "[ui][vmbus]") {
    VmbusCapture capture;
    capture.add(test::message_event(test::offer_bytes(hv::kScsiControllerClass, 1), true));
    const u64 first = capture.add(request(5, 1000))->number;
    capture.add(request(6, 2000));
    const VmbusEntry* const done = capture.add(answer(6, 25'000));
    CHECK(done->peer == first + 1);
    CHECK(done->latency == 23'000);
    CHECK(
        model::entry_line(*done) ==
        "host -> guest  channel 1 storage  completion 0x6  COMPLETE_IO: ok, 512 bytes <- READ(10) LBA 0 blocks 1, 512 "
        "bytes, 23.000 us");
    CHECK(capture.find(first + 1)->peer == done->number);
    capture.add(answer(5, 31'000));
    const auto& channel = capture.channels().at({2, 1});
    CHECK(channel.requests == 2);
    CHECK(channel.completions == 2);
    CHECK(channel.latency_min == 23'000);
    CHECK(channel.latency_max == 30'000);
    CHECK(capture.outstanding() == 0);
    CHECK(capture.add(answer(5, 32'000))->peer == 0);
}

TEST_CASE("vmbus capture: equal transactions are answered in order, each direction for itself", "[ui][vmbus]") {
    VmbusCapture capture;
    const u64 first = capture.add(request(9, 100))->number;
    capture.add(request(9, 200));
    auto host = test::packet_event(test::packet_bytes(PacketType::InBand, 1, 9, {}, {}), true, 300);
    capture.add(host);
    CHECK(capture.add(answer(9, 1000))->peer == first);
    CHECK(capture.add(answer(9, 1100))->peer == first + 1);
    CHECK(capture.add(answer(9, 1200))->peer == 0);
    CHECK(capture.outstanding() == 1);
}

TEST_CASE("vmbus capture: what was asked before a channel was closed has no answer after it", "[ui][vmbus]") {
    VmbusCapture capture;
    capture.add(request(9, 100));
    CloseChannel close{};
    close.relid = 1;
    capture.add(test::message_event(test::message_bytes(MessageType::CloseChannel, close), false));
    CHECK(capture.outstanding() == 0);
    CHECK(capture.channels().at({2, 1}).state == "closed");
    CHECK(capture.add(answer(9, 1000))->peer == 0);
    capture.add(request(9, 1100));
    capture.add(test::message_event(test::message_bytes(MessageType::Unload, Unload{}), false));
    CHECK(capture.outstanding() == 0);
}

TEST_CASE("vmbus capture: it keeps so many entries and so many open requests, whatever comes", "[ui][vmbus]") {
    VmbusCapture capture(10);
    for (u64 i = 0; i < 70'000; ++i) capture.add(request(i, i));
    CHECK(capture.entries().size() == 10);
    CHECK(capture.outstanding() == VmbusCapture::kMaxOutstanding);
    CHECK(capture.find(1) == nullptr);
    CHECK(capture.find(69'995)->number == 69'995);
    CHECK(capture.add(answer(0, 80'000))->peer == 1);
    for (u32 i = 0; i < 20'000; ++i) {
        auto event = request(1, 1);
        event.partition = i;
        capture.add(std::move(event));
    }
    CHECK(capture.channels().size() <= VmbusCapture::kMaxChannels);
}

TEST_CASE("event rows: what an event was comes back from its row", "[ui][vmbus]") {
    model::EventRecord event = request(0x123456789abcdef0, 77);
    event.seq = 12;
    event.vp = 3;
    event.instructions = 99;
    event.payload_size = 5000;
    const auto back = model::event_from_json(model::event_to_json(event));
    REQUIRE(back);
    CHECK(back->seq == 12);
    CHECK(back->kind == TapKind::VmbusPacket);
    CHECK(back->values[2] == 0x123456789abcdef0);
    CHECK(back->vp == 3);
    CHECK(back->payload == event.payload);
    CHECK(back->payload_size == 5000);
    for (const char* text : {R"({})", R"([])", R"({"seq":1,"time":2})", R"({"seq":1,"time":2,"kind":"none"})",
                             R"({"seq":1,"time":2,"kind":"frame"})",
                             R"({"seq":1,"time":-2,"kind":"frame","values":{"card":1,"to_guest":1}})",
                             R"({"seq":1,"time":2,"kind":"frame","values":{"card":"0x","to_guest":1}})",
                             R"({"seq":1,"time":2,"kind":"frame","values":{"card":1,"to_guest":1},"payload":"0g"})"}) {
        CHECK_FALSE(model::event_from_json(model::Json::parse(text)));
    }
}

TEST_CASE("hypercall log: a call has its name, arguments and result; counts know refusals", "[ui][vmbus]") {
    model::HypercallLog log(2);
    model::EventRecord event;
    event.kind = TapKind::Hypercall;
    event.partition = 2;
    event.vp = 0;
    event.time = 100;
    event.values[0] = 0x1005d;
    event.values[3] = 0x12;
    event.payload = {5, 0, 0, 0, 7, 0, 0, 0};
    event.payload_size = 8;
    CHECK(log.add(event)->decoded.title == "SignalEvent connection_id 0x5, flag_number 0x7: InvalidConnectionId");
    event.values[3] = 0;
    event.time = 300;
    log.add(event);

    hv::PostMessageIn post{};
    post.connection_id = 4;
    post.message_type = kMessageTypeChannel;
    post.payload_size = 8;
    post.payload[0] = 16;
    event.values[0] = 0x5c;
    event.payload.clear();
    test::append(event.payload, post);
    event.payload_size = sizeof post;
    CHECK(log.add(event)->decoded.title ==
          "PostMessage connection_id 0x4, message_type 0x1, payload_size 0x8, UNLOAD: Success");
    event.payload.resize(20);
    CHECK(log.add(event)->decoded.cut);

    event.values[0] = 0x4b | u64{3} << 32 | u64{1} << 48;
    event.values[3] = 0xb | u64{2} << 32;
    event.payload.clear();
    event.payload_size = 0;
    CHECK(log.add(event)->decoded.title == "MapGpaPages: InsufficientMemory, 2 of 3 done");

    CHECK(log.entries().size() == 2);
    const auto& count = log.counts().at({2, 0x5d});
    CHECK(count.calls == 2);
    CHECK(count.failures == 1);
    CHECK(count.first == 100);
    CHECK(count.last == 300);
    CHECK(count.statuses.at(0x12) == 1);
}
