// Power loss: between two syncs the host may keep any part of what was written. Flushed data must be there anyway.
#include <catch2/catch.hpp>

#include "tests/devices/storage_support.h"
#include "tests/devices/volatile_file.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

TEST_CASE("vhd: a power loss at any moment keeps what was flushed", "[devices][vhd]") {
    constexpr u64 kSize = 96 * 1024, kSectors = kSize / 512;
    const bool differencing = GENERATE(false, true);
    MemoryFolder folder;
    Random random(differencing ? 1 : 2);
    vhd::Plan base;
    base.kind = VhdKind::Fixed;
    base.size_bytes = kSize;
    base.id = test_id(1);
    folder.create("base.vhd", base);
    FlatModel flushed{random_bytes(random, kSize)};
    must(std::move(must(vhd::open_chain(folder.open("base.vhd"), ImageFormat::Vhd, folder)).device)
             ->write(0, flushed.bytes));
    vhd::Plan plan;
    plan.size_bytes = kSize;
    plan.block_bytes = 4096;
    plan.id = test_id(2);
    if (differencing) {
        plan.kind = VhdKind::Differencing;
        plan.parent = {"base.vhd", base.id, 0, 0};
        plan.parent_path = "base.vhd";
    } else {
        flushed.bytes.assign(kSize, 0);
    }
    folder.create("disk.vhd", plan);
    std::vector<u8> image = folder.content("disk.vhd");

    for (int round = 0; round < 400; ++round) {
        VolatileFile file("disk.vhd", image);
        // A sector that was not flushed holds what it held before or anything written since.
        std::vector<std::vector<std::vector<u8>>> since(kSectors);
        auto disk = std::move(
            must(vhd::open_chain(std::make_unique<VolatileFile::Handle>(file), ImageFormat::Vhd, folder)).device);
        FlatModel model = flushed;
        for (u64 steps = random() % 30; steps > 0; --steps) {
            if (random() % 6 == 0) {
                must(disk->flush());
                flushed = model;
                for (auto& values : since) values.clear();
                continue;
            }
            const u64 first = random() % kSectors, count = 1 + random() % std::min<u64>(12, kSectors - first);
            const std::vector<u8> data = random_bytes(random, static_cast<std::size_t>(count * 512));
            must(disk->write(first * 512, data));
            for (u64 s = 0; s < count; ++s) {
                const auto at = data.begin() + static_cast<std::ptrdiff_t>(s * 512);
                since[first + s].emplace_back(at, at + 512);
            }
            std::copy(data.begin(), data.end(), model.bytes.begin() + static_cast<std::ptrdiff_t>(first * 512));
        }
        image = file.lose(random);
        disk.reset();  // what it still writes goes to a file that is no more

        folder.add("disk.vhd", image);
        auto reopened = std::move(must(vhd::open_chain(folder.open("disk.vhd"), ImageFormat::Vhd, folder)).device);
        std::vector<u8> got(kSize);
        must(reopened->read(0, got));
        for (u64 s = 0; s < kSectors; ++s) {
            const std::vector<u8> sector(got.begin() + static_cast<std::ptrdiff_t>(s * 512),
                                         got.begin() + static_cast<std::ptrdiff_t>(s * 512 + 512));
            const auto before = flushed.bytes.begin() + static_cast<std::ptrdiff_t>(s * 512);
            const bool old = std::equal(sector.begin(), sector.end(), before);
            INFO("round " << round << " sector " << s);
            REQUIRE((old || std::find(since[s].begin(), since[s].end(), sector) != since[s].end()));
        }
        flushed.bytes = got;
        reopened.reset();
        image = folder.content("disk.vhd");
    }
}
