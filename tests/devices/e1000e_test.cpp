// The 82574L driven through its registers and rings as a driver does; checksums against a second computation.
#include <catch2/catch.hpp>

#include <deque>
#include <memory>

#include "devices/e1000e.h"
#include "tests/support/device_contract.h"
#include "tests/support/pci.h"
#include "tests/support/random.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::devices::e1000e;
using namespace vg::test;

namespace {

constexpr MacAddress kMac{0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
constexpr u64 kTxRing = 0x10000, kRxRing = 0x20000, kTxData = 0x100000, kRxData = 0x200000;
constexpr u32 kEntries = 32;
using Frame = std::vector<u8>;

struct Cable final : FrameSink {
    void put(std::span<const u8> frame) override { frames.emplace_back(frame.begin(), frame.end()); }
    std::vector<Frame> frames;
};

/// The Internet checksum as RFC 1071 says it, byte by byte: not the code under test.
u16 reference_checksum(const Frame& bytes, u64 from, u64 to, const Frame& pseudo = {}) {
    u32 sum = 0;
    const auto add = [&sum](const Frame& data, u64 begin, u64 end) {
        for (u64 i = begin; i < end; ++i) {
            sum += (i - begin) % 2 == 0 ? u32{data[i]} * 256 : data[i];
            if (sum > 0xffff) sum -= 0xffff;
        }
    };
    add(pseudo, 0, pseudo.size());
    add(bytes, from, to);
    return static_cast<u16>(~sum);
}
Frame pseudo_header(const Frame& frame, u64 segment) {
    Frame pseudo(frame.begin() + 26, frame.begin() + 34);
    pseudo.insert(pseudo.end(), {0, frame[23], static_cast<u8>(segment >> 8), static_cast<u8>(segment)});
    return pseudo;
}
u16 be16(const Frame& f, u64 at) { return static_cast<u16>(f[at] * 256 + f[at + 1]); }
u32 be32(const Frame& f, u64 at) { return u32{be16(f, at)} << 16 | be16(f, at + 2); }
void put16(Frame& f, u64 at, u64 value) {
    f[at] = static_cast<u8>(value >> 8);
    f[at + 1] = static_cast<u8>(value);
}

/// An IPv4 frame with 20 bytes of TCP header and random payload; no checksum is filled in.
Frame tcp_frame(u64 payload, u64 seed = 1) {
    Frame f(54 + payload);
    Random random(seed);
    for (u8& byte : f) byte = static_cast<u8>(random.next());
    std::copy(kMac.begin(), kMac.end(), f.begin() + 6);
    f[0] = 2;
    put16(f, 12, 0x0800);
    f[14] = 0x45;
    put16(f, 16, f.size() - 14);
    put16(f, 20, 0);
    f[23] = 6;
    put16(f, 24, 0);
    f[46] = 0x50;
    put16(f, 50, 0);
    return f;
}
void fill_in(Frame& f) {
    put16(f, 24, reference_checksum(f, 14, 34));
    put16(f, 50, reference_checksum(f, 34, f.size(), pseudo_header(f, f.size() - 34)));
}

struct Board : PciBench {
    Board() : card(bus.slot(24), time.events, 0, kMac) {
        bus.attach(*card.pci());
        card.connect(cable);
        config(*card.pci(), pci::kBar0 + 12, 4, kLow + 0x40000);
        place(*card.pci(), 0, 0);
        ring(kTransmitRing, kTxRing);
        ring(kReceiveRing, kRxRing);
        write(kTctl, kTctlEnable | kTctlPad);
    }
    void ring(u32 at, u64 base) {
        write(at + kRingBaseLow, base);
        write(at + kRingLength, kEntries * kDescriptorBytes);
    }
    void use_msix() {
        for (u32 vector = 0; vector < kVectors; ++vector) {
            write(0x40000 + vector * 16, 0xfee00000, 8);
            write(0x40008 + vector * 16, u64{0x40} + vector, 8);
        }
        config(*card.pci(), capability(*card.pci(), pci::kCapMsix) + pci::kMsixControl, 2, pci::kMsixEnable);
        write(kIvar, 0xa0908);  // RXQ0: 0, TXQ0: 1, others: 2
        write(kEiac, kRxq0 | kTxq0);
    }
    u16 phy(u32 number) {
        write(kMdic, number << 16 | kPhyAddress << 21 | kMdicRead << 26);
        const u64 answer = read(kMdic);
        CHECK((answer & (kMdicReady | kMdicError)) == kMdicReady);
        return static_cast<u16>(answer);
    }
    void send(const TransmitDescriptor& descriptor) {
        put(kTxRing + tx_tail * kDescriptorBytes, descriptor);
        tx_tail = (tx_tail + 1) % kEntries;
    }
    void go(VTime by = 10'000'000) {
        write(kTransmitRing + kRingTail, tx_tail);
        time.run_for(by);
    }
    /// Puts bytes into memory and gives the descriptor that sends them as a whole.
    TransmitDescriptor data(const Frame& frame, u32 flags, u32 options = 0, u64 at = kTxData) {
        memory.write(Spa(at), frame.data(), frame.size());
        return {at, static_cast<u32>(frame.size()) | flags | kTxInsertFcs | kTxReportStatus, options};
    }
    void context(u32 command, u32 header = 0, u32 mss = 0) {
        const u64 places = 14 | 24 << 8 | 33 << 16 | u64{34} << 32 | u64{50} << 40;
        send({places, command | kTxExtension, header << 8 | mss << 16});
    }
    void start_receive(u32 rctl = 0, u32 rfctl = kRfctlExtended) {
        write(kRfctl, rfctl);
        write(kRctl, kRctlEnable | kRctlStripCrc | rctl);
        supply();
    }
    void supply() {
        for (u32 i = 0; i < kEntries; ++i) {
            put(kRxRing + i * 16, kRxData + i * 0x1000);
            put<u64>(kRxRing + i * 16 + 8, 0);
        }
        write(kReceiveRing + kRingHead, 0);
        write(kReceiveRing + kRingTail, kEntries - 1);
    }
    ExtendedWriteBack received(u32 index) { return get<ExtendedWriteBack>(kRxRing + index * 16); }
    Frame buffer(u32 index, u64 size) {
        Frame bytes(size);
        memory.read(Spa(kRxData + index * 0x1000), bytes.data(), size);
        return bytes;
    }
    /// Whether the card takes a frame for this address.
    bool takes(const MacAddress& to, u64 size = 100, u32 tag = 0) {
        supply();
        Frame frame(size);
        std::copy(to.begin(), to.end(), frame.begin());
        if (tag != 0) put16(frame, 12, 0x8100), put16(frame, 14, tag);
        card.receive(frame);
        time.run_for(1'000'000);
        return (received(0).status_error & kRxDone) != 0 && received(0).length != 0;
    }

    TestTime time;
    Cable cable;
    E1000e card;
    u32 tx_tail = 0;
};

}  // namespace

TEST_CASE("e1000e: keeps the device contract", "[devices][e1000e]") {
    PciBench bench;
    std::deque<LoneSlot> slots;
    std::deque<TestTime> times;
    check_device_contract<E1000e>(
        [&] {
            return std::make_unique<E1000e>(slots.emplace_back(bench.dma).slot(), times.emplace_back().events, 1, kMac);
        },
        [](E1000e& device) {
            device.pci()->config_write(pci::kCommand, 2, 7);
            device.mmio_write(kRctl, 4, kRctlEnable | kRctlUnicastAll | kRctlMulticastAll);
            device.receive(Frame(60, 0xff));
            device.receive(Frame(1000, 0x55));
            device.mmio_write(kIms, 4, kLsc);
            device.mmio_write(kTransmitRing + kRingLength, 4, 0x100);
            device.mmio_write(kVfta + 8, 4, 7);
        },
        0, E1000e::kRegisterBytes);
}

TEST_CASE("e1000e: NVM, PHY and link are as drivers check them", "[devices][e1000e]") {
    Board b;
    u16 sum = 0;
    for (u32 word = 0; word < kNvmWords; ++word) {
        b.write(kEerd, word << 2 | kNvmStart);
        REQUIRE((b.read(kEerd) & kNvmDone) != 0);
        sum = static_cast<u16>(sum + (b.read(kEerd) >> 16));
    }
    CHECK(sum == 0xbaba);
    CHECK(b.read(kRal) == 0x12005452);
    CHECK(b.read(kRal + 4) == (0x5634 | kRahValid));
    CHECK((u32{b.phy(2)} << 16 | b.phy(3)) == 0x01410cb1);
    CHECK((b.phy(1) & kPhyLinkUp) != 0);
    CHECK((b.read(kStatus) & kStatusLinkUp) != 0);
    b.write(kMdic, 1u << 16 | 2u << 21 | kMdicRead << 26);  // another PHY
    CHECK((b.read(kMdic) & kMdicError) != 0);
    b.write(kIms, kLsc);
    b.write(kMdic, 0x1340 | kPhyAddress << 21 | kMdicWrite << 26);  // negotiate again
    CHECK((b.read(kStatus) & kStatusLinkUp) == 0);
    CHECK((b.read(kIcr) & (kLsc | kIntAsserted)) == (kLsc | kIntAsserted));
    b.time.run_for(E1000e::kNegotiation_ns);
    CHECK((b.read(kStatus) & kStatusLinkUp) != 0);
    CHECK((b.read(kIcr) & kLsc) != 0);
    CHECK(b.read(kIcr) == 0);
    b.write(kCtrl, kCtrlReset);
    CHECK(b.read(kTctl) == 0);
    CHECK(b.read(kRal + 4) == (0x5634 | kRahValid));
    CHECK((b.phy(1) & kPhyLinkUp) != 0);
}

TEST_CASE("e1000e: a legacy descriptor sends a frame, padded and reported", "[devices][e1000e]") {
    Board b;
    const Frame frame(30, 0x5a);
    b.send(b.data(frame, kTxEndOfPacket));
    b.go();
    REQUIRE(b.cable.frames.size() == 1);
    CHECK(b.cable.frames[0].size() == 60);
    CHECK(std::equal(frame.begin(), frame.end(), b.cable.frames[0].begin()));
    CHECK((b.get<TransmitDescriptor>(kTxRing).upper & kTxDone) != 0);
    CHECK(b.read(kTransmitRing + kRingHead) == 1);
    CHECK(b.read(kStatistics + 0x80) == 1);
    CHECK(b.read(kStatistics + 0x80) == 0);
    CHECK((b.read(kIcr) & (kTxdw | kTxq0)) == (kTxdw | kTxq0));
}

TEST_CASE("e1000e: a frame comes from several buffers, with checksums and a VLAN tag", "[devices][e1000e]") {
    Board b;
    Frame frame = tcp_frame(GENERATE(0u, 1u, 333u, 1460u));
    put16(frame, 50, static_cast<u16>(~reference_checksum(frame, 0, 0, pseudo_header(frame, frame.size() - 34))));
    Frame expected = frame;
    put16(expected, 50, 0);
    fill_in(expected);
    b.write(kCtrl, kCtrlAtReset | kCtrlVlanMode);
    b.context(kTxContextTcp | kTxContextIpv4);
    const u32 options = kTxOptionIp | kTxOptionTransport | 0x0123u << 16;
    const u32 flags = kTxExtension | kTxKindData | kTxInsertVlan;
    b.send(b.data(Frame(frame.begin(), frame.begin() + 40), flags, options, kTxData));
    b.send(b.data(Frame(frame.begin() + 40, frame.end()), flags | kTxEndOfPacket, options, kTxData + 0x4001));
    b.go();
    REQUIRE(b.cable.frames.size() == 1);
    const Frame& sent = b.cable.frames[0];
    CHECK(be32(sent, 12) == 0x81000123);
    Frame untagged(sent.begin(), sent.begin() + 12);
    untagged.insert(untagged.end(), sent.begin() + 16, sent.begin() + 4 + static_cast<std::ptrdiff_t>(frame.size()));
    CHECK(untagged == expected);
}

TEST_CASE("e1000e: segmentation makes frames whose headers and checksums hold", "[devices][e1000e]") {
    Board b;
    const u64 mss = GENERATE(1460u, 536u, 1001u), payload = GENERATE(1u, 1460u, 30000u, 65000u);
    Frame packet = tcp_frame(payload, mss + payload);
    packet[47] = 0x19;  // ACK, PSH, FIN
    put16(packet, 16, 0);
    put16(packet, 50, static_cast<u16>(~reference_checksum(packet, 0, 0, pseudo_header(packet, 0))));
    const u32 first_sequence = be32(packet, 38);
    b.context(kTxContextTcp | kTxContextIpv4 | kTxSegment, 54, static_cast<u32>(mss));
    b.send(b.data(packet, kTxExtension | kTxKindData | kTxSegment | kTxEndOfPacket, kTxOptionIp | kTxOptionTransport));
    b.go(100'000'000);
    REQUIRE(b.cable.frames.size() == (payload + mss - 1) / mss);
    u64 at = 0;
    for (u32 i = 0; i < b.cable.frames.size(); ++i) {
        Frame f = b.cable.frames[i];
        const u64 bytes = std::min<u64>(mss, payload - at);
        REQUIRE(f.size() >= 54 + bytes);
        f.resize(54 + bytes);  // what was padded is not TCP's
        REQUIRE(be16(f, 16) == 40 + bytes);
        REQUIRE(be16(f, 18) == static_cast<u16>(be16(packet, 18) + i));
        REQUIRE(be32(f, 38) == first_sequence + at);
        REQUIRE(f[47] == (at + bytes == payload ? 0x19 : 0x10));
        Frame plain = f;
        put16(plain, 24, 0);
        put16(plain, 50, 0);
        fill_in(plain);
        REQUIRE(be16(f, 24) == be16(plain, 24));
        REQUIRE(be16(f, 50) == be16(plain, 50));
        REQUIRE(std::equal(f.begin() + 54, f.end(), packet.begin() + 54 + static_cast<std::ptrdiff_t>(at)));
        at += bytes;
    }
    CHECK((b.get<TransmitDescriptor>(kTxRing + 16).upper & kTxDone) != 0);
    CHECK(b.read(kTransmitRing + kRingHead) == 2);
}

TEST_CASE("e1000e: one event sends a bounded number of frames", "[devices][e1000e]") {
    Board b;
    const Frame packet = tcp_frame(60000);
    b.context(kTxContextTcp | kTxContextIpv4 | kTxSegment, 54, 1);
    b.send(b.data(packet, kTxExtension | kTxKindData | kTxSegment | kTxEndOfPacket));
    b.go(E1000e::kLatency_ns);
    CHECK(b.cable.frames.size() == E1000e::kFramesPerEvent);
    b.write(kTctl, 0);  // the guest stops it
    b.time.run_for(100'000'000);
    CHECK(b.cable.frames.size() == E1000e::kFramesPerEvent);
}

TEST_CASE("e1000e: received frames fill descriptors, with verdicts on their checksums", "[devices][e1000e]") {
    Board b;
    b.start_receive();
    Frame good = tcp_frame(500);
    std::copy(kMac.begin(), kMac.end(), good.begin());
    fill_in(good);
    Frame bad = good;
    bad[60] ^= 1;
    Frame fragment = good;
    put16(fragment, 20, 0x2000);
    put16(fragment, 24, 0);
    put16(fragment, 50, 0);
    fill_in(fragment);
    b.card.receive(good);
    b.card.receive(bad);
    b.card.receive(fragment);
    b.time.run_for(1'000'000);
    CHECK(b.buffer(0, good.size()) == good);
    CHECK(b.received(0).length == good.size());
    CHECK(b.received(0).status_error == (kRxDone | kRxEndOfPacket | kRxIpChecked | kRxTcpChecked));
    CHECK(b.received(1).status_error == (kRxDone | kRxEndOfPacket | kRxIpChecked | kRxTcpChecked | kRxTransportError));
    CHECK(b.received(2).status_error == (kRxDone | kRxEndOfPacket | kRxIpChecked));
    CHECK(b.read(kReceiveRing + kRingHead) == 3);
    CHECK((b.read(kIcr) & (kRxt0 | kRxq0)) == (kRxt0 | kRxq0));
    CHECK(b.read(kStatistics + 0x74) == 3);
}

TEST_CASE("e1000e: a long frame takes several legacy descriptors and waits until they are there", "[devices][e1000e]") {
    Board b;
    b.start_receive(kRctlUnicastAll | 1 << 16, 0);  // 1024 bytes each
    b.write(kReceiveRing + kRingTail, 1);
    Frame frame(1500, 0x42);
    b.card.receive(frame);
    b.time.run_for(1'000'000);
    CHECK(b.read(kReceiveRing + kRingHead) == 0);
    CHECK(b.read(kStatistics + 0xa0) == 1);
    b.write(kReceiveRing + kRingTail, 2);
    b.time.run_for(1'000'000);
    CHECK(b.read(kReceiveRing + kRingHead) == 2);
    const auto first = b.get<ReceiveDescriptor>(kRxRing), second = b.get<ReceiveDescriptor>(kRxRing + 16);
    CHECK((first.length == 1024 && first.status == kRxDone));
    CHECK((second.length == 476 && second.status == (kRxDone | kRxEndOfPacket)));
}

TEST_CASE("e1000e: the check sequence is that of Ethernet, and is stripped on demand", "[devices][e1000e]") {
    Board b;
    b.start_receive(kRctlUnicastAll);
    b.write(kRctl, kRctlEnable | kRctlUnicastAll);
    b.card.receive(Frame(60, 0));
    b.time.run_for(1'000'000);
    REQUIRE(b.received(0).length == 64);
    const Frame tail = b.buffer(0, 64);
    CHECK(std::vector<u8>(tail.end() - 4, tail.end()) ==
          std::vector<u8>{0x08, 0x89, 0x12, 0x04});  // zlib.crc32(bytes(60))
}

TEST_CASE("e1000e: filters by address, broadcast, multicast hash, VLAN and length", "[devices][e1000e]") {
    Board b;
    const MacAddress broadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, other{2, 2, 2, 2, 2, 2},
        group{1, 0, 0x5e, 0, 0, 0xfb};
    b.start_receive();
    CHECK(b.takes(kMac));
    CHECK_FALSE(b.takes(broadcast));
    CHECK_FALSE(b.takes(other));
    CHECK_FALSE(b.takes(group));
    b.start_receive(kRctlBroadcast);
    CHECK(b.takes(broadcast));
    CHECK_FALSE(b.takes(group));
    const u32 hash = (0xfb00 >> 4) & 0xfff;
    b.write(kMta + hash / 32 * 4, u64{1} << hash % 32);
    CHECK(b.takes(group));
    b.write(kRal + 8, 0x02020202);
    b.write(kRal + 12, 0x0202 | kRahValid);
    CHECK(b.takes(other));
    CHECK(b.takes(kMac, 1518));
    CHECK_FALSE(b.takes(kMac, 1519));
    b.start_receive(kRctlLong);
    CHECK(b.takes(kMac, 1519));
    b.start_receive(kRctlVlanFilter);
    CHECK_FALSE(b.takes(kMac, 100, 0x2005));
    b.write(kVfta, 1 << 5);
    CHECK(b.takes(kMac, 100, 0x2005));
    b.write(kCtrl, kCtrlAtReset | kCtrlVlanMode);
    CHECK(b.takes(kMac, 100, 0x2005));
    CHECK((b.received(0).status_error & kRxVlan) != 0);
    CHECK((b.received(0).vlan == 0x2005 && b.received(0).length == 96));
    b.write(kRctl, 0);
    CHECK_FALSE(b.takes(kMac));
}

TEST_CASE("e1000e: MSI-X vectors follow IVAR, clear their causes and are throttled", "[devices][e1000e]") {
    Board b;
    b.use_msix();
    b.start_receive(kRctlUnicastAll);
    b.write(kEitr, 1000);  // 256 us
    b.write(kIms, kRxq0 | kTxq0 | kOther | kLsc);
    b.card.receive(Frame(60, 0));
    b.time.run_for(100'000);
    REQUIRE(b.sink.sent.size() == 1);
    CHECK(b.sink.sent[0].second == 0x40);
    b.card.receive(Frame(60, 0));
    b.time.run_for(100'000);
    CHECK(b.sink.sent.size() == 1);
    b.time.run_for(100'000);
    CHECK(b.sink.sent.size() == 2);
    b.send(b.data(Frame(60, 1), kTxEndOfPacket));
    b.go();
    REQUIRE(b.sink.sent.size() == 3);
    CHECK(b.sink.sent[2].second == 0x41);
    b.write(kIcs, kLsc);
    REQUIRE(b.sink.sent.size() == 4);
    CHECK(b.sink.sent[3].second == 0x42);
    CHECK((b.read(kIcr) & (kOther | kLsc | kRxq0 | kTxq0)) == (kOther | kLsc));
}

TEST_CASE("e1000e: what the guest writes cannot hang, crash or grow the card", "[devices][e1000e]") {
    Board b;
    SECTION("heads and tails outside of their rings move nothing") {
        b.start_receive(kRctlUnicastAll);
        b.write(kTransmitRing + kRingHead, 500);
        b.write(kReceiveRing + kRingTail, 500);
        b.card.receive(Frame(60, 0));
        b.go();
        CHECK(b.cable.frames.empty());
        CHECK(b.card.receive_room() == E1000e::kReceiveBufferBytes - 60);
    }
    SECTION("a ring in no memory stops its engine") {
        b.write(kTransmitRing + kRingBaseHigh, 0x1000);
        b.write(kTransmitRing + kRingTail, 5);
        b.time.run_for(1'000'000);
        CHECK((b.read(kTctl) & kTctlEnable) == 0);
        CHECK(b.time.events.next() == kNever);
    }
    SECTION("a packet of endless buffers is lost") {
        for (u32 i = 0; i < 20; ++i) b.send({0, 0xfffff | kTxExtension | kTxKindData, 0});
        b.send({0, 100 | kTxExtension | kTxKindData | kTxEndOfPacket, 0});
        b.send(b.data(Frame(60, 9), kTxEndOfPacket));
        b.go();
        REQUIRE(b.cable.frames.size() == 1);
        CHECK(b.cable.frames[0] == Frame(60, 9));
    }
    SECTION("impossible segmentation is counted and sends nothing") {
        const u32 mss = GENERATE(0u, 1460u), header = GENERATE(0u, 20u, 255u);
        b.context(kTxContextTcp | kTxContextIpv4 | kTxSegment, header, mss);
        b.send(b.data(Frame(100, 1), kTxExtension | kTxKindData | kTxSegment | kTxEndOfPacket));
        b.go();
        CHECK(b.cable.frames.empty());
        CHECK(b.read(kStatistics + 0xfc) == 1);
    }
    SECTION("checksums outside of the frame are not inserted") {
        b.send({u64{200} | 250 << 8, kTxExtension, 0});
        b.send(b.data(Frame(60, 3), kTxExtension | kTxKindData | kTxEndOfPacket, kTxOptionIp));
        b.go();
        REQUIRE(b.cable.frames.size() == 1);
        CHECK(b.cable.frames[0] == Frame(60, 3));
    }
    SECTION("frames beyond the buffer are missed") {
        b.write(kRctl, kRctlEnable | kRctlUnicastAll);
        for (u32 i = 0; i < 2000; ++i) b.card.receive(Frame(1000, 0));
        CHECK(b.card.receive_room() < 1000);
        CHECK(b.read(kStatistics + 0x10) == 2000 - E1000e::kReceiveBufferBytes / 1000);
    }
}
