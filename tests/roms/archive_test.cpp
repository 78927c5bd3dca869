// The parent's store: archives as tar makes them, and archives that lie.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <cstring>

#include "roms/parent/archive.h"
#include "roms/parent/spec/ustar.h"
#include "tests/support/storage_guest.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::parent;
using namespace vg::test;
using Catch::Matchers::Contains;

namespace {

MemoryBackend disk_of(const std::vector<u8>& bytes) {
    MemoryBackend disk(bytes.size() / 512);
    disk.bytes = bytes;
    return disk;
}

std::vector<u8> pattern(std::size_t size, u8 seed) {
    std::vector<u8> out(size);
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<u8>(i * 7 + (i >> 9) + seed);
    return out;
}

/// An archive of a folder, made by tar.
std::vector<u8> tar(const TempDir& dir, const std::string& arguments) {
    INFO(arguments);
    REQUIRE(std::system(("cd " + (dir / "") + " && tar --owner=0 --group=0 -cf out.tar " + arguments).c_str()) == 0);
    return read_file(dir / "out.tar");
}

void seal(std::vector<u8>& bytes, std::size_t at) {
    u32 sum = 0;
    for (u32 i = 0; i < 512; ++i) sum += i >= 148 && i < 156 ? u32{' '} : u32{bytes[at + i]};
    std::snprintf(reinterpret_cast<char*>(&bytes[at + 148]), 8, "%06o", sum);
    bytes[at + 155] = ' ';
}

/// One member by hand: a header and its padded content.
void add_member(std::vector<u8>& bytes, const std::string& name, const std::string& size_field, char type,
                std::size_t content) {
    const std::size_t at = bytes.size();
    bytes.resize(at + 512 + (content + 511) / 512 * 512);
    std::memcpy(&bytes[at], name.data(), name.size());
    std::memcpy(&bytes[at + 124], size_field.data(), size_field.size());
    bytes[at + 156] = static_cast<u8>(type);
    std::memcpy(&bytes[at + 257], "ustar\00000", 8);
    seal(bytes, at);
}

std::string error_of(const std::vector<u8>& bytes) {
    MemoryBackend disk = disk_of(bytes);
    const auto archive = Archive::open(disk);
    REQUIRE(!archive);
    CHECK(archive.error().code == Error::Code::Damaged);
    CHECK(!disk.left);
    return archive.error().text;
}

}  // namespace

TEST_CASE("archive: what tar packs is found, byte for byte", "[roms][archive]") {
    TempDir dir;
    const std::vector<u8> table = pattern(77, 1), kernel = pattern(100'000, 2), image = pattern(1 << 20, 3);
    write_file(dir / "children.conf", table);
    write_file(dir / "empty", {});
    const std::string folder = std::string(60, 'a') + '/' + std::string(60, 'b');  // needs the header's prefix field
    REQUIRE(std::system(("mkdir -p " + (dir / folder)).c_str()) == 0);
    write_file(dir / (folder + "/vmlinuz"), kernel);
    write_file(dir / "disk.vhd", image);
    MemoryBackend disk = disk_of(tar(dir, "--format=ustar ./children.conf " + folder + " empty disk.vhd"));

    const auto archive = Archive::open(disk);
    REQUIRE(archive);
    REQUIRE(archive->members().size() == 4);
    CHECK(archive->members()[0].name == "children.conf");
    CHECK(archive->members()[0].size_bytes == 77);
    CHECK(archive->find("empty")->size_bytes == 0);
    CHECK(archive->find("nothing") == nullptr);
    CHECK_THAT(archive->open("nothing").error().text, Contains("no member \"nothing\""));
    for (const auto& [name, content] : {std::pair{std::string("children.conf"), &table},
                                        {folder + "/vmlinuz", &kernel},
                                        {std::string("disk.vhd"), &image}}) {
        const Archive::Member* member = archive->find(name);
        REQUIRE(member != nullptr);
        CHECK(member->offset % 512 == 0);
        std::vector<u8> out(member->size_bytes);
        CHECK(archive->read(*member, out));
        CHECK(out == *content);
    }

    auto window = archive->open("disk.vhd");
    REQUIRE(window);
    CHECK(window->size_bytes() == image.size());
    CHECK(window->physical_sector_bytes() == disk.physical_sector_bytes());
    std::vector<u8> sector(512);
    CHECK(window->read(4096, sector));
    CHECK(std::equal(sector.begin(), sector.end(), image.begin() + 4096));
    CHECK(window->write(image.size() - 512, sector));
    CHECK(window->flush());
    CHECK(!window->write(image.size(), sector));
    CHECK(!window->read(image.size() - 256, sector));
    CHECK(!window->read(~u64{0} - 511, sector));
    CHECK(!window->discard(image.size() - 512, 1024));
    CHECK(window->discard(512, 1024));
    CHECK(disk.discards == std::vector{std::pair{archive->find("disk.vhd")->offset + 512, u64{1024}}});
    CHECK(!disk.left);

    // tar reads back what was written through the window.
    write_file(dir / "out.tar", disk.bytes);
    REQUIRE(std::system(("cd " + (dir / "") + " && tar -xf out.tar disk.vhd").c_str()) == 0);
    std::vector<u8> expected = image;
    std::copy(sector.begin(), sector.end(), expected.end() - 512);
    CHECK(read_file(dir / "disk.vhd") == expected);

    disk.failing = true;
    std::vector<u8> out(77);
    CHECK(!archive->read(*archive->find("children.conf"), out));
    CHECK_THAT(Archive::open(disk).error().text, Contains("cannot be read"));
}

TEST_CASE("archive: other formats of tar and other kinds of members are refused with a reason", "[roms][archive]") {
    TempDir dir;
    write_file(dir / "file", pattern(10, 0));
    CHECK_THAT(error_of(tar(dir, "--format=gnu file")), Contains("--format=ustar"));
    CHECK_THAT(error_of(tar(dir, "--format=v7 file")), Contains("--format=ustar"));
    CHECK_THAT(error_of(tar(dir, "--format=posix --pax-option=comment=x file")), Contains("not a regular file"));
    REQUIRE(std::system(("cd " + (dir / "") + " && ln -s file link").c_str()) == 0);
    CHECK_THAT(error_of(tar(dir, "--format=ustar file link")), Contains("member \"link\" is not a regular file"));
    CHECK_THAT(error_of(tar(dir, "--format=ustar file file --hard-dereference")), Contains("there twice"));
    // The end of a disk that was copied only in part, and its beginning.
    std::vector<u8> whole = tar(dir, "--format=ustar file");
    CHECK_THAT(error_of({whole.begin(), whole.begin() + 1024}), Contains("cut short"));
    CHECK_THAT(error_of({whole.begin(), whole.begin() + 512}), Contains("behind the disk's end"));
    CHECK_THAT(error_of({}), Contains("cut short"));
    CHECK_THAT(error_of(pattern(4096, 9)), Contains("byte 0: not a ustar header"));
}

TEST_CASE("archive: numbers of a header are checked before they are used", "[roms][archive]") {
    const auto with_size = [](const std::string& field) {
        std::vector<u8> bytes;
        add_member(bytes, "m", field, '0', 512);
        bytes.resize(bytes.size() + 1024);
        return bytes;
    };
    MemoryBackend good = disk_of(with_size("00000000777 "));
    REQUIRE(Archive::open(good));
    CHECK(Archive::open(good)->find("m")->size_bytes == 511);
    CHECK_THAT(error_of(with_size("77777777777 ")), Contains("behind the disk's end"));
    CHECK_THAT(error_of(with_size("00000003001 ")), Contains("behind the disk's end"));  // 1537, of 1536
    CHECK_THAT(error_of(with_size("00000000008 ")), Contains("not an octal number"));
    CHECK_THAT(error_of(with_size("            ")), Contains("not an octal number"));
    CHECK_THAT(error_of(with_size(std::string("\x80\0\0\0\0\0\0\0\0\0\2\0", 12))), Contains("not an octal number"));

    std::vector<u8> bytes = with_size("00000000777 ");
    bytes[0] ^= 1;
    CHECK_THAT(error_of(bytes), Contains("byte 0: the checksum is wrong"));
    seal(bytes, 0);
    bytes[0] = 0;
    seal(bytes, 0);
    CHECK_THAT(error_of(bytes), Contains("no name"));

    std::vector<u8> many;
    for (u32 i = 0; i <= Archive::kMaxMembers; ++i) add_member(many, "m" + std::to_string(i), "00000000000 ", '0', 0);
    many.resize(many.size() + 1024);
    CHECK_THAT(error_of(many), Contains("more than 256 members"));
    many.erase(many.begin(), many.begin() + 512);
    MemoryBackend disk = disk_of(many);
    CHECK(Archive::open(disk));
}
