#include <catch2/catch.hpp>

#include <array>
#include <string>

#include "devices/core/io.h"

using namespace vg;
using namespace vg::devices;

namespace {

/// Sixteen bytes that accept accesses up to `max_size`.
class Bytes final : public PortIo {
  public:
    explicit Bytes(unsigned max_size) : max_size_(max_size) {}
    IoStatus port_read(u16 offset, unsigned size, u32& value) override {
        if (size > max_size_) return IoStatus::BadSize;
        value = 0;
        for (unsigned i = 0; i < size; ++i) value |= u32{data.at(offset + i)} << (i * 8);
        ++accesses;
        return IoStatus::Ok;
    }
    IoStatus port_write(u16 offset, unsigned size, u32 value) override {
        if (size > max_size_) return IoStatus::BadSize;
        for (unsigned i = 0; i < size; ++i) data.at(offset + i) = static_cast<u8>(value >> (i * 8));
        ++accesses;
        return IoStatus::Ok;
    }
    std::array<u8, 16> data{};
    int accesses = 0;

  private:
    unsigned max_size_;
};

}  // namespace

TEST_CASE("io bus: unclaimed ports read as all-ones and are logged once", "[devices][io]") {
    std::vector<std::string> lines;
    Log log([&](Area, Level, std::string_view line) { lines.emplace_back(line); });
    log.set_level(Level::Info);
    IoBus bus(log);
    CHECK(bus.read(0x1234, 1) == 0xff);
    CHECK(bus.read(0x1234, 2) == 0xffff);
    CHECK(bus.read(0x1234, 4) == 0xffffffff);
    bus.write(0x1234, 4, 1);
    CHECK(lines.size() == 1);
    for (u32 port = 0; port < 0x10000; ++port) (void)bus.read(static_cast<u16>(port), 1);
    CHECK(lines.size() == 20);
}

TEST_CASE("io bus: routes by range and counts", "[devices][io]") {
    Log log;
    IoBus bus(log);
    Bytes low(4), high(4);
    bus.map("high", 0x200, 16, high);
    bus.map("low", 0x100, 16, low);
    bus.write(0x104, 4, 0x11223344);
    bus.write(0x20f, 1, 0x99);
    CHECK(low.data[4] == 0x44);
    CHECK(low.data[7] == 0x11);
    CHECK(high.data[15] == 0x99);
    CHECK(bus.read(0x104, 2) == 0x3344);
    CHECK(bus.read(0x110, 1) == 0xff);
    CHECK(bus.read(0xff, 1) == 0xff);
    REQUIRE(bus.ranges().size() == 2);
    CHECK(bus.ranges()[0].name == "low");
    CHECK(bus.ranges()[0].writes == 1);
    CHECK(bus.ranges()[0].reads == 1);
}

TEST_CASE("io bus: a wide access is split for a chip that takes bytes only", "[devices][io]") {
    Log log;
    IoBus bus(log);
    Bytes bytes(1);
    bus.map("bytes", 0x300, 16, bytes);
    bus.write(0x300, 4, 0xa1b2c3d4);
    CHECK(bytes.accesses == 4);
    CHECK(bus.read(0x300, 4) == 0xa1b2c3d4);
    CHECK(bus.read(0x301, 2) == 0xb2c3);
}

TEST_CASE("io bus: a wide access across a chip's edge reaches both sides", "[devices][io]") {
    Log log;
    IoBus bus(log);
    Bytes left(4), right(4);
    bus.map("left", 0x100, 2, left);
    bus.map("right", 0x103, 1, right);
    bus.write(0x100, 4, 0x44332211);
    CHECK(left.data[0] == 0x11);
    CHECK(left.data[1] == 0x22);
    CHECK(right.data[0] == 0x44);
    CHECK(bus.read(0x100, 4) == 0x44ff2211);
    CHECK(bus.read(0x102, 2) == 0x44ff);
    CHECK(bus.read(0x0fe, 4) == 0x2211ffff);
}

TEST_CASE("io bus: the end of the port space does not wrap", "[devices][io]") {
    Log log;
    IoBus bus(log);
    Bytes first(4), last(4);
    bus.map("first", 0, 4, first);
    bus.map("last", 0xfffe, 2, last);
    bus.write(0xfffe, 4, 0x44332211);
    CHECK(last.data[0] == 0x11);
    CHECK(last.data[1] == 0x22);
    CHECK(first.accesses == 0);
    CHECK(bus.read(0xfffe, 4) == 0xffff2211);
    CHECK(bus.read(0xffff, 2) == 0xff22);
}
