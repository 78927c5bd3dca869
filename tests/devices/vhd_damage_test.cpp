// Damaged VHD files: every flip and every cut is refused with a place and a remedy, or does no harm.
#include <catch2/catch.hpp>

#include "devices/storage/vhd_layout.h"
#include "tests/devices/storage_support.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

constexpr u64 kSize = 64 * 1024;
constexpr u32 kBlock = 4096;

/// A dynamic image with blocks 1, 2, 5 and 9 in use.
std::vector<u8> sample(FlatModel& model) {
    MemoryFolder folder;
    vhd::Plan plan;
    plan.size_bytes = kSize;
    plan.block_bytes = kBlock;
    plan.id = test_id(1);
    folder.create("disk.vhd", plan);
    model.bytes.assign(kSize, 0);
    auto disk = std::move(must(vhd::open_chain(folder.open("disk.vhd"), ImageFormat::Vhd, folder)).device);
    Random random(1);
    for (const u64 block : {u64{1}, u64{5}, u64{2}, u64{9}}) {
        const std::vector<u8> data = random_bytes(random, kBlock);
        must(disk->write(block * kBlock, data));
        std::copy(data.begin(), data.end(), model.bytes.begin() + static_cast<std::ptrdiff_t>(block * kBlock));
    }
    disk.reset();
    return folder.content("disk.vhd");
}

/// Opens and reads all of it. Null if it was refused, with a proper error.
std::unique_ptr<BlockDevice> try_open(std::vector<u8> bytes, Error* error = nullptr) {
    MemoryFolder folder;
    folder.add("disk.vhd", std::move(bytes));
    auto result = vhd::open_chain(folder.open("disk.vhd", false), ImageFormat::Vhd, folder);
    if (result) return std::move(result->device);
    CHECK(result.error().code == Error::Code::Damaged);
    CHECK(result.error().text.find("disk.vhd: at byte ") == 0);
    CHECK(result.error().text.find(", expected ") != std::string::npos);
    if (error != nullptr) *error = result.error();
    return nullptr;
}

template <class T>
void patch(std::vector<u8>& bytes, u64 offset, const T& structure) {
    const auto encoded = vhd::encode(structure);
    std::copy(encoded.begin(), encoded.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
}

}  // namespace

TEST_CASE("vhd: each bit flipped in footer, copy, header or table is found or harmless", "[devices][vhd]") {
    FlatModel model;
    const std::vector<u8> good = sample(model);
    REQUIRE(try_open(good) != nullptr);
    const u64 table = 1536, entries = kSize / kBlock;
    for (u64 byte = 0; byte < good.size(); byte += byte == table + entries * 4 - 1 ? good.size() - 512 - byte : 1) {
        for (unsigned bit = 0; bit < 8; ++bit) {
            std::vector<u8> bytes = good;
            bytes[byte] = static_cast<u8>(bytes[byte] ^ (1u << bit));
            INFO("byte " << byte << " bit " << bit);
            auto disk = try_open(bytes);
            const bool checksummed = byte < table || byte >= good.size() - 512;
            CHECK((disk == nullptr || !checksummed));
            if (disk != nullptr) {  // a table entry that still names free space
                std::vector<u8> got(kSize);
                must(disk->read(0, got));
            }
        }
    }
}

TEST_CASE("vhd: a file cut anywhere is refused or loses nothing", "[devices][vhd]") {
    FlatModel model;
    const std::vector<u8> good = sample(model);
    for (std::size_t size = 0; size < good.size(); size += size < 2048 ? 1 : 97) {
        INFO("size " << size);
        auto disk = try_open({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)});
        if (disk != nullptr) model.check(*disk);
        CHECK((disk == nullptr || size > good.size() - 1024));
    }
}

TEST_CASE("vhd: a footer lost in whole is taken from its copy", "[devices][vhd]") {
    FlatModel model;
    std::vector<u8> bytes = sample(model);
    bytes.resize(bytes.size() - 512);
    auto disk = try_open(bytes);
    REQUIRE(disk != nullptr);
    model.check(*disk);
}

TEST_CASE("vhd: fields out of range are refused by name", "[devices][vhd]") {
    FlatModel model;
    std::vector<u8> bytes = sample(model);
    const u64 end = bytes.size() - 512;
    vhd::Footer footer = vhd::decode<vhd::Footer>(std::span<const u8>(bytes).subspan(end));
    vhd::Header header = vhd::decode<vhd::Header>(std::span<const u8>(bytes).subspan(512));
    std::string expected;
    const int row = GENERATE(range(0, 15));
    switch (row) {
        case 0:
            footer.version = 0x20000;
            expected = "at byte";
            break;
        case 1:
            footer.disk_type = vhd::DiskType{5};
            expected = "disk type 5";
            break;
        case 2:
            footer.current_size = 0;
            expected = "current size 0";
            break;
        case 3:
            footer.current_size = vhd::kMaxDiskBytes + 512;
            expected = "current size";
            break;
        case 4:
            footer.current_size = 1000;
            expected = "current size 1000";
            break;
        case 5:
            footer.saved_state = 2;
            expected = "saved state 2";
            break;
        case 6:
            footer.data_offset = 1;
            expected = "dynamic disk header at byte 1";
            break;
        case 7:
            footer.data_offset = ~u64{511};
            expected = "dynamic disk header";
            break;
        case 8:
            header.version = 0;
            expected = "header version";
            break;
        case 9:
            header.block_size = 0;
            expected = "block size 0";
            break;
        case 10:
            header.block_size = 3 << 12;
            expected = "block size 12288";
            break;
        case 11:
            header.block_size = 1u << 31;
            expected = "block size";
            break;
        case 12:
            header.max_table_entries = 15;
            expected = "15 table entries";
            break;
        case 13:
            header.max_table_entries = 0xffffffff;
            expected = "a block table of 4294967295 entries";
            break;
        case 14:
            header.table_offset = 0;
            expected = "found block 0";
            break;
    }
    patch(bytes, 0, footer);
    patch(bytes, end, footer);
    if (footer.data_offset == 512) patch(bytes, 512, header);
    Error error;
    REQUIRE(try_open(bytes, &error) == nullptr);
    INFO(error.text);
    CHECK(error.text.find(expected) != std::string::npos);
}

TEST_CASE("vhd: table entries must name distinct places inside the file", "[devices][vhd]") {
    FlatModel model;
    const std::vector<u8> good = sample(model);
    const auto with_entry = [&](u64 block, u32 value) {
        std::vector<u8> bytes = good;
        vhd::Codec<false> codec(bytes);
        codec.number(1536 + block * 4, value);
        return bytes;
    };
    u32 used = 0;
    vhd::Codec<true>(good).number(1536 + 4, used);
    Error error;
    CHECK(try_open(with_entry(0, used), &error) == nullptr);
    CHECK(error.text.find("over block") != std::string::npos);
    CHECK(try_open(with_entry(0, used + 1), &error) == nullptr);
    CHECK(try_open(with_entry(0, 0), &error) == nullptr);
    CHECK(error.text.find("the footer copy") != std::string::npos);
    CHECK(try_open(with_entry(0, 1), &error) == nullptr);
    CHECK(try_open(with_entry(0, static_cast<u32>(good.size() / 512 - 1)), &error) == nullptr);
    CHECK(error.text.find("disk.vhd: at byte 1536: found block 0 ") == 0);
    CHECK(try_open(with_entry(0, 0xfffffffe), &error) == nullptr);
}

TEST_CASE("vhd: a guest that writes a VHD header into a fixed disk does not change its kind", "[devices][vhd]") {
    FlatModel model;
    const std::vector<u8> inner = sample(model);
    MemoryFolder folder;
    vhd::Plan plan;
    plan.kind = VhdKind::Fixed;
    plan.size_bytes = inner.size();
    plan.id = test_id(3);
    folder.create("disk.vhd", plan);
    {
        auto disk = std::move(must(vhd::open_chain(folder.open("disk.vhd"), ImageFormat::Vhd, folder)).device);
        must(disk->write(0, inner));
    }
    auto disk = std::move(must(vhd::open_chain(folder.open("disk.vhd"), ImageFormat::Vhd, folder)).device);
    FlatModel{inner}.check(*disk);
}

TEST_CASE("vhd: random garbage never crashes", "[devices][vhd]") {
    FlatModel model;
    const std::vector<u8> good = sample(model);
    Random random(9);
    for (int round = 0; round < 2000; ++round) {
        std::vector<u8> bytes = good;
        for (u64 flips = 1 + random() % 6; flips > 0; --flips) bytes[random() % 2048] = static_cast<u8>(random());
        // Valid checksums take the damage past the first check.
        vhd::Header header = vhd::decode<vhd::Header>(std::span<const u8>(bytes).subspan(512));
        patch(bytes, 512, header);
        vhd::Footer footer = vhd::decode<vhd::Footer>(bytes);
        patch(bytes, 0, footer);
        patch(bytes, bytes.size() - 512, footer);
        MemoryFolder folder;
        folder.add("disk.vhd", bytes);
        auto result = vhd::open_chain(folder.open("disk.vhd"), ImageFormat::Vhd, folder);
        if (!result) continue;
        std::vector<u8> sector(512);
        const u64 last = result->device->size_bytes() - 512;
        (void)result->device->read(last, sector);
        (void)result->device->read(random() % (last / 512 + 1) * 512, sector);
        (void)result->device->flush();
    }
}
