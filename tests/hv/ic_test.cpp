// Protocol cores of the integration components. Rows D-100..D-108.
#include <catch2/catch.hpp>

#include "hv/ic/command_service.h"
#include "hv/ic/heartbeat.h"
#include "hv/ic/time_sync.h"
#include "tests/support/message_guest.h"
#include "tests/support/random.h"
#include "tests/support/state_tape.h"

using namespace vg;
using namespace vg::hv::ic;
using namespace vg::test;

namespace {

struct Client final : CommandClient {
    struct Finished {
        MessageType service;
        u64 number;
        End end;
        u32 status;
        Bytes body;
    };
    void finished(MessageType service, u64 number, End end, u32 status, std::span<const u8> body) override {
        all.push_back({service, number, end, status, {body.begin(), body.end()}});
    }
    std::vector<Finished> all;
};

struct Clock final : HostTime {
    u64 now_100ns() const override { return kUnixEpoch_100ns + start * 10'000'000 + now; }
    u64 reference() const override { return now; }
    u64 start_seconds() const override { return start; }
    u64 start = 1'767'225'600, now = 0;
};

/// Opens and agrees; what the core said behind that.
std::vector<Said> connect(IcService& service, Version version, Version framework = {3, 0}) {
    service.opened();
    const auto said = listen(service);
    REQUIRE(said.size() == 1);
    service.receive(agree(said[0].bytes, framework, version), said[0].transaction_id);
    REQUIRE(service.state() == IcService::State::Ready);
    return listen(service);
}

}  // namespace

TEST_CASE("ic: negotiation offers ascending versions and takes one of each (D-100, D-101, D-102)", "[hv][ic]") {
    HeartbeatService service;
    CHECK(service.state() == IcService::State::Closed);
    CHECK(listen(service).empty());
    service.opened();
    const auto said = listen(service);
    REQUIRE(said.size() == 1);
    const auto pipe = as<hv::vmbus::PipeHeader>(said[0].bytes);
    CHECK(pipe.type == 1);
    CHECK(pipe.size == said[0].bytes.size() - 8);
    const auto header = as<IcHeader>(said[0].bytes, 8);
    CHECK(header.type == 0);
    CHECK(header.flags == 3);
    CHECK(header.size == 8 + 4 * 4);
    const auto counts = as<Negotiate>(said[0].bytes, 28);
    CHECK(counts.framework_count == 2);
    CHECK(counts.message_count == 2);
    CHECK(as<Version>(said[0].bytes, 36) == Version{1, 0});
    CHECK(as<Version>(said[0].bytes, 40) == Version{3, 0});
    CHECK(listen(service).empty());  // one request at a time: silence is no mistake (D-107)

    SECTION("what was not offered is a refusal") {
        service.receive(agree(said[0].bytes, {3, 0}, {9, 9}), said[0].transaction_id);
        CHECK(service.state() == IcService::State::Refused);
        CHECK(listen(service).empty());
    }
    SECTION("counts of zero are a refusal") {
        auto none = agree(said[0].bytes, {3, 0}, {3, 0});
        none[28] = none[30] = 0;
        service.receive(none, said[0].transaction_id);
        CHECK(service.state() == IcService::State::Refused);
    }
    SECTION("another transaction is no answer") {
        service.receive(agree(said[0].bytes, {3, 0}, {3, 0}), said[0].transaction_id + 1);
        CHECK(service.state() == IcService::State::Negotiating);
        CHECK(service.invalid() == 1);
        service.receive(agree(said[0].bytes, {3, 0}, {3, 0}), said[0].transaction_id);
        CHECK(service.state() == IcService::State::Ready);
        CHECK(service.version() == Version{3, 0});
        CHECK(service.framework() == Version{3, 0});
    }
    SECTION("a guest that connects again starts afresh") {
        service.closed();
        CHECK(service.state() == IcService::State::Closed);
        CHECK(connect(service, {1, 0}, {1, 0}).size() == 1);
    }
}

TEST_CASE("ic: no prefix of an answer is one", "[hv][ic]") {
    HeartbeatService service;
    service.opened();
    const auto said = listen(service);
    const Bytes answer = agree(said[0].bytes, {3, 0}, {3, 0});
    const std::size_t needed = 8 + 20 + 16;
    for (std::size_t size = 0; size < answer.size(); ++size) {
        service.receive(std::span(answer).first(size), said[0].transaction_id);
        REQUIRE(service.state() == IcService::State::Negotiating);  // the pipe's size says more than there is
    }
    auto shorter = answer;
    const u32 pipe = needed - 8;
    std::memcpy(shorter.data() + 4, &pipe, 4);
    shorter.resize(needed);
    service.receive(shorter, said[0].transaction_id);
    CHECK(service.state() == IcService::State::Ready);
}

TEST_CASE("ic: random answers leave a service that can still be talked to", "[hv][ic]") {
    Random random(0x1c);
    Clock clock;
    Client client;
    for (unsigned round = 0; round < 3000; ++round) {
        TimeSyncService time(clock);
        CommandService command(MessageType::Kvp, client);
        for (IcService* const service : {static_cast<IcService*>(&time), static_cast<IcService*>(&command)}) {
            service->opened();
            for (unsigned turn = 0; turn < 6; ++turn) {
                (void)command.submit(turn, Bytes(32, 1));
                for (Said& said : listen(*service)) {
                    Bytes answer = turn == 0 ? agree(said.bytes, {3, 0}, {4, 0}) : reply(said.bytes);
                    const unsigned changes = static_cast<unsigned>(random.next() % 4);
                    for (unsigned i = 0; i < changes; ++i)
                        answer[random.next() % answer.size()] = static_cast<u8>(random.next());
                    if (random.next() % 4 == 0) answer.resize(random.next() % (answer.size() + 1));
                    service->receive(answer, said.transaction_id);
                    time.tick();
                }
            }
            service->closed();
            REQUIRE(connect(*service, {4, 0}).size() <= 1);
            service->closed();
        }
    }
}

TEST_CASE("heartbeat: counts on, says when the guest is late, and stops asking a dead one (D-105)", "[hv][ic]") {
    HeartbeatService service;
    CHECK(service.tick_after_ns() == 0);
    auto said = connect(service, {3, 0});
    REQUIRE(said.size() == 1);
    CHECK(as<IcHeader>(said[0].bytes, 8).type == 1);
    CHECK(as<IcHeader>(said[0].bytes, 8).size == 40);
    CHECK(service.tick_after_ns() == 2'000'000'000);
    const auto answer = [&](u64 sequence) {
        auto bytes = reply(said[0].bytes);
        std::memcpy(bytes.data() + 28, &sequence, sizeof sequence);
        service.receive(bytes, said[0].transaction_id);
    };
    answer(as<Heartbeat>(said[0].bytes, 28).sequence + 1);
    CHECK(service.health() == HeartbeatService::Health::Alive);
    CHECK(listen(service).empty());
    service.tick();
    said = listen(service);
    REQUIRE(said.size() == 1);
    CHECK(as<Heartbeat>(said[0].bytes, 28).sequence == 1);

    service.tick();
    CHECK(service.health() == HeartbeatService::Health::Late);
    CHECK(listen(service).empty());  // the last one is still open
    service.tick();
    service.tick();
    CHECK(service.health() == HeartbeatService::Health::Lost);
    CHECK(service.tick_after_ns() == 0);  // nothing wakes a machine in which nothing happens any more
    answer(2);
    CHECK(service.health() == HeartbeatService::Health::Alive);
    CHECK(service.tick_after_ns() != 0);

    SECTION("a wrong number is not alive") {
        service.tick();
        said = listen(service);
        answer(99);
        CHECK(service.health() == HeartbeatService::Health::Late);
    }
    SECTION("a guest that leaves is not known about") {
        service.closed();
        CHECK(service.health() == HeartbeatService::Health::Unknown);
        CHECK(service.tick_after_ns() == 0);
    }
}

TEST_CASE("time sync: sets the clock once, then sends samples, and sets it again when told (D-106)", "[hv][ic]") {
    Clock clock;
    TimeSyncService service(clock);
    clock.now = 50'000'000;
    auto said = connect(service, {4, 0});
    REQUIRE(said.size() == 1);
    auto message = as<TimeSync4>(said[0].bytes, 28);
    CHECK(message.flags == kTimeSync);
    CHECK(message.reference_time == clock.now);
    CHECK(message.host_time_100ns == kUnixEpoch_100ns + 1'767'225'605 * u64{10'000'000});
    CHECK(service.tick_after_ns() == 0);  // not while it is unanswered
    service.receive(reply(said[0].bytes), said[0].transaction_id);
    CHECK(service.tick_after_ns() == 5'000'000'000);
    CHECK(listen(service).empty());
    const auto next = [&] {
        service.tick();
        said = listen(service);
        REQUIRE(said.size() == 1);
        service.receive(reply(said[0].bytes), said[0].transaction_id);
        return as<TimeSync4>(said[0].bytes, 28);
    };
    CHECK(next().flags == kTimeSample);
    clock.start += 86'400;  // restored with another clock
    CHECK(next().flags == kTimeSync);
    CHECK(next().flags == kTimeSample);
    service.synchronize();
    said = listen(service);
    REQUIRE(said.size() == 1);
    CHECK(as<TimeSync4>(said[0].bytes, 28).flags == kTimeSync);
    CHECK(service.synchronizations() == 3);

    TimeSyncService old(clock);
    said = connect(old, {3, 0});
    REQUIRE(said.size() == 1);
    CHECK(as<IcHeader>(said[0].bytes, 8).size == sizeof(TimeSync));
    CHECK(as<TimeSync>(said[0].bytes, 28).host_time_100ns == clock.now_100ns());
}

TEST_CASE("commands: wait for the guest, are asked once, and end with its status (D-104, D-107, D-108)", "[hv][ic]") {
    Client client;
    CommandService service(MessageType::Shutdown, client);
    const Bytes body(2060, 7);
    CHECK(service.submit(5, body));
    CHECK_FALSE(service.submit(6, body));
    CHECK_FALSE(service.submit(6, {}));
    CHECK(listen(service).empty());
    auto said = connect(service, {3, 2});
    REQUIRE(said.size() == 1);
    CHECK(as<IcHeader>(said[0].bytes, 8).type == 3);
    CHECK(as<IcHeader>(said[0].bytes, 8).size == 2060);
    CHECK(Bytes(said[0].bytes.begin() + 28, said[0].bytes.end()) == body);
    service.receive(reply(said[0].bytes, kStatusFail), said[0].transaction_id);
    REQUIRE(client.all.size() == 1);
    CHECK(client.all[0].number == 5);
    CHECK(client.all[0].end == CommandClient::End::Answered);
    CHECK(client.all[0].status == kStatusFail);
    CHECK_FALSE(service.busy());
    service.receive(reply(said[0].bytes), said[0].transaction_id);  // a second answer is none
    CHECK(client.all.size() == 1);

    SECTION("one that the guest has seen ends when it leaves") {
        CHECK(service.submit(6, body));
        CHECK(listen(service).size() == 1);
        service.closed();
        REQUIRE(client.all.size() == 2);
        CHECK(client.all[1].end == CommandClient::End::Gone);
    }
    SECTION("one that it has not seen waits for the next") {
        service.closed();
        CHECK(service.submit(6, body));
        CHECK(connect(service, {3, 0}).size() == 1);
        CHECK(client.all.size() == 1);
    }
    SECTION("a guest that knows none of the versions ends it") {
        service.closed();
        CHECK(service.submit(6, body));
        service.opened();
        said = listen(service);
        service.receive(agree(said[0].bytes, {3, 0}, {7, 7}), said[0].transaction_id);
        REQUIRE(client.all.size() == 2);
        CHECK(client.all[1].end == CommandClient::End::Gone);
        CHECK_FALSE(service.submit(7, body));
    }
}

TEST_CASE("ic: state in the middle of a request is the same in another object", "[hv][ic]") {
    Client client;
    Clock clock;
    CommandService command(MessageType::Kvp, client);
    HeartbeatService heartbeat;
    TimeSyncService time(clock);
    CHECK(command.submit(9, Bytes(7432, 3)));
    const auto asked = connect(command, {4, 0});
    connect(heartbeat, {3, 0});
    connect(time, {4, 0});

    StateTape tape;
    tape.save(command);
    CommandService command2(MessageType::Kvp, client);
    tape.restore(command2);
    CHECK(hash_of(command2) == hash_of(command));
    command2.receive(reply(asked[0].bytes), asked[0].transaction_id);
    REQUIRE(client.all.size() == 1);
    CHECK(client.all[0].number == 9);

    tape.save(heartbeat);
    HeartbeatService heartbeat2;
    tape.restore(heartbeat2);
    CHECK(hash_of(heartbeat2) == hash_of(heartbeat));
    tape.save(time);
    TimeSyncService time2(clock);
    tape.restore(time2);
    CHECK(hash_of(time2) == hash_of(time));
}
