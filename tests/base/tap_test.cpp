#include "base/tap.h"

#include <catch2/catch.hpp>
#include <string>

using namespace vg;

TEST_CASE("tap: a listener hears the kinds it asked for until it is removed", "[base][tap]") {
    Tap tap;
    CHECK_FALSE(tap.wants(TapKind::Port));
    unsigned ports = 0, all = 0;
    const unsigned first =
        tap.listen(tap_bit(TapKind::Port), [&](const TapEvent& e) { ports += static_cast<unsigned>(e.values[0]); });
    tap.listen(kAllTaps, [&](const TapEvent&) { ++all; });
    tap.tell({TapKind::Port, 0, 0, {0x60, 1, 0, 0x1c}});
    tap.tell({TapKind::Msr, 0, 0, {0x10, 0, 0, 0}});
    CHECK(ports == 0x60);
    CHECK(all == 2);
    tap.remove(first);
    tap.tell({TapKind::Port, 0, 0, {0x60, 1, 0, 0x1c}});
    CHECK(ports == 0x60);
    CHECK(tap.wants(TapKind::Port));
}

TEST_CASE("tap: every kind is found by its name", "[base][tap]") {
    for (unsigned i = 0; i < static_cast<unsigned>(TapKind::Count); ++i) {
        const auto kind = static_cast<TapKind>(i);
        CHECK_FALSE(tap_row(kind).name.empty());
        CHECK(tap_kind(tap_row(kind).name) == kind);
    }
    CHECK(tap_kind("nothing") == TapKind::Count);
}
