// Layouts from type information, well formed and not.
#include "ui/model/btf.h"

#include <catch2/catch.hpp>

#include <cstring>
#include <string>

using namespace vg;
using model::Btf;

namespace {

/// Writes type information as a linker would.
struct Writer {
    std::vector<u32> types;
    std::string strings{'\0'};
    u32 count = 0;

    u32 text(const std::string& name) {
        if (name.empty()) return 0;
        const u32 at = static_cast<u32>(strings.size());
        strings += name + '\0';
        return at;
    }
    struct Member {
        std::string name;
        u32 type, bits;
    };
    u32 add(const std::string& name, u32 kind, u32 size_or_type, const std::vector<u32>& extra = {}, u32 vlen = 0,
            bool flag = false) {
        types.insert(types.end(), {text(name), kind << 24 | vlen | (flag ? 1u << 31 : 0), size_or_type});
        types.insert(types.end(), extra.begin(), extra.end());
        return ++count;
    }
    u32 composite(const std::string& name, u32 kind, u32 size, const std::vector<Member>& members, bool flag = false) {
        std::vector<u32> extra;
        for (const Member& member : members) extra.insert(extra.end(), {text(member.name), member.type, member.bits});
        return add(name, kind, size, extra, static_cast<u32>(members.size()), flag);
    }
    [[nodiscard]] std::vector<u8> bytes() const {
        const u32 type_size = static_cast<u32>(types.size() * 4), string_size = static_cast<u32>(strings.size());
        const u32 header[] = {0x0001eb9f, 24, 0, type_size, type_size, string_size};
        std::vector<u8> out(24 + type_size + string_size);
        std::memcpy(out.data(), header, 24);
        std::memcpy(out.data() + 24, types.data(), type_size);
        std::memcpy(out.data() + 24 + type_size, strings.data(), string_size);
        return out;
    }
};

constexpr u32 kInt = 1, kArray = 3, kStruct = 4, kUnion = 5, kTypedef = 8, kConst = 10;

Writer example() {
    Writer w;
    const u32 number = w.add("int", kInt, 4, {0x20});
    const u32 text = w.add("", kArray, 0, {number, number, 56});
    const u32 inner = w.composite("inner", kStruct, 16, {{"first", number, 0}, {"second", number, 64}});
    const u32 named = w.add("inner_t", kTypedef, inner);
    const u32 unnamed =
        w.composite("", kUnion, 16, {{"as_inner", w.add("", kConst, named), 0}, {"as_number", number, 32}});
    w.composite("outer", kStruct, 128,
                {{"name", text, 0}, {"", unnamed, 512}, {"flag", number, (3u << 24) | 700}, {"tail", number, 960}},
                true);
    return w;
}

}  // namespace

TEST_CASE("btf: members are found through names, qualifiers and unnamed parts", "[ui][symbols]") {
    const auto btf = Btf::parse(example().bytes());
    REQUIRE(btf);
    CHECK(btf->offset("outer", "name") == 0);
    CHECK(btf->offset("outer", "as_number") == 64 + 4);
    CHECK(btf->offset("outer", "as_inner.second") == 64 + 8);
    CHECK(btf->offset("outer", "tail") == 120);
    CHECK(btf->offset("inner", "second") == 8);
    CHECK(btf->elements("outer", "name") == 56);
    CHECK(btf->size("outer") == 128);
    CHECK_FALSE(btf->offset("outer", "flag"));  // a bit field
    CHECK_FALSE(btf->offset("outer", "first"));
    CHECK_FALSE(btf->offset("outer", "tail.more"));
    CHECK_FALSE(btf->offset("none", "name"));
    CHECK_FALSE(btf->elements("outer", "tail"));
}

TEST_CASE("btf: types that contain themselves are not followed for ever", "[ui][symbols]") {
    Writer w;
    w.add("loop", kTypedef, 2);
    w.add("loop", kTypedef, 1);
    w.composite("self", kStruct, 8, {{"", 3, 0}, {"", 3, 0}, {"", 3, 0}, {"", 1, 0}});
    const auto btf = Btf::parse(w.bytes());
    REQUIRE(btf);
    CHECK_FALSE(btf->offset("self", "x"));
}

TEST_CASE("btf: a header or a size that does not fit is refused, and a type that does not ends the list",
          "[ui][symbols]") {
    const std::vector<u8> good = example().bytes();
    for (const std::size_t size : {std::size_t{0}, std::size_t{23}, std::size_t{24}, good.size() - 1})
        CHECK_FALSE(Btf::parse({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}));
    for (const std::size_t at : {0u, 2u, 4u, 12u, 20u}) {
        std::vector<u8> bad = good;
        bad[at] ^= 0xff;
        if (at == 20u || at == 12u) bad[at + 2] = 0x7f;
        CHECK_FALSE(Btf::parse(bad));
    }
    Writer w = example();
    const u32 whole = w.count;
    w.add("future", 31, 0);
    w.composite("behind", kStruct, 4, {{"x", 1, 0}});
    const auto btf = Btf::parse(w.bytes());
    REQUIRE(btf);
    CHECK(btf->type_count() == whole);
    CHECK(btf->offset("outer", "tail") == 120);
    CHECK_FALSE(btf->offset("behind", "x"));
}
