// Cables inside a machine: switches, frames out of files, what is saved of them.
#include <catch2/catch.hpp>

#include "base/events.h"
#include "machine/network.h"
#include "tests/support/state_tree.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;
using devices::MacAddress;

namespace {

using Bytes = std::vector<u8>;

struct Card final : devices::NetworkCard {
    void receive(std::span<const u8> frame) override { frames.emplace_back(frame.begin(), frame.end()); }
    u64 receive_room() const override { return 1 << 20; }
    void connect(devices::FrameSink& to) override { cable = &to; }
    devices::FrameSink* cable = nullptr;
    std::vector<Bytes> frames;
};

constexpr MacAddress kA{2, 0, 0, 0, 0, 1}, kB{2, 0, 0, 0, 0, 2}, kC{2, 0, 0, 0, 0, 3},
    kAll{255, 255, 255, 255, 255, 255};

Bytes frame(const MacAddress& to, const MacAddress& from, u8 tag = 0, std::size_t size = 60) {
    Bytes bytes(size, tag);
    std::copy(to.begin(), to.end(), bytes.begin());
    std::copy(from.begin(), from.end(), bytes.begin() + 6);
    return bytes;
}

struct Bed {
    explicit Bed(u32 count = 3, const std::string& name = "lan") : cards(count) {
        NicSection section;
        section.backend = "switch";
        section.switch_name = name;
        for (Card& card : cards) REQUIRE(network.connect(card, section, 0));
    }
    void run_to(VTime when) {
        clock.set(when);
        events.run_due(when);
    }
    ManualClock clock;
    EventQueue events{clock};
    Log log;
    Network network{events, log};
    std::vector<Card> cards;
};

}  // namespace

TEST_CASE("switch: frames are flooded until it is known where their destination is", "[machine][network]") {
    Bed bed;
    bed.cards[0].cable->put(frame(kB, kA));
    CHECK(bed.cards[1].frames.empty());  // not at once
    bed.run_to(1'000'000);
    CHECK(bed.cards[0].frames.empty());
    CHECK(bed.cards[1].frames.size() == 1);
    CHECK(bed.cards[2].frames.size() == 1);
    bed.cards[1].cable->put(frame(kA, kB));
    bed.run_to(2'000'000);
    CHECK(bed.cards[0].frames.size() == 1);
    CHECK(bed.cards[2].frames.size() == 1);
    bed.cards[0].cable->put(frame(kB, kA));
    bed.cards[2].cable->put(frame(kAll, kC));
    bed.run_to(3'000'000);
    CHECK(bed.cards[0].frames.size() == 2);
    CHECK(bed.cards[1].frames.size() == 3);
    CHECK(bed.cards[2].frames.size() == 1);
}

TEST_CASE("switch: frames keep their order, and arrive when their length says", "[machine][network]") {
    Bed bed(2);
    bed.cards[0].cable->put(frame(kAll, kA, 1, 9000));
    bed.cards[0].cable->put(frame(kAll, kA, 2, 60));
    const VTime first = NetworkSwitch::kLatency_ns + 7200;
    CHECK(bed.events.next() == first);
    bed.run_to(first);
    REQUIRE(bed.cards[1].frames.size() == 1);
    bed.run_to(first + 48);
    REQUIRE(bed.cards[1].frames.size() == 2);
    CHECK(bed.cards[1].frames[0][20] == 1);
    CHECK(bed.cards[1].frames[1][20] == 2);
}

TEST_CASE("switch: a sender that floods loses frames, and costs no more memory than that", "[machine][network]") {
    Bed bed(2);
    for (u32 i = 0; i < 20000; ++i) bed.cards[0].cable->put(frame(kAll, kA, 0, 1500));
    bed.run_to(1'000'000'000);
    CHECK(bed.cards[1].frames.size() == NetworkSwitch::kQueueBytes / 1500);
    for (u32 i = 0; i < 5000; ++i)
        bed.cards[0].cable->put(frame(kB, {2, 1, 0, 0, static_cast<u8>(i >> 8), static_cast<u8>(i)}));
    bed.run_to(2'000'000'000);
    auto tree = test::save(bed.network);
    CHECK(tree["0/switch_lan/addresses"][0] + tree["0/switch_lan/addresses"][1] * 256u <= NetworkSwitch::kMaxAddresses);
}

TEST_CASE("switch: state saved with frames on their way goes on elsewhere", "[machine][network]") {
    Bed bed;
    bed.cards[0].cable->put(frame(kAll, kA));
    bed.run_to(100'000);
    bed.cards[1].cable->put(frame(kA, kB, 7, 200));
    const auto tree = test::save(bed.events, bed.network);
    Bed other;
    other.clock.set(100'000);
    CHECK(test::load(tree, other.events, other.network).empty());
    CHECK(test::save(other.events, other.network) == tree);
    other.run_to(200'000);
    REQUIRE(other.cards[0].frames.size() == 1);
    CHECK(other.cards[0].frames[0] == frame(kA, kB, 7, 200));
    CHECK(other.cards[2].frames.empty());  // it knows where A is
}

TEST_CASE("network: switches of different names do not meet", "[machine][network]") {
    Bed bed(1, "a");
    Card other;
    NicSection section;
    section.backend = "switch";
    section.switch_name = "b";
    REQUIRE(bed.network.connect(other, section, 0));
    bed.cards[0].cable->put(frame(kAll, kA));
    bed.run_to(1'000'000);
    CHECK(other.frames.empty());
}

TEST_CASE("network: what one card's capture holds arrives at another, at its times", "[machine][network]") {
    constexpr u64 kStart = 1'700'000'000;
    test::TempDir dir;
    {
        Bed bed(2);
        NicSection section;
        section.pcap = dir / "x.pcap";
        Card card;
        REQUIRE(bed.network.connect(card, section, kStart));
        for (u32 i = 0; i < 5; ++i) {
            bed.run_to(1'500'000'000 + i * 1'000'003);
            bed.network.receive(2, frame(kA, kB, static_cast<u8>(i)));
        }
        REQUIRE(bed.network.flush());
    }
    Bed bed(0);
    NicSection section;
    section.backend = "pcap";
    section.frames = dir / "x.pcap";
    Card card;
    REQUIRE(bed.network.connect(card, section, kStart - 1));
    CHECK(bed.events.next() == 2'500'000'000);
    bed.run_to(2'499'999'999);
    CHECK(card.frames.empty());
    bed.run_to(2'500'000'000 + 2 * 1'000'003);
    REQUIRE(card.frames.size() == 3);
    CHECK(card.frames[2] == frame(kA, kB, 2));
    const auto tree = test::save(bed.events, bed.network);
    Bed other(0);
    Card there;
    REQUIRE(other.network.connect(there, section, kStart - 1));
    CHECK(test::load(tree, other.events, other.network).empty());
    other.run_to(3'000'000'000);
    REQUIRE(there.frames.size() == 2);
    CHECK(there.frames[0] == frame(kA, kB, 3));

    Card late;
    const auto old = other.network.connect(late, section, kStart + 1'000'000);
    REQUIRE_FALSE(old);
    CHECK(old.error().text.find("set machine.clock to when the capture began") != std::string::npos);
}

TEST_CASE("network: a file that is no capture, or a cut one, is refused with a remedy", "[machine][network]") {
    test::TempDir dir;
    Bed bed(0);
    Card card;
    NicSection section;
    section.backend = "pcap";
    section.frames = dir / "none.pcap";
    CHECK_FALSE(bed.network.connect(card, section, 0));
    test::write_file(dir / "text.pcap", Bytes(100, 'x'));
    section.frames = dir / "text.pcap";
    const auto text = bed.network.connect(card, section, 0);
    REQUIRE_FALSE(text);
    CHECK(text.error().text.find("cannot be read as a capture") != std::string::npos);
    // A header of a capture of something else, and one whose only frame is cut.
    Bytes header = {0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 113, 0, 0, 0};
    section.frames = dir / "other.pcap";
    test::write_file(section.frames, header);
    const auto other = bed.network.connect(card, section, 0);
    REQUIRE_FALSE(other);
    CHECK(other.error().text.find("does not hold Ethernet frames") != std::string::npos);
    header[20] = 1;
    header.insert(header.end(), {0, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 1, 2, 3});
    test::write_file(section.frames, header);
    const auto cut = bed.network.connect(card, section, 0);
    REQUIRE_FALSE(cut);
    CHECK(cut.error().text.find("is damaged") != std::string::npos);
}
