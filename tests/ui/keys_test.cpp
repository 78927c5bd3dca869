// From text and names of keys to scan codes.
#include "ui/model/keys.h"

#include <catch2/catch.hpp>

#include "hv/spec/input_devices.h"

using namespace vg;
using namespace vg::model;

namespace {

std::vector<std::pair<unsigned, unsigned>> list(const std::optional<std::vector<hv::vsp::Keystroke>>& keys) {
    REQUIRE(keys);
    std::vector<std::pair<unsigned, unsigned>> out;
    for (const auto& key : *keys) out.emplace_back(key.code, key.flags);
    return out;
}
using Keys = std::vector<std::pair<unsigned, unsigned>>;

}  // namespace

TEST_CASE("keys: text becomes keys that go down and up, with shift where the US layout has it", "[ui][keys]") {
    CHECK(list(keys_of_text("a")) == Keys{{0x1e, 0}, {0x1e, 2}});
    CHECK(list(keys_of_text("A\n")) == Keys{{0x2a, 0}, {0x1e, 0}, {0x1e, 2}, {0x2a, 2}, {0x1c, 0}, {0x1c, 2}});
    CHECK(list(keys_of_text("1!")) == Keys{{2, 0}, {2, 2}, {0x2a, 0}, {2, 0}, {2, 2}, {0x2a, 2}});
    for (char c = ' '; c < 127; ++c) {
        const auto keys = keys_of_text(std::string(1, c));
        INFO(c);
        REQUIRE(keys);
        CHECK((keys->size() == 2 || keys->size() == 4));
    }
    CHECK_FALSE(keys_of_text("ä"));
    CHECK_FALSE(keys_of_text(std::string(1, '\x01')));
    CHECK(list(keys_of_text("")).empty());
}

TEST_CASE("keys: a chord is pressed in order and released in reverse", "[ui][keys]") {
    CHECK(list(keys_of_chord("ctrl+Alt+delete")) ==
          Keys{{0x1d, 0}, {0x38, 0}, {0x53, hv::keyboard::kE0}, {0x53, hv::keyboard::kE0 | 2}, {0x38, 2}, {0x1d, 2}});
    CHECK(list(keys_of_chord("+")) == Keys{{0x2a, 0}, {0x0d, 0}, {0x0d, 2}, {0x2a, 2}});
    CHECK(list(keys_of_chord("ctrl++")).size() == 6);
    CHECK(list(keys_of_chord("f12")) == Keys{{0x58, 0}, {0x58, 2}});
    CHECK_FALSE(keys_of_chord(""));
    CHECK_FALSE(keys_of_chord("ctrl+"));
    CHECK_FALSE(keys_of_chord("nosuchkey"));
    for (const std::string& name : key_names()) CHECK(keys_of_chord(name));
}
