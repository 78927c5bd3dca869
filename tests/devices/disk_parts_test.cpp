// Requests whose data lies in several places.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <algorithm>
#include <array>

#include "devices/storage/create.h"
#include "tests/devices/storage_support.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::devices;
using vg::test::must;
using vg::test::Random;

namespace {

constexpr u64 kSize = u64{8} << 20;

/// Some memory in `count` parts of any size, in any order, `size` bytes in all.
struct Scattered {
    std::vector<u8> memory;
    std::vector<std::span<u8>> parts;
    Scattered(Random& random, u64 size) : memory(size) {
        std::span<u8> left = memory;
        while (!left.empty()) {
            const u64 most = random() % 8 == 0 ? 200'000 : random() % 3 == 0 ? 9'000 : 4096;
            const u64 take = std::min<u64>(left.size(), 1 + random() % most);
            parts.push_back(left.first(take));
            left = left.subspan(take);
        }
        std::shuffle(parts.begin(), parts.end(), random);
    }
    [[nodiscard]] std::vector<u8> in_order() const {
        std::vector<u8> all;
        for (const std::span<u8> part : parts) all.insert(all.end(), part.begin(), part.end());
        return all;
    }
};

}  // namespace

TEST_CASE("disk: a request in parts is as one in a row, on images of every kind", "[devices][storage]") {
    test::TempDir dir;
    Random random(0xd15c);
    const std::string raw = dir / "disk.raw", fixed = dir / "fixed.vhd", dynamic = dir / "dynamic.vhd";
    test::write_file(raw, std::vector<u8>(kSize));
    must(create_vhd({.path = fixed, .kind = VhdKind::Fixed, .size_bytes = kSize}));
    must(create_vhd({.path = dynamic, .kind = VhdKind::Dynamic, .size_bytes = kSize}));
    const std::array<std::pair<std::string, WriteMode>, 5> ways{{{raw, WriteMode::Direct},
                                                                 {raw, WriteMode::Throwaway},
                                                                 {raw, WriteMode::Memory},
                                                                 {fixed, WriteMode::Direct},
                                                                 {dynamic, WriteMode::Direct}}};
    const auto& [path, mode] = ways[GENERATE(range(0u, 5u))];
    auto disk = must(open_image({.path = path, .mode = mode}));
    std::vector<u8> model(kSize);
    must(disk->read(0, model));
    for (int i = 0; i < 300; ++i) {
        const u64 sectors = 1 + random() % (random() % 4 == 0 ? 2300 : 40);
        const u64 first = random() % (kSize / 512 - sectors);
        const auto in_model = model.begin() + static_cast<std::ptrdiff_t>(first * 512);
        Scattered data(random, sectors * 512);
        if (random() % 2 == 0) {
            const auto content = test::random_bytes(random, data.memory.size());
            std::copy(content.begin(), content.end(), data.memory.begin());  // its parts stay where they are
            must(disk->write_parts(first * 512, data.parts));
            const auto all = data.in_order();
            std::copy(all.begin(), all.end(), in_model);
        } else {
            must(disk->read_parts(first * 512, data.parts));
            REQUIRE(
                std::equal(in_model, in_model + static_cast<std::ptrdiff_t>(sectors * 512), data.in_order().begin()));
        }
    }
    std::vector<u8> whole(kSize);
    must(disk->read(0, whole));
    CHECK(whole == model);
}

TEST_CASE("disk: parts that reach outside are refused, and a file that ends early is told of", "[devices][storage]") {
    test::TempDir dir;
    test::write_file(dir / "disk.raw", std::vector<u8>(64 * 1024));
    auto disk = must(open_image({.path = dir / "disk.raw", .mode = WriteMode::Direct}));
    std::vector<u8> one(4096), two(4096);
    const std::vector<std::span<u8>> parts{one, two};
    CHECK(disk->read_parts(56 * 1024, parts));
    CHECK_FALSE(disk->read_parts(60 * 1024, parts));
    CHECK_FALSE(disk->write_parts(60 * 1024, parts));
    const std::vector<std::span<u8>> uneven{one, std::span(two).first(100)};
    CHECK_FALSE(disk->read_parts(0, uneven));
    REQUIRE(::truncate((dir / "disk.raw").c_str(), 10 * 4096) == 0);
    CHECK_FALSE(disk->read_parts(9 * 4096, parts));
    CHECK(disk->read_parts(8 * 4096, parts));
}
