// VHDX images in memory: requests against a flat model, chains, losses of power, and what is refused.
#include <catch2/catch.hpp>

#include "devices/storage/vhdx_layout.h"
#include "tests/devices/storage_support.h"
#include "tests/devices/volatile_file.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

constexpr u64 kMiB = vhdx::kMiB;

vhdx::Plan plan(VhdKind kind, u64 size, u8 id, u32 logical = 512) {
    vhdx::Plan p;
    p.kind = kind;
    p.size_bytes = size;
    p.block_bytes = kMiB;
    p.logical_sector_bytes = logical;
    p.disk_id = test_id(id);
    p.write_id = test_id(static_cast<u8>(id + 100));
    return p;
}
/// A child of the image as it is now.
vhdx::Plan child_of(MemoryFolder& folder, const std::string& parent, ImageFormat format, u8 id) {
    const auto below = must(vhd::open_chain(folder.open(parent, false), format, folder));
    vhdx::Plan p = plan(VhdKind::Differencing, below.device->size_bytes(), id, below.device->logical_sector_bytes());
    p.parent_linkage = below.identity.linkage;
    p.parent_path = parent;
    return p;
}
std::unique_ptr<BlockDevice> open(MemoryFolder& folder, const std::string& name, bool writable = true) {
    return std::move(must(vhd::open_chain(folder.open(name, writable), ImageFormat::Vhdx, folder)).device);
}
Error refused(MemoryFolder& folder, const std::string& name) {
    auto result = vhd::open_chain(folder.open(name), ImageFormat::Vhdx, folder);
    REQUIRE_FALSE(result.has_value());
    return result.error();
}

}  // namespace

TEST_CASE("vhdx: CRC-32C and GUIDs are those of the specification", "[devices][vhdx]") {
    const std::string text = "123456789";
    const std::vector<u8> bytes(text.begin(), text.end());
    CHECK(vhdx::crc32c(bytes) == 0xe3069283);  // the check value of RFC 3720 B.4's polynomial
    CHECK(vhdx::crc32c(std::span(bytes).subspan(4), vhdx::crc32c(std::span(bytes).first(4))) == 0xe3069283);
    const std::string guid = "{2dc27766-f623-4200-9d64-115e9bfd4a08}";
    CHECK(vhdx::to_string(vhdx::kBatRegion) == guid);
    CHECK(vhdx::kBatRegion[0] == 0x66);
    CHECK(vhdx::parse_guid(guid) == vhdx::kBatRegion);
    CHECK(vhdx::parse_guid("{2DC27766-F623-4200-9D64-115E9BFD4A08}") == vhdx::kBatRegion);
    for (const char* wrong : {"", "{}", "2dc27766", "{2dc27766-f623-4200-9d64-115e9bfd4a0g}"})
        CHECK_FALSE(vhdx::parse_guid(wrong));
}

TEST_CASE("vhdx: random requests and reopenings match a flat disk", "[devices][vhdx]") {
    const auto kind = GENERATE(VhdKind::Fixed, VhdKind::Dynamic);
    const u32 logical = GENERATE(512u, 4096u);
    Random random(logical + static_cast<unsigned>(kind));
    MemoryFolder folder;
    const u64 size = 5 * kMiB + 12 * 4096;
    folder.create("disk.vhdx", plan(kind, size, 1, logical));
    FlatModel model{std::vector<u8>(size)};
    for (int opening = 0; opening < 6; ++opening) {
        auto disk = open(folder, "disk.vhdx");
        CHECK(disk->logical_sector_bytes() == logical);
        CHECK(disk->physical_sector_bytes() == 4096);
        model.check(*disk);
        for (int i = 0; i < 120; ++i) random_request(random, *disk, model);
    }
    const auto disk = open(folder, "disk.vhdx", false);
    model.check(*disk);
    CHECK(disk->read_only());
    CHECK(disk->describe() == (kind == VhdKind::Fixed ? "vhdx (fixed, disk.vhdx)" : "vhdx (dynamic, disk.vhdx)"));
    CHECK_FALSE(disk->write(0, std::vector<u8>(4096)).has_value());
    std::vector<u8> behind(4096);
    CHECK_FALSE(disk->read(size, behind).has_value());
}

TEST_CASE("vhdx: a chain of three matches a flat disk and leaves its parents alone", "[devices][vhdx]") {
    const u32 logical = GENERATE(512u, 4096u);
    Random random(logical);
    MemoryFolder folder;
    const u64 size = 4 * kMiB + 4096;
    FlatModel model{std::vector<u8>(size)};
    const auto written = [&](const std::string& name, const vhdx::Plan& made) {
        folder.create(name, made);
        auto disk = open(folder, name);
        for (int i = 0; i < 150; ++i) random_request(random, *disk, model);
    };
    written("base.vhdx", plan(VhdKind::Dynamic, size, 1, logical));
    written("middle.vhdx", child_of(folder, "base.vhdx", ImageFormat::Vhdx, 2));
    const std::vector<u8> base_bytes = folder.content("base.vhdx"), middle_bytes = folder.content("middle.vhdx");
    const FlatModel below = model;
    folder.create("top.vhdx", child_of(folder, "middle.vhdx", ImageFormat::Vhdx, 3));
    for (int opening = 0; opening < 4; ++opening) {
        auto disk = open(folder, "top.vhdx");
        model.check(*disk);
        for (int i = 0; i < 100; ++i) random_request(random, *disk, model);
    }
    model.check(*open(folder, "top.vhdx"));
    below.check(*open(folder, "middle.vhdx", false));
    CHECK(folder.content("base.vhdx") == base_bytes);
    CHECK(folder.content("middle.vhdx") == middle_bytes);
}

TEST_CASE("vhdx: whole blocks of zeroes in an overlay take no room", "[devices][vhdx]") {
    MemoryFolder folder;
    folder.create("base.vhdx", plan(VhdKind::Dynamic, 8 * kMiB, 1));
    must(open(folder, "base.vhdx")->write(0, std::vector<u8>(8 * kMiB, 0x11)));
    folder.create("top.vhdx", child_of(folder, "base.vhdx", ImageFormat::Vhdx, 2));
    const std::size_t before = folder.content("top.vhdx").size();
    must(open(folder, "top.vhdx")->discard(kMiB, 4 * kMiB));
    CHECK(folder.content("top.vhdx").size() == before);
    std::vector<u8> got(8 * kMiB);
    must(open(folder, "top.vhdx", false)->read(0, got));
    CHECK(std::count(got.begin(), got.end(), 0) == 4 * static_cast<std::ptrdiff_t>(kMiB));
    CHECK(got[kMiB - 1] == 0x11);
    CHECK(got[kMiB] == 0);
    CHECK(got[5 * kMiB] == 0x11);
}

TEST_CASE("vhdx: a power loss at any moment keeps what was flushed", "[devices][vhdx]") {
    constexpr u64 kSize = 3 * kMiB + 32 * 1024, kSectors = kSize / 512;
    const bool differencing = GENERATE(false, true);
    MemoryFolder folder;
    Random random(differencing ? 1 : 2);
    FlatModel flushed{std::vector<u8>(kSize)};
    folder.create("disk.vhdx", plan(VhdKind::Dynamic, kSize, 2));
    if (differencing) {
        flushed.bytes = random_bytes(random, kSize);
        folder.create("base.vhdx", plan(VhdKind::Fixed, kSize, 1));
        must(open(folder, "base.vhdx")->write(0, flushed.bytes));
        folder.create("disk.vhdx", child_of(folder, "base.vhdx", ImageFormat::Vhdx, 2));
    }
    std::vector<u8> image = folder.content("disk.vhdx");
    const std::vector<u8> fresh = image;
    const std::vector<u8> beginning = flushed.bytes;

    for (int round = 0; round < 400; ++round) {
        if (round % 20 == 0) {  // most blocks are there after some rounds
            image = fresh;
            flushed.bytes = beginning;
        }
        VolatileFile file("disk.vhdx", image);
        // A sector that was not flushed holds what it held before or anything written since.
        std::map<u64, std::vector<std::vector<u8>>> since;
        auto disk = std::move(
            must(vhd::open_chain(std::make_unique<VolatileFile::Handle>(file), ImageFormat::Vhdx, folder)).device);
        FlatModel model = flushed;
        for (u64 steps = random() % 30; steps > 0; --steps) {
            if (random() % 6 == 0) {
                must(disk->flush());
                flushed = model;
                since.clear();
                continue;
            }
            const u64 first = random() % kSectors, count = 1 + random() % std::min<u64>(12, kSectors - first);
            const std::vector<u8> data =
                random() % 5 == 0 ? std::vector<u8>(count * 512) : random_bytes(random, count * 512);
            must(data[0] == 0 && data[1] == 0 ? disk->discard(first * 512, count * 512)
                                              : disk->write(first * 512, data));
            for (u64 s = 0; s < count; ++s) {
                const auto at = data.begin() + static_cast<std::ptrdiff_t>(s * 512);
                since[first + s].emplace_back(at, at + 512);
            }
            std::copy(data.begin(), data.end(), model.bytes.begin() + static_cast<std::ptrdiff_t>(first * 512));
        }
        image = file.lose(random);
        disk.reset();  // what it still writes goes to a file that is no more

        folder.add("disk.vhdx", image);
        std::vector<u8> seen(kSize), got(kSize);
        must(open(folder, "disk.vhdx", false)->read(0, seen));  // through the log, which stays as it is
        REQUIRE(folder.content("disk.vhdx") == image);
        must(open(folder, "disk.vhdx")->read(0, got));
        REQUIRE(seen == got);
        for (u64 s = 0; s < kSectors; ++s) {
            const auto now = got.begin() + static_cast<std::ptrdiff_t>(s * 512);
            if (std::equal(now, now + 512, flushed.bytes.begin() + static_cast<std::ptrdiff_t>(s * 512))) continue;
            INFO("round " << round << " sector " << s);
            const auto& values = since[s];
            REQUIRE(std::find(values.begin(), values.end(), std::vector<u8>(now, now + 512)) != values.end());
        }
        flushed.bytes = got;
        image = folder.content("disk.vhdx");
    }
}

TEST_CASE("vhdx: overlays know images of other formats by their content", "[devices][vhdx]") {
    Random random(5);
    MemoryFolder folder;
    FlatModel model{random_bytes(random, 3 * kMiB)};
    const bool raw = GENERATE(true, false);
    const std::string base = raw ? "disk.img" : "disk.vhd";
    if (raw) {
        folder.add(base, model.bytes);
    } else {
        vhd::Plan p;
        p.kind = VhdKind::Fixed;
        p.size_bytes = model.bytes.size();
        p.id = test_id(1);
        folder.create(base, p);
        must(must(vhd::open_chain(folder.open(base), ImageFormat::Vhd, folder)).device->write(0, model.bytes));
    }
    const ImageFormat format = raw ? ImageFormat::Raw : ImageFormat::Vhd;
    folder.create("over.vhdx", child_of(folder, base, format, 9));
    {
        auto disk = open(folder, "over.vhdx");
        for (int i = 0; i < 100; ++i) random_request(random, *disk, model);
    }
    model.check(*open(folder, "over.vhdx"));
    must(must(vhd::open_chain(folder.open(base), format, folder)).device->write(0, std::vector<u8>(512, 3)));
    const Error error = refused(folder, "over.vhdx");
    CHECK(error.code == Error::Code::Damaged);
    CHECK(error.text.find("parent linkage") != std::string::npos);
}

TEST_CASE("vhdx: a VHD overlay has the sectors of the VHDX below", "[devices][vhdx]") {
    Random random(6);
    MemoryFolder folder;
    folder.create("base.vhdx", plan(VhdKind::Dynamic, 2 * kMiB, 1, 4096));
    FlatModel model{std::vector<u8>(2 * kMiB)};
    {
        auto disk = open(folder, "base.vhdx");
        for (int i = 0; i < 50; ++i) random_request(random, *disk, model);
    }
    auto base = must(vhd::open_chain(folder.open("base.vhdx", false), ImageFormat::Vhdx, folder));
    vhd::Plan p;
    p.kind = VhdKind::Differencing;
    p.size_bytes = 2 * kMiB;
    p.id = test_id(2);
    p.parent = base.identity;
    p.parent_path = "base.vhdx";
    folder.create("over.vhd", p);
    auto disk = must(vhd::open_over(folder.open("over.vhd"), std::move(base)));
    CHECK(disk->logical_sector_bytes() == 4096);
    for (int i = 0; i < 50; ++i) random_request(random, *disk, model);
    model.check(*disk);
}

TEST_CASE("vhdx: parents are checked for identity, loops and depth", "[devices][vhdx]") {
    MemoryFolder folder;
    folder.create("base.vhdx", plan(VhdKind::Dynamic, kMiB, 1));
    SECTION("another id") {
        vhdx::Plan p = child_of(folder, "base.vhdx", ImageFormat::Vhdx, 2);
        p.parent_linkage = test_id(7);
        folder.create("child.vhdx", p);
        const Error error = refused(folder, "child.vhdx");
        CHECK(error.code == Error::Code::Damaged);
        CHECK(error.text.find("{07070707-0707-0707-0707-070707070707}") != std::string::npos);
    }
    SECTION("written since") {
        folder.create("child.vhdx", child_of(folder, "base.vhdx", ImageFormat::Vhdx, 2));
        open(folder, "child.vhdx");
        open(folder, "base.vhdx");  // opening alone changes nothing
        open(folder, "child.vhdx");
        must(open(folder, "base.vhdx")->write(0, std::vector<u8>(512)));
        CHECK(refused(folder, "child.vhdx").code == Error::Code::Damaged);
    }
    SECTION("missing") {
        vhdx::Plan p = child_of(folder, "base.vhdx", ImageFormat::Vhdx, 2);
        p.parent_path = "gone.vhdx";
        folder.create("child.vhdx", p);
        const Error error = refused(folder, "child.vhdx");
        CHECK(error.code == Error::Code::Usage);
        CHECK(error.text.find("gone.vhdx") != std::string::npos);
    }
    SECTION("its own parent") {
        vhdx::Plan p = child_of(folder, "base.vhdx", ImageFormat::Vhdx, 2);
        p.parent_path = "child.vhdx";
        p.parent_linkage = p.write_id;
        folder.create("child.vhdx", p);
        CHECK(refused(folder, "child.vhdx").text.find("loop") != std::string::npos);
    }
    SECTION("other sectors") {
        vhdx::Plan p = child_of(folder, "base.vhdx", ImageFormat::Vhdx, 2);
        p.logical_sector_bytes = 4096;
        folder.create("child.vhdx", p);
        CHECK(refused(folder, "child.vhdx").text.find("sectors of 4096") != std::string::npos);
    }
    SECTION("depth") {
        std::string name = "base.vhdx";
        for (u8 i = 2; i <= vhd::kMaxChain + 1; ++i) {
            const vhdx::Plan p = child_of(folder, name, ImageFormat::Vhdx, i);
            name = "c" + std::to_string(i) + ".vhdx";
            folder.create(name, p);
        }
        CHECK(refused(folder, name).text.find("at most 32") != std::string::npos);
    }
}

TEST_CASE("vhdx: damaged files are refused with the place and left alone", "[devices][vhdx]") {
    MemoryFolder folder;
    folder.create("disk.vhdx", plan(VhdKind::Dynamic, 3 * kMiB, 1));
    must(open(folder, "disk.vhdx")->write(0, std::vector<u8>(2 * kMiB, 1)));
    const std::vector<u8> good = folder.content("disk.vhdx");
    const u64 metadata = 2 * kMiB, bat = 3 * kMiB, items = metadata + vhdx::kTableBytes;
    std::vector<u8> bad = good;
    const auto put = [&](u64 offset, auto value) { vhdx::store(bad, static_cast<std::size_t>(offset), value); };
    const auto seal = [&](u64 offset, u64 size) {
        const auto part = std::span(bad).subspan(offset, size);
        vhdx::store(part, 4, vhdx::checksum(part, 4));
    };
    std::string expected;
    SECTION("signature") {
        put(0, u8{'x'});
        expected = "at byte 0: found no file type identifier";
    }
    SECTION("both headers") {
        put(64 * 1024 + 100, u8{1});
        put(128 * 1024 + 100, u8{1});
        expected = "at byte 131072: found a wrong header checksum";
    }
    SECTION("version") {
        for (const u64 at : vhdx::kHeaderOffsets) {
            put(at + 66, u16{2});
            seal(at, 4096);
        }
        expected = "format version 2";
    }
    SECTION("log outside") {
        for (const u64 at : vhdx::kHeaderOffsets) {
            put(at + 72, u64{1} << 40);
            seal(at, 4096);
        }
        expected = "found a log of 1048576 bytes at byte 1099511627776";
    }
    SECTION("a log to replay that is not there") {
        for (const u64 at : vhdx::kHeaderOffsets) {
            put(at + 48, u64{77});
            seal(at, 4096);
        }
        expected = "at byte 1048576: found no valid entry in the log";
    }
    SECTION("region tables") {
        for (const u64 at : vhdx::kRegionOffsets) put(at + 500, u8{1});
        expected = "two damaged region tables";
    }
    SECTION("unknown required region") {
        for (const u64 at : vhdx::kRegionOffsets) {
            put(at + 16, u8{1});
            seal(at, vhdx::kTableBytes);
        }
        expected = "required region {2dc27701-";
    }
    SECTION("regions over each other") {
        for (const u64 at : vhdx::kRegionOffsets) {
            put(at + 32, metadata);
            seal(at, vhdx::kTableBytes);
        }
        expected = "over another structure";
    }
    SECTION("block size") {
        put(items, u32{3} << 20);
        expected = "block size 3145728";
    }
    SECTION("disk size") {
        put(items + 16, u64{65} << 40);
        expected = "a disk of";
    }
    SECTION("a table too small") {
        put(items + 16, u64{64} << 40);
        expected = "found a block table of 1048576 bytes, expected 537001976";
    }
    SECTION("sector size") {
        put(items + 48, u32{1024});
        expected = "sectors of 1024";
    }
    SECTION("metadata item outside") {
        put(metadata + 32 + 16, u32{0x100000});
        expected = "a metadata item of 8 bytes";
    }
    SECTION("block state") {
        put(bat, u64{5});
        expected = "at byte 3145728: found block state 5";
    }
    SECTION("partial block without a parent") {
        put(bat, (u64{4} << 20) | 7);
        expected = "block state 7";
    }
    SECTION("block outside") {
        put(bat + 8, (u64{100} << 20) | 6);
        expected = "at byte 3145736: found 1048576 bytes at byte 104857600";
    }
    SECTION("blocks over each other") {
        put(bat + 8, (u64{4} << 20) | 6);
        expected = "at byte 3145736: found a block at byte 4194304 over another structure";
    }
    SECTION("a block over the table") {
        put(bat + 8, (u64{3} << 20) | 6);
        expected = "over another structure";
    }
    SECTION("truncated") {
        bad.resize(5 * kMiB);
        expected = "the file was truncated";
    }
    folder.add("disk.vhdx", bad);
    const Error error = refused(folder, "disk.vhdx");
    INFO(error.text);
    CHECK(error.code == Error::Code::Damaged);
    CHECK(error.text.find(expected) != std::string::npos);
    CHECK(error.text.find("disk.vhdx: at byte") == 0);
    CHECK(folder.content("disk.vhdx") == bad);
}

TEST_CASE("vhdx: one good header or region table is enough", "[devices][vhdx]") {
    MemoryFolder folder;
    folder.create("disk.vhdx", plan(VhdKind::Dynamic, 3 * kMiB, 1));
    const std::vector<u8> good = folder.content("disk.vhdx");
    for (const u64 at :
         {vhdx::kHeaderOffsets[0], vhdx::kHeaderOffsets[1], vhdx::kRegionOffsets[0], vhdx::kRegionOffsets[1]}) {
        std::vector<u8> bad = good;
        bad[at + 8] ^= 1;
        folder.add("disk.vhdx", bad);
        auto disk = open(folder, "disk.vhdx");
        must(disk->write(0, std::vector<u8>(512, 9)));
        disk.reset();
        std::vector<u8> got(512);
        must(open(folder, "disk.vhdx", false)->read(0, got));
        CHECK(got[0] == 9);
    }
}

TEST_CASE("vhdx: a settled disk is as closed, and can be written again", "[devices][vhdx]") {
    MemoryFolder folder;
    folder.create("disk.vhdx", plan(VhdKind::Dynamic, 3 * kMiB, 1));
    auto disk = open(folder, "disk.vhdx");
    must(disk->write(0, std::vector<u8>(512, 1)));
    must(disk->settle());
    const std::vector<u8> settled = folder.content("disk.vhdx");
    must(disk->settle());
    must(disk->flush());
    disk.reset();
    CHECK(folder.content("disk.vhdx") == settled);
    disk = open(folder, "disk.vhdx");
    must(disk->write(0, std::vector<u8>(512, 2)));
    must(disk->settle());
    must(disk->write(2 * kMiB, std::vector<u8>(512, 3)));
    disk.reset();
    std::vector<u8> got(3 * kMiB);
    must(open(folder, "disk.vhdx", false)->read(0, got));
    CHECK(got[0] == 2);
    CHECK(got[2 * kMiB] == 3);
}
