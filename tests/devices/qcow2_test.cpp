// qcow2 images as qemu-img makes them, and headers that nobody makes.
#include <catch2/catch.hpp>

#include <cstdlib>

#include "devices/storage/qcow2.h"
#include "tests/devices/storage_support.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

bool have_qemu_img() { return std::system("qemu-img --version >/dev/null 2>&1") == 0; }
void shell(const std::string& command) {
    INFO(command);
    REQUIRE(std::system((command + " >/dev/null").c_str()) == 0);
}

void big_endian(std::vector<u8>& bytes, std::size_t at, u64 value, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<u8>(value >> (8 * (size - 1 - i)));
}
/// A disk of 1 MiB in clusters of 64 KiB with nothing in it.
std::vector<u8> empty_image() {
    std::vector<u8> out(3 << 16);
    big_endian(out, 0, 0x514649fb, 4);
    big_endian(out, 4, 3, 4);
    big_endian(out, 20, 16, 4);
    big_endian(out, 24, 1 << 20, 8);
    big_endian(out, 36, 1, 4);
    big_endian(out, 40, 1 << 16, 8);
    big_endian(out, 100, 112, 4);
    return out;
}
Result<std::unique_ptr<BlockDevice>> open(std::vector<u8> bytes, bool writable = false) {
    return open_qcow2(std::make_unique<MemoryFile>("disk.qcow2", std::move(bytes), writable));
}

}  // namespace

TEST_CASE("qcow2: reads what qemu-img writes", "[devices][qcow2][qemu]") {
    if (!have_qemu_img()) return;
    const std::string options =
        GENERATE("compat=1.1", "compat=0.10", "cluster_size=512", "cluster_size=4k", "cluster_size=2M",
                 "lazy_refcounts=on", "preallocation=metadata", "preallocation=full", "refcount_bits=64");
    TempDir dir;
    const std::string image = dir / "disk.qcow2";
    shell("qemu-img create -f qcow2 -o " + options + " " + image + " 20M");
    shell(
        "qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 5M 100k' -c 'write -z 5M 64k' -c 'discard 64k 128k' "
        "-c 'write -P 3 19M 1M' -c 'write -P 4 7777k 1k' " +
        image);
    shell("qemu-img convert -f qcow2 -O raw " + image + " " + (dir / "disk.raw"));
    const FlatModel model{read_file(dir / "disk.raw")};
    const std::vector<u8> before = read_file(image);
    auto disk = must(open_image({.path = image, .mode = WriteMode::ReadOnly}));
    CHECK(disk->describe() == "qcow2 (" + image + ")");
    model.check(*disk);
    Random random(1);
    for (int i = 0; i < 200; ++i) {
        const u64 at = random() % (model.bytes.size() / 512 - 100) * 512;
        std::vector<u8> got(512 * (1 + random() % 99));
        must(disk->read(at, got));
        REQUIRE(std::equal(got.begin(), got.end(), model.bytes.begin() + static_cast<std::ptrdiff_t>(at)));
    }
    CHECK(read_file(image) == before);
}

TEST_CASE("qcow2: reads compressed clusters", "[devices][qcow2][qemu]") {
    if (!have_qemu_img()) return;
    const std::string options = GENERATE("compression_type=zlib", "compression_type=zstd", "cluster_size=4k",
                                         "compression_type=zstd,cluster_size=2M");
    TempDir dir;
    Random random(3);
    FlatModel model{std::vector<u8>(8 << 20)};
    for (std::size_t at = 0; at < model.bytes.size(); at += 1 << 18) {
        const std::vector<u8> piece = random_bytes(random, 1 << 10);
        for (std::size_t i = 0; i < 80; ++i)
            std::copy(piece.begin(), piece.end(), model.bytes.begin() + static_cast<std::ptrdiff_t>(at + (i << 10)));
    }
    write_file(dir / "disk.raw", model.bytes);
    shell("qemu-img convert -c -f raw -O qcow2 -o " + options + " " + (dir / "disk.raw") + " " + (dir / "disk.qcow2"));
    shell("qemu-img check " + (dir / "disk.qcow2") + " | grep -E '[1-9][0-9.]+% compressed'");
    model.check(*must(open_image({.path = dir / "disk.qcow2", .mode = WriteMode::ReadOnly})));
}

TEST_CASE("qcow2: writes go to an overlay", "[devices][qcow2][qemu]") {
    if (!have_qemu_img()) return;
    const std::string overlay = GENERATE("over.avhdx", "over.vhd", "root.overlay");
    TempDir dir;
    shell("qemu-img create -f qcow2 " + (dir / "disk.qcow2") + " 6M");
    shell("qemu-io -f qcow2 -c 'write -P 1 1M 1M' " + (dir / "disk.qcow2"));
    FlatModel model{std::vector<u8>(6 << 20)};
    std::fill_n(model.bytes.begin() + (1 << 20), 1 << 20, u8{1});
    const ImageOptions options{.path = dir / "disk.qcow2", .mode = WriteMode::Overlay, .overlay = dir / overlay};
    Random random(4);
    for (int opening = 0; opening < 3; ++opening) {
        auto disk = must(open_image(options));
        model.check(*disk);
        for (int i = 0; i < 50; ++i) random_request(random, *disk, model);
    }
    shell("qemu-io -f qcow2 -c 'write -P 9 1M 4k' " + (dir / "disk.qcow2"));
    CHECK(open_image(options).error().code == Error::Code::Damaged);
    const auto direct = open_image({.path = dir / "disk.qcow2", .mode = WriteMode::Direct});
    REQUIRE_FALSE(direct.has_value());
    CHECK(direct.error().text.find("only read") != std::string::npos);
}

TEST_CASE("qcow2: what is not supported says so", "[devices][qcow2][qemu]") {
    if (!have_qemu_img()) return;
    TempDir dir;
    shell("qemu-img create -f qcow2 " + (dir / "base.qcow2") + " 6M");
    const auto open_refused = [&](const std::string& text) {
        const auto opened = open_image({.path = dir / "x.qcow2", .mode = WriteMode::ReadOnly});
        REQUIRE_FALSE(opened.has_value());
        INFO(opened.error().text);
        CHECK(opened.error().code == Error::Code::Usage);
        CHECK(opened.error().text.find(text) != std::string::npos);
    };
    const auto refused = [&](const std::string& options, const std::string& text) {
        std::filesystem::remove(dir / "x.qcow2");
        shell("qemu-img create -f qcow2 " + options + " " + (dir / "x.qcow2") + " 6M");
        open_refused(text);
    };
    refused("-F qcow2 -b " + (dir / "base.qcow2"), "backing file");
    refused("-o extended_l2=on", "extended L2");
    refused("-o data_file=" + (dir / "x.data"), "another file");
    refused("--object secret,id=s,data=x -o encrypt.format=aes,encrypt.key-secret=s", "encrypted");
    // The other method: qemu-img measures the host's speed to make one, and gives up on a busy host.
    std::vector<u8> luks = read_file(dir / "x.qcow2");
    big_endian(luks, 32, 2, 4);
    write_file(dir / "x.qcow2", luks);
    open_refused("encrypted");
}

TEST_CASE("qcow2: headers and tables that lie are refused", "[devices][qcow2]") {
    std::vector<u8> bytes = empty_image();
    std::vector<u8> sector(512, 1);
    must(must(open(bytes))->read(0, sector));
    CHECK(sector[0] == 0);
    struct Lie {
        std::size_t at, size;
        u64 value;
        const char* text;
    };
    const Lie header = GENERATE(
        Lie{0, 4, 1, "at byte 0"}, Lie{4, 4, 4, "version 4"}, Lie{20, 4, 8, "at byte 20"}, Lie{20, 4, 64, "at byte 20"},
        Lie{24, 8, 0, "at byte 24"}, Lie{24, 8, ~u64{0}, "at byte 24"}, Lie{24, 8, u64{1} << 40, "at byte 36"},
        Lie{36, 4, 0xffffffff, "at byte 40"}, Lie{40, 8, 0, "at byte 40"}, Lie{40, 8, u64{1} << 62, "at byte 40"},
        Lie{72, 8, 2, "corrupt"}, Lie{72, 8, 1 << 20, "features"});
    big_endian(bytes, header.at, header.value, header.size);
    const auto opened = open(bytes);
    REQUIRE_FALSE(opened.has_value());
    INFO(opened.error().text);
    CHECK(opened.error().text.find(header.text) != std::string::npos);

    bytes = empty_image();
    big_endian(bytes, 1 << 16, GENERATE(u64{3} << 16, u64{0x00ff'ffff'ffff'0000}, u64{0x200}), 8);
    CHECK(must(open(bytes))->read(0, sector).error().code == Error::Code::Damaged);
    bytes = empty_image();
    big_endian(bytes, 1 << 16, 2 << 16, 8);
    big_endian(bytes, 2 << 16, GENERATE(u64{3} << 16, u64{1} << 62, (u64{1} << 62) | 0x10000000, u64{0x800}), 8);
    CHECK(must(open(bytes))->read(0, sector).error().code == Error::Code::Damaged);
    CHECK_FALSE(open(empty_image(), true).has_value());
}
