// VHD images exchanged with qemu-img, where it is installed.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>

#include "tests/devices/storage_support.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

bool have_qemu_img() { return std::system("qemu-img --version >/dev/null 2>&1") == 0; }
void qemu_img(const std::string& arguments) {
    INFO("qemu-img " << arguments);
    REQUIRE(std::system(("qemu-img " + arguments + " >/dev/null").c_str()) == 0);
}
/// Mostly empty, with some random pieces.
std::vector<u8> disk_content(Random& random, std::size_t size) {
    std::vector<u8> out(size);
    for (int i = 0; i < 12; ++i) {
        const std::vector<u8> piece = random_bytes(random, 512 * (1 + random() % 300));
        const std::size_t at = random() % ((size - piece.size()) / 512) * 512;
        std::copy(piece.begin(), piece.end(), out.begin() + static_cast<std::ptrdiff_t>(at));
    }
    return out;
}

}  // namespace

TEST_CASE("vhd: reads and writes what qemu-img makes", "[devices][vhd][qemu]") {
    if (!have_qemu_img()) return;
    const std::string options = GENERATE("subformat=dynamic", "subformat=fixed", "subformat=dynamic,force_size=on",
                                         "subformat=fixed,force_size=on");
    TempDir dir;
    Random random(21);
    FlatModel model{disk_content(random, 24 << 20)};
    write_file(dir / "in.raw", model.bytes);
    qemu_img("convert -f raw -O vpc -o " + options + " " + (dir / "in.raw") + " " + (dir / "disk.vhd"));
    {
        auto disk = must(open_image({.path = dir / "disk.vhd", .mode = WriteMode::Direct}));
        REQUIRE(disk->size_bytes() >= model.bytes.size());  // the geometry may round up
        model.bytes.resize(disk->size_bytes());
        model.check(*disk);
        for (int i = 0; i < 200; ++i) random_request(random, *disk, model);
    }
    qemu_img("convert -f vpc -O raw " + (dir / "disk.vhd") + " " + (dir / "out.raw"));
    CHECK(read_file(dir / "out.raw") == model.bytes);
}

TEST_CASE("vhd: qemu-img reads what we make", "[devices][vhd][qemu]") {
    if (!have_qemu_img()) return;
    const VhdKind kind = GENERATE(VhdKind::Fixed, VhdKind::Dynamic);
    const u64 size = GENERATE(u64{512 * 4001}, u64{24} << 20);
    TempDir dir;
    Random random(size);
    must(create_vhd({.path = dir / "disk.vhd", .kind = kind, .size_bytes = size}));
    FlatModel model{std::vector<u8>(size)};
    {
        auto disk = must(open_image({.path = dir / "disk.vhd", .mode = WriteMode::Direct}));
        for (int i = 0; i < 200; ++i) random_request(random, *disk, model);
    }
    qemu_img("convert -f vpc -O raw " + (dir / "disk.vhd") + " " + (dir / "out.raw"));
    CHECK(read_file(dir / "out.raw") == model.bytes);
    // And after it wrote to the image itself.
    const std::string write = "qemu-io -f vpc -c 'write -P 0xa5 512 1024' " + (dir / "disk.vhd") + " >/dev/null";
    REQUIRE(std::system(write.c_str()) == 0);
    std::fill_n(model.bytes.begin() + 512, 1024, u8{0xa5});
    model.check(*must(open_image({.path = dir / "disk.vhd", .mode = WriteMode::ReadOnly})));
}

TEST_CASE("vhd: a differencing disk over an image of qemu-img recomposes to the same disk", "[devices][vhd][qemu]") {
    if (!have_qemu_img()) return;
    TempDir dir;
    Random random(23);
    FlatModel model{disk_content(random, 16 << 20)};
    write_file(dir / "in.raw", model.bytes);
    qemu_img("convert -f raw -O vpc -o force_size=on " + (dir / "in.raw") + " " + (dir / "base.vhd"));
    const ImageOptions options{.path = dir / "base.vhd", .mode = WriteMode::Overlay, .overlay = dir / "over.vhd"};
    {
        auto disk = must(open_image(options));
        model.bytes.resize(disk->size_bytes());
        for (int i = 0; i < 200; ++i) random_request(random, *disk, model);
    }
    // Recomposed by hand, from the parent as qemu-img reads it and the child's own blocks.
    qemu_img("convert -f vpc -O raw " + (dir / "base.vhd") + " " + (dir / "out.raw"));
    std::vector<u8> composed = read_file(dir / "out.raw");
    REQUIRE(composed.size() == model.bytes.size());
    const std::vector<u8> child = read_file(dir / "over.vhd");
    const vhd::Header header = vhd::decode<vhd::Header>(std::span<const u8>(child).subspan(512));
    for (u64 block = 0; block < header.max_table_entries; ++block) {
        u32 entry = 0;
        vhd::Codec<true>(child).number(header.table_offset + block * 4, entry);
        if (entry == vhd::kUnallocated) continue;
        const std::span<const u8> bitmap = std::span<const u8>(child).subspan(u64{entry} * 512, 512);
        for (u64 sector = 0; sector < header.block_size / 512; ++sector) {
            const u64 to = block * header.block_size + sector * 512;
            if (to >= composed.size() || !vhd::test_sector(bitmap, sector)) continue;
            std::copy_n(child.begin() + static_cast<std::ptrdiff_t>(u64{entry} * 512 + 512 + sector * 512), 512,
                        composed.begin() + static_cast<std::ptrdiff_t>(to));
        }
    }
    CHECK(composed == model.bytes);
}
