// Protocol core of dynamic memory. Rows D-110..D-113.
#include <catch2/catch.hpp>

#include <set>

#include "hv/vsp/balloon.h"
#include "tests/support/message_guest.h"
#include "tests/support/random.h"
#include "tests/support/state_tape.h"

using namespace vg;
using namespace vg::hv;
using namespace vg::test;
using vsp::Balloon;
using vsp::BalloonOperation;

namespace {

constexpr u64 kPages = 65536;

/// Memory as a set of pages that are there.
struct Memory final : vsp::BalloonHost {
    Memory() {
        for (u64 page = 0; page < kPages; ++page) there.insert(page);
    }
    bool take(vsp::PageSpan pages) override {
        if (pages.count == 0 || pages.first >= 2 * kPages || pages.count > 2 * kPages) return false;
        for (u64 i = 0; i < pages.count; ++i)
            if (there.count(pages.first + i) == 0) return false;
        for (u64 i = 0; i < pages.count; ++i) there.erase(pages.first + i);
        return true;
    }
    bool give(vsp::PageSpan pages) override {
        for (u64 i = 0; i < pages.count; ++i)
            if (!there.insert(pages.first + i).second) twice = true;
        return true;
    }
    void finished(BalloonOperation operation, u64 pages) override { ends.emplace_back(operation, pages); }
    std::set<u64> there;
    bool twice = false;
    std::vector<std::pair<BalloonOperation, u64>> ends;
};

balloon::Header header(balloon::MessageType type, std::size_t size) {
    return {static_cast<u16>(type), static_cast<u16>(size), 1};
}
Bytes version(u32 value) {
    return bytes_of(balloon::VersionRequest{header(balloon::MessageType::VersionRequest, 16), value, 0});
}
/// Alignment 128 MiB, as Linux asks for.
Bytes capabilities(u64 bits = balloon::kCapBalloon | balloon::kCapHotAdd | 7 << 2) {
    return bytes_of(balloon::Capabilities{header(balloon::MessageType::Capabilities, 32), bits, 1000, ~u64{0}});
}
Bytes response(const std::vector<u64>& ranges, bool more = false) {
    const u32 count = static_cast<u32>(ranges.size());
    Bytes bytes = bytes_of(balloon::BalloonResponse{header(balloon::MessageType::BalloonResponse, 16 + 8 * count), 0,
                                                    count << 1 | (more ? 1u : 0u)});
    for (const u64 range : ranges) append(bytes, bytes_of(range));
    return bytes;
}
void start(Balloon& core) {
    core.opened();
    core.receive(version(balloon::kVersion2_0), 0);
    REQUIRE(listen(core).size() == 1);
    core.receive(capabilities(), 0);
    REQUIRE(listen(core).size() == 1);
    REQUIRE(core.idle());
}

}  // namespace

TEST_CASE("balloon: versions, capabilities, reports (D-111, D-112)", "[hv][balloon]") {
    Memory memory;
    Balloon core(memory);
    core.opened();
    core.receive(capabilities(), 0);
    CHECK(listen(core).empty());  // not before a version
    core.receive(version(balloon::version(3, 0)), 0);
    auto said = listen(core);
    REQUIRE(said.size() == 1);
    CHECK(as<balloon::Response>(said[0].bytes).header.type == 2);
    CHECK(as<balloon::Response>(said[0].bytes).accepted == 0);
    for (const u32 value : {balloon::kVersion2_0, balloon::kVersion1_0, balloon::kVersion0_3}) {
        core.receive(version(value), 0);
        said = listen(core);
        REQUIRE(said.size() == 1);
        CHECK(as<balloon::Response>(said[0].bytes).accepted == 1);
    }
    CHECK_FALSE(core.idle());
    core.receive(capabilities(), 0);
    said = listen(core);
    REQUIRE(said.size() == 1);
    CHECK(as<balloon::Response>(said[0].bytes).header.type == 4);
    CHECK(as<balloon::Response>(said[0].bytes).accepted == 1);
    CHECK(core.can_balloon());
    CHECK(core.can_hot_add());
    CHECK(core.hot_add_alignment_pages() == 128 * 256);
    core.receive(bytes_of(balloon::Status{header(balloon::MessageType::Status, 48), 5000, 900, 0, 0, 0, 0}), 0);
    CHECK(core.pressure().available == 5000);
    CHECK(core.pressure().committed == 900);
    CHECK(listen(core).empty());
}

TEST_CASE("balloon: pages go, are remembered, and exactly they come back (D-113)", "[hv][balloon]") {
    Memory memory;
    Balloon core(memory);
    start(core);
    CHECK_FALSE(core.deflate(10));  // nothing was given back
    CHECK(core.inflate(1536));
    CHECK_FALSE(core.inflate(1));
    auto said = listen(core);
    REQUIRE(said.size() == 1);
    CHECK(as<balloon::BalloonRequest>(said[0].bytes).pages == 1536);
    core.receive(response({balloon::range(1024, 512), balloon::range(2048, 512)}, true), 0);
    CHECK(memory.ends.empty());
    core.receive(response({balloon::range(1536, 512)}), 0);
    REQUIRE(memory.ends.size() == 1);
    CHECK(memory.ends[0] == std::pair(BalloonOperation::Inflate, u64{1536}));
    CHECK(core.ballooned_pages() == 1536);
    CHECK(memory.there.size() == kPages - 1536);

    SECTION("in two steps") {
        CHECK(core.deflate(600));
        said = listen(core);
        REQUIRE(said.size() == 1);
        const auto request = as<balloon::UnballoonRequest>(said[0].bytes);
        CHECK(request.more == 0);
        CHECK(memory.there.size() == kPages - 936);  // they are memory before the guest hears of them
        core.receive(bytes_of(balloon::UnballoonResponse{header(balloon::MessageType::UnballoonResponse, 8)}), 0);
        CHECK(memory.ends.back() == std::pair(BalloonOperation::Deflate, u64{600}));
        CHECK(core.deflate(100'000));
        CHECK(listen(core).size() == 1);
        core.receive(bytes_of(balloon::UnballoonResponse{header(balloon::MessageType::UnballoonResponse, 8)}), 0);
        CHECK(memory.ends.back() == std::pair(BalloonOperation::Deflate, u64{936}));
        CHECK(core.ballooned_pages() == 0);
        CHECK(memory.there.size() == kPages);
    }
    SECTION("a guest that leaves has all of them") {
        core.closed();
        CHECK(memory.there.size() == kPages);
        CHECK(core.ballooned_pages() == 0);
    }
    CHECK_FALSE(memory.twice);
}

TEST_CASE("balloon: many small pieces come back in several messages", "[hv][balloon]") {
    Memory memory;
    Balloon core(memory);
    start(core);
    CHECK(core.inflate(1000));
    CHECK(listen(core).size() == 1);
    for (u64 i = 0; i < 1000; i += 250) {
        std::vector<u64> ranges;
        for (u64 k = i; k < i + 250; ++k) ranges.push_back(balloon::range(10 + 3 * k, 1));
        core.receive(response(ranges, i != 750), 0);
    }
    CHECK(core.ballooned_pages() == 1000);
    CHECK(core.deflate(1000));
    const auto said = listen(core);
    REQUIRE(said.size() == 4);
    for (std::size_t i = 0; i < said.size(); ++i) {
        const auto request = as<balloon::UnballoonRequest>(said[i].bytes);
        CHECK(request.more == (i + 1 == said.size() ? 0 : 1));
        CHECK(request.header.size == said[i].bytes.size());
        CHECK(said[i].bytes.size() == 16 + 8 * request.range_count);
    }
    CHECK(memory.there.size() == kPages);
    CHECK_FALSE(memory.twice);
}

TEST_CASE("balloon: lies about pages do nothing", "[hv][balloon]") {
    Memory memory;
    Balloon core(memory);
    start(core);
    core.receive(response({balloon::range(0, 512)}), 0);  // nobody has asked
    CHECK(memory.there.size() == kPages);
    CHECK(core.inflate(512));
    CHECK(listen(core).size() == 1);
    const auto refuses = [&](u64 range) {
        const auto before = memory.there.size();
        const u64 invalid = core.invalid();
        core.receive(response({range}, true), 0);
        return memory.there.size() == before && core.invalid() > invalid;
    };
    CHECK(refuses(balloon::range(kPages - 1, 2)));
    CHECK(refuses(balloon::range(kPages, 1)));
    CHECK(refuses(balloon::range(0, 0)));
    CHECK(refuses(balloon::range(0xff'ffff'ffff, 0xff'ffff)));
    CHECK(refuses(balloon::range(0, 0xff'ffff)));
    core.receive(response({balloon::range(100, 100)}, true), 0);
    CHECK(memory.there.size() == kPages - 100);
    CHECK(refuses(balloon::range(100, 1)));
    CHECK(refuses(balloon::range(199, 2)));
    CHECK(refuses(balloon::range(50, 51)));
    CHECK(refuses(balloon::range(50, 500)));
    Bytes cut = response({balloon::range(1000, 1), balloon::range(2000, 1)}, true);
    torment(core, cut, 0);
    cut[12] = 0xff;  // many more ranges than there are
    core.receive(cut, 0);
    CHECK(memory.there.size() == kPages - 100);
    core.receive(response({}), 0);
    REQUIRE(memory.ends.size() == 1);
    CHECK(memory.ends[0].second == 100);
}

TEST_CASE("balloon: hot-added memory is there before the guest hears, and goes as far as it is not wanted",
          "[hv][balloon]") {
    Memory memory;
    Balloon core(memory);
    start(core);
    const u64 unit = core.hot_add_alignment_pages();
    CHECK_FALSE(core.hot_add({kPages, unit / 2}));
    CHECK_FALSE(core.hot_add({kPages + 1, unit}));
    CHECK(core.hot_add({kPages, unit}));
    const auto said = listen(core);
    REQUIRE(said.size() == 1);
    CHECK(said[0].bytes.size() == 16);
    CHECK(as<balloon::HotAddRequest>(said[0].bytes).range == balloon::range(kPages, unit));
    CHECK(memory.there.size() == kPages + unit);
    SECTION("all of it") {
        core.receive(bytes_of(balloon::HotAddResponse{header(balloon::MessageType::HotAddResponse, 16), u32(unit), 1}),
                     0);
        CHECK(memory.ends.back() == std::pair(BalloonOperation::HotAdd, unit));
        CHECK(core.added_pages() == unit);
    }
    SECTION("none of it") {
        core.receive(bytes_of(balloon::HotAddResponse{header(balloon::MessageType::HotAddResponse, 16), 0, 0}), 0);
        CHECK(memory.there.size() == kPages);
        CHECK(core.added_pages() == 0);
    }
    SECTION("more than was offered") {
        core.receive(bytes_of(balloon::HotAddResponse{header(balloon::MessageType::HotAddResponse, 16), ~0u, 1}), 0);
        CHECK(core.added_pages() == unit);
        CHECK(core.invalid() == 1);
    }
    SECTION("the guest leaves before it answers") {
        core.closed();
        CHECK(memory.there.size() == kPages);
        CHECK(memory.ends.back().second == 0);
    }
}

TEST_CASE("balloon: random messages never lose or double a page", "[hv][balloon]") {
    Memory memory;
    Balloon core(memory);
    Random random(0xba1100);
    start(core);
    for (unsigned round = 0; round < 20'000; ++round) {
        if (core.state() != Balloon::State::Ready) start(core);
        switch (random.below(6)) {
            case 0:
                (void)core.inflate(static_cast<u32>(random.below(2000)));
                break;
            case 1:
                (void)core.deflate(random.below(2000));
                break;
            default: {
                Bytes message =
                    response({balloon::range(random.below(kPages + 10), random.below(300))}, random.chance(50));
                if (random.chance(30))
                    message = bytes_of(balloon::UnballoonResponse{header(balloon::MessageType::UnballoonResponse, 8)});
                if (random.chance(30)) message[random.below(message.size())] = random.byte();
                core.receive(message, 0);
            }
        }
        (void)listen(core);
        if (random.chance(1)) {
            core.closed();
            core.opened();
        }
        REQUIRE(memory.there.size() + core.ballooned_pages() == kPages);
        REQUIRE_FALSE(memory.twice);
    }
}

TEST_CASE("balloon: state in the middle of an operation is the same in another object", "[hv][balloon]") {
    Memory memory;
    Balloon core(memory), other(memory);
    start(core);
    CHECK(core.inflate(600));
    CHECK(listen(core).size() == 1);
    core.receive(response({balloon::range(64, 100), balloon::range(512, 200)}, true), 0);
    StateTape tape;
    tape.save(core);
    tape.restore(other);
    CHECK(hash_of(other) == hash_of(core));
    other.receive(response({balloon::range(164, 300)}), 0);
    CHECK(memory.ends.back() == std::pair(BalloonOperation::Inflate, u64{600}));
    CHECK(other.ballooned_pages() == 600);
}
