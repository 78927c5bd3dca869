// Fixed VHDs in the parent's store, as other programs make them.
#include <catch2/catch.hpp>

#include <cstdlib>

#include "devices/storage/create.h"
#include "devices/storage/vhd_format.h"
#include "roms/parent/fixed_vhd.h"
#include "tests/support/storage_guest.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::parent;
using namespace vg::test;
using Catch::Matchers::Contains;
namespace vhd = vg::devices::vhd;

namespace {

MemoryBackend backend_of(const std::vector<u8>& bytes) {
    MemoryBackend backend(bytes.size() / 512);
    backend.bytes = bytes;
    return backend;
}

std::vector<u8> image(vhd::Footer footer, u64 disk_bytes) {
    std::vector<u8> bytes(disk_bytes);
    const auto tail = vhd::encode(footer);
    bytes.insert(bytes.end(), tail.begin(), tail.end());
    return bytes;
}

std::string error_of(const std::vector<u8>& bytes) {
    MemoryBackend backend = backend_of(bytes);
    const auto disk = FixedVhd::open(backend);
    REQUIRE(!disk);
    CHECK(!backend.left);
    return disk.error().text;
}

}  // namespace

TEST_CASE("fixed VHD: serves what our own images hold and leaves the footer alone", "[roms][vhd]") {
    TempDir dir;
    REQUIRE(devices::create_vhd({.path = dir / "disk.vhd", .kind = devices::VhdKind::Fixed, .size_bytes = 1 << 20}));
    MemoryBackend file = backend_of(read_file(dir / "disk.vhd"));
    const std::vector<u8> before = file.bytes;
    auto disk = FixedVhd::open(file);
    REQUIRE(disk);
    CHECK(disk->size_bytes() == 1 << 20);
    CHECK(!disk->read_only());
    const std::vector<u8> data(4096, 0x5a);
    CHECK(disk->write((1 << 20) - 4096, data));
    CHECK(!disk->write((1 << 20) - 2048, data));
    std::vector<u8> back(4096);
    CHECK(disk->read((1 << 20) - 4096, back));
    CHECK(back == data);
    CHECK(!disk->read(1 << 20, back));
    CHECK(!disk->discard((1 << 20) - 512, 1024));
    CHECK(disk->discard(0, 1024));
    CHECK(disk->flush());
    CHECK(!file.left);
    CHECK(std::equal(file.bytes.end() - 512, file.bytes.end(), before.end() - 512));
    file.failing = true;
    CHECK(!disk->flush());
    CHECK(!disk->read(0, back));
    CHECK_THAT(FixedVhd::open(file).error().text, Contains("cannot be read"));
}

TEST_CASE("fixed VHD: reads what qemu-img makes", "[roms][vhd][qemu]") {
    if (std::system("qemu-img --version >/dev/null 2>&1") != 0) return;
    TempDir dir;
    std::vector<u8> content(3 << 20);
    for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<u8>(i >> 8 ^ i);
    write_file(dir / "raw", content);
    const std::string convert = "qemu-img convert -f raw -O vpc -o ";
    REQUIRE(std::system(
                (convert + "subformat=fixed,force_size=on " + (dir / "raw") + " " + (dir / "fixed.vhd")).c_str()) == 0);
    REQUIRE(std::system((convert + "subformat=dynamic " + (dir / "raw") + " " + (dir / "dynamic.vhd")).c_str()) == 0);
    MemoryBackend file = backend_of(read_file(dir / "fixed.vhd"));
    auto disk = FixedVhd::open(file);
    REQUIRE(disk);
    std::vector<u8> back(disk->size_bytes());
    REQUIRE(disk->read(0, back));
    CHECK(back == content);
    CHECK_THAT(error_of(read_file(dir / "dynamic.vhd")), Contains("it is dynamic"));
    CHECK_THAT(error_of(content), Contains("no footer"));
}

TEST_CASE("fixed VHD: a footer is believed only as far as the file goes", "[roms][vhd]") {
    vhd::Footer footer;
    footer.current_size = 8192;
    CHECK(FixedVhd::open(*std::make_unique<MemoryBackend>(backend_of(image(footer, 8192)))));
    CHECK_THAT(error_of(image(footer, 8192 - 512)), Contains("room for 7680"));
    footer.current_size = 0;
    CHECK_THAT(error_of(image(footer, 8192)), Contains("a disk of 0 bytes"));
    footer.current_size = 8191;
    CHECK_THAT(error_of(image(footer, 8192)), Contains("a disk of 8191 bytes"));
    footer.current_size = ~u64{511};
    CHECK_THAT(error_of(image(footer, 8192)), Contains("room for 8192"));
    footer.current_size = 8192;
    footer.disk_type = vhd::DiskType::Differencing;
    CHECK_THAT(error_of(image(footer, 8192)), Contains("it is differencing"));
    footer.disk_type = static_cast<vhd::DiskType>(77);
    CHECK_THAT(error_of(image(footer, 8192)), Contains("disk type 77"));
    footer.disk_type = vhd::DiskType::Fixed;
    footer.version = 2;
    CHECK_THAT(error_of(image(footer, 8192)), Contains("format version 2"));
    footer.version = vhd::kVersion;
    std::vector<u8> damaged = image(footer, 8192);
    damaged[8192 + 90] ^= 4;
    CHECK_THAT(error_of(damaged), Contains("checksum"));
    CHECK_THAT(error_of({}), Contains("a file of 0 bytes"));
}
