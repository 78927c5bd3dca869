// What is done for a driver on the way out: checked by the other side's checksum code, which knows nothing of it.
#include <catch2/catch.hpp>

#include <random>

#include "devices/net/offload.h"
#include "devices/net/packet.h"

using namespace vg;
using namespace vg::devices;

namespace {

using Bytes = std::vector<u8>;

struct Wire final : FrameSink {
    void put(std::span<const u8> frame) override { frames.emplace_back(frame.begin(), frame.end()); }
    std::vector<Bytes> frames;
};

struct Shape {
    bool ipv6 = false, udp = false, vlan = false;
    u32 payload = 100, ip_options = 0, tcp_options = 0, extension = 0;
};

/// A frame of that shape with wrong checksums.
Bytes make(const Shape& shape) {
    Bytes f = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    const auto put16 = [&](u32 value) {
        f.push_back(static_cast<u8>(value >> 8));
        f.push_back(static_cast<u8>(value));
    };
    if (shape.vlan) {
        put16(0x8100);
        put16(5);
    }
    const u32 transport = (shape.udp ? 8 : 20 + shape.tcp_options), total = transport + shape.payload + shape.extension;
    put16(shape.ipv6 ? 0x86dd : 0x0800);
    if (shape.ipv6) {
        put16(0x6000);
        put16(0);
        put16(total);
        f.push_back(shape.extension != 0 ? 0 : shape.udp ? 17 : 6);
        f.push_back(64);
        for (u8 i = 0; i < 32; ++i) f.push_back(static_cast<u8>(i * 37));
        if (shape.extension != 0) {
            f.push_back(shape.udp ? 17 : 6);
            f.push_back(static_cast<u8>(shape.extension / 8 - 1));
            f.resize(f.size() + shape.extension - 2);
        }
    } else {
        put16(0x4500 + (shape.ip_options / 4 << 8));
        put16(20 + shape.ip_options + total);
        put16(0xfffe);
        put16(0x4000);
        f.push_back(64);
        f.push_back(shape.udp ? 17 : 6);
        put16(0xdead);
        for (u8 i = 0; i < 8; ++i) f.push_back(static_cast<u8>(10 + i * 41));
        f.resize(f.size() + shape.ip_options, 1);
    }
    put16(1234);
    put16(80);
    if (shape.udp) {
        put16(8 + shape.payload);
        put16(0xbeef);
    } else {
        put16(0xffff);
        put16(0xf000);  // a sequence number that wraps
        put16(0);
        put16(1);
        f.push_back(static_cast<u8>((20 + shape.tcp_options) / 4 << 4));
        f.push_back(0x99);  // CWR, ACK, PSH, FIN
        put16(500);
        put16(0xbeef);
        put16(0);
        f.resize(f.size() + shape.tcp_options, 1);
    }
    for (u32 i = 0; i < shape.payload; ++i) f.push_back(static_cast<u8>(i * 31 + (i >> 8)));
    return f;
}

constexpr SendOffload kAll{true, true, true, 0};

}  // namespace

TEST_CASE("offload: a completed frame's checksums are right, whatever stood there", "[devices][net]") {
    for (const bool ipv6 : {false, true}) {
        for (const bool udp : {false, true}) {
            for (const bool vlan : {false, true}) {
                for (const u32 payload : {0u, 1u, 6u, 61u, 1400u}) {
                    Shape shape{ipv6, udp, vlan, payload};
                    if (!ipv6) shape.ip_options = payload % 2 != 0 ? 8 : 0;
                    if (!udp) shape.tcp_options = payload % 3 == 0 ? 12 : 0;
                    Bytes frame = make(shape);
                    const Bytes before = frame;
                    Wire wire;
                    CHECK(send_offloaded(frame, kAll, wire) == 1);
                    REQUIRE(wire.frames.size() == 1);
                    CHECK(wire.frames[0].size() == std::max<std::size_t>(60, before.size()));
                    const auto verdict = check_checksums(wire.frames[0]);
                    CAPTURE(ipv6, udp, vlan, payload);
                    CHECK(verdict.ip == (ipv6 ? std::nullopt : std::optional(true)));
                    CHECK(verdict.transport == std::optional(true));
                }
            }
        }
    }
}

TEST_CASE("offload: only what was asked for is done", "[devices][net]") {
    Bytes frame = make({});
    Wire wire;
    send_offloaded(frame, {}, wire);
    CHECK(wire.frames[0] == make({}));
    send_offloaded(frame, {true, false, false, 0}, wire);
    CHECK(check_checksums(wire.frames[1]).ip == std::optional(true));
    CHECK(check_checksums(wire.frames[1]).transport == std::optional(false));
    frame = make({});
    send_offloaded(frame, {false, false, true, 0}, wire);  // UDP of a TCP frame
    CHECK(wire.frames[2] == make({}));
    Bytes fragment = make({});
    fragment[20] = 0x20;  // more fragments
    send_offloaded(fragment, {false, true, false, 0}, wire);
    CHECK(wire.frames[3][51] == 0xef);
}

TEST_CASE("offload: a UDP sum of zero is sent as all ones (RFC 768)", "[devices][net]") {
    Bytes frame = make({false, true, false, 2});
    Wire wire;
    send_offloaded(frame, kAll, wire);
    const std::size_t at = 14 + 20 + 6;
    // Put what makes the sum come out as zero: the checksum's own value into the payload.
    frame = make({false, true, false, 2});
    const Bytes& done = wire.frames[0];
    const u32 sum = ones_sum(std::span(done).subspan(at + 2, 2)) + read_be16(done, at);
    write_be16(frame, at + 2, static_cast<u16>(sum + (sum >> 16)));
    send_offloaded(frame, kAll, wire);
    CHECK(read_be16(wire.frames[1], at) == 0xffff);
    CHECK(check_checksums(wire.frames[1]).transport == std::optional(true));
}

TEST_CASE("offload: segments are the packet again, each right by itself (large send)", "[devices][net]") {
    for (const bool ipv6 : {false, true}) {
        for (const u32 mss : {1u, 536u, 1448u, 8948u}) {
            for (const u32 payload : {1u, 1448u, 1449u, 5000u, 62000u}) {
                if (payload / mss > 5000) continue;
                Shape shape{ipv6, false, payload % 2 == 0, payload};
                shape.tcp_options = 12;
                shape.extension = ipv6 && payload == 5000 ? 16 : 0;
                Bytes frame = make(shape);
                const std::size_t ip = shape.vlan ? 18 : 14, tcp = ip + (ipv6 ? 40 : 20) + shape.extension,
                                  data = tcp + 32;
                write_be16(frame, ip + (ipv6 ? 4 : 2), 0);  // as Linux leaves the length
                const Bytes content(frame.begin() + static_cast<std::ptrdiff_t>(data), frame.end());
                Wire wire;
                const u32 expected = (payload + mss - 1) / mss;
                CHECK(send_offloaded(frame, {false, false, false, mss}, wire) == expected);
                REQUIRE(wire.frames.size() == expected);
                Bytes together;
                for (u32 i = 0; i < expected; ++i) {
                    const Bytes& each = wire.frames[i];
                    const auto verdict = check_checksums(each);
                    if (shape.extension == 0) CHECK(verdict.transport == std::optional(true));
                    if (!ipv6) {
                        CHECK(verdict.ip == std::optional(true));
                        CHECK(read_be16(each, ip + 4) == static_cast<u16>(0xfffe + i));
                    }
                    CHECK(read_be32(each, tcp + 4) == 0xffff'f000 + i * mss);
                    const bool last = i + 1 == expected;
                    CHECK((each[tcp + 13] & 0x09) == (last ? 0x09 : 0));    // PSH, FIN
                    CHECK((each[tcp + 13] & 0x80) == (i == 0 ? 0x80 : 0));  // CWR
                    const u32 bytes = std::min(mss, payload - i * mss);
                    REQUIRE(each.size() >= data + bytes);
                    together.insert(together.end(), each.begin() + static_cast<std::ptrdiff_t>(data),
                                    each.begin() + static_cast<std::ptrdiff_t>(data + bytes));
                }
                CHECK(together == content);
            }
        }
    }
}

TEST_CASE("offload: frames that cannot be cut are lost, and none of any content leaves its bounds", "[devices][net]") {
    Wire wire;
    Bytes udp = make({false, true});
    CHECK(send_offloaded(udp, {false, false, false, 100}, wire) == 0);
    Bytes no_payload = make({false, false, false, 0});
    CHECK(send_offloaded(no_payload, {false, false, false, 100}, wire) == 0);
    Bytes huge = make({false, false, false, 40000});
    CHECK(send_offloaded(huge, {false, false, false, 20000}, wire) == 0);
    CHECK(send_offloaded(huge, {}, wire) == 0);  // nothing carries that
    CHECK(wire.frames.empty());
    std::minstd_rand random(1);
    for (u32 round = 0; round < 20000; ++round) {
        Bytes frame = make({random() % 2 != 0, random() % 2 != 0, random() % 2 != 0, static_cast<u32>(random() % 300),
                            0, 0, static_cast<u32>(random() % 2 * 8)});
        for (u32 i = 0; i < 3; ++i)
            frame[12 + random() % (std::min<std::size_t>(frame.size(), 70) - 12)] = static_cast<u8>(random());
        frame.resize(random() % 4 == 0 ? random() % (frame.size() + 1) : frame.size());
        wire.frames.clear();
        send_offloaded(frame,
                       {random() % 2 != 0, random() % 2 != 0, random() % 2 != 0,
                        random() % 2 != 0 ? static_cast<u32>(random() % 64) : 0},
                       wire);
        for (const Bytes& each : wire.frames) {
            REQUIRE(each.size() >= 60);
            REQUIRE(each.size() <= kMaxFrameBytes);
        }
    }
}
