// What comes from a guest or a peer is made fit for showing.
#include <catch2/catch.hpp>

#include "ui/model/desk/json_read.h"

using namespace vg;
using namespace vg::desk;

TEST_CASE("desk: text for panels has no character that moves, hides or reverses others", "[desk]") {
    CHECK(shown("plain \u00e9\u2192") == "plain \u00e9\u2192");
    CHECK(shown("a\x1b[31mred\n") == "a\\x1b[31mred\\x0a");
    CHECK(shown("tab\there") == "tab here");
    CHECK(shown("\u202eevil") == "\\u202eevil");
    CHECK(shown("zero\u200bwidth\ufeff") == "zero\\u200bwidth\\ufeff");
    CHECK(shown(std::string("nul\0x", 5)) == "nul\\x00x");
}

TEST_CASE("desk: text that is not UTF-8 keeps its good parts", "[desk]") {
    CHECK(shown("a\xff\xfe b") == "a\\xff\\xfe b");
    CHECK(shown("\xc3") == "\\xc3");
    CHECK(shown("x\xe2\x82") == "x\\xe2\\x82");
    CHECK(shown("\xed\xa0\x80") == "\\xed\\xa0\\x80");  // a surrogate
}

TEST_CASE("desk: long text ends with an ellipsis and stays UTF-8", "[desk]") {
    const std::string cut = shown(std::string(1'000'000, 'x'), 100);
    CHECK(cut == std::string(100, 'x') + "\u2026");
    std::string wide;
    for (int i = 0; i < 1000; ++i) wide += "\u20ac";
    const std::string cut_wide = shown(wide, 100);
    CHECK(cut_wide.size() <= 110);
    CHECK(cut_wide.substr(0, 3) == "\u20ac");
    CHECK(cut_wide.find('\\') == std::string::npos);
    CHECK(shown(std::string(1'000'000, '\xff'), 100).size() < 120);
}

TEST_CASE("desk: odd JSON has defaults", "[desk]") {
    const Json json = {{"a", "0x1f"}, {"b", 7},    {"c", -1},    {"d", nullptr}, {"e", {1, 2}},
                       {"f", "zz"},   {"g", true}, {"h", 1e300}, {"i", 2.5}};
    CHECK(number(json, "a") == 31);
    CHECK(number(json, "b") == 7);
    CHECK(number(json, "c", 5) == 5);
    CHECK(number(json, "d", 5) == 5);
    CHECK(number(json, "e", 5) == 5);
    CHECK(number(json, "f", 5) == 5);
    CHECK(number(json, "h", 5) == 5);
    CHECK(number(json, "i") == 2);
    CHECK(number(json, "missing", 9) == 9);
    CHECK(number(Json(3), "a", 9) == 9);
    CHECK(has_number(json, "a"));
    CHECK_FALSE(has_number(json, "f"));
    CHECK(truth(json, "g"));
    CHECK(words(json, "e").empty());
    CHECK(words(json, "b") == "7");
    CHECK(items(json).empty());
    CHECK(items(member(json, "e"), 1).size() == 1);
}

TEST_CASE("desk: numbers and bytes from text", "[desk]") {
    CHECK(parse_number("0xFFFFFFFFFFFFFFFF", false) == ~u64{0});
    CHECK_FALSE(parse_number("0x10000000000000000", false));
    CHECK_FALSE(parse_number("", false));
    CHECK_FALSE(parse_number("0x", false));
    CHECK_FALSE(parse_number("-1", false));
    CHECK_FALSE(parse_number("12 ", false));
    CHECK(parse_number("12", true) == 0x12);
    CHECK(parse_hex("00ff??1", 10) == std::vector<int>{0, 255, -1});
    CHECK(parse_hex("0 0", 10).empty());
    CHECK(parse_hex("00 01", 10) == std::vector<int>{0, 1});
    CHECK(parse_hex("0001zz02", 10) == std::vector<int>{0, 1});
    CHECK(parse_hex("000102", 2).size() == 2);
}
