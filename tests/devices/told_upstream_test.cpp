#include "devices/core/told_upstream.h"

#include <catch2/catch.hpp>

#include "tests/support/pci.h"
#include "tests/support/tap_record.h"

using namespace vg;
using namespace vg::devices;

TEST_CASE("told upstream: transfers and messages are told with who asked, refused ones too", "[devices][tap]") {
    test::PciBench bench;
    Log log;
    ToldUpstream upstream(std::make_unique<DirectUpstream>(bench.dma, bench.sink), log);
    const Rid card(0, 3, 1);
    u32 value = 0x12345678;
    CHECK(upstream.dma(card).write(Iova(0x1000), &value, 4));  // nobody listens
    const test::TapRecord record(log.tap());
    u32 back = 0;
    CHECK(upstream.dma(card).read(Iova(0x1000), &back, 4));
    CHECK(back == value);
    CHECK_FALSE(upstream.dma(card).write(Iova(u64{1} << 40), &value, 2));
    upstream.messages(card).send(0xfee00000, 0x31);
    REQUIRE(record.events.size() == 3);
    const auto is = [&](std::size_t i, TapKind kind, std::array<u64, 4> values) {
        return record.events[i].kind == kind && std::equal(values.begin(), values.end(), record.events[i].values);
    };
    CHECK(is(0, TapKind::Dma, {0x19, 0x1000, 4, 0}));
    CHECK(is(1, TapKind::Dma, {0x19, u64{1} << 40, 2, 1}));
    CHECK(is(2, TapKind::Msi, {0x19, 0xfee00000, 0x31, 0}));
    CHECK(&upstream.dma(card) == &upstream.dma(card));
}
