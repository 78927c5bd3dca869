// VHDX images exchanged with programs that were not written here: qemu-img, qemu-io and libvhdi, where installed.
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>

#include "tests/devices/storage_support.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

bool succeeds(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }
bool have_qemu_img() { return succeeds("qemu-img --version"); }
void shell(const std::string& command) {
    INFO(command);
    REQUIRE(std::system((command + " >/dev/null").c_str()) == 0);
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
std::vector<u8> as_raw(const TempDir& dir, const std::string& path) {
    std::filesystem::remove(dir / "out.raw");
    shell("qemu-img convert -f vhdx -O raw " + path + " " + (dir / "out.raw"));
    return read_file(dir / "out.raw");
}

}  // namespace

TEST_CASE("vhdx: reads and writes what qemu-img makes", "[devices][vhdx][qemu]") {
    if (!have_qemu_img()) return;
    const std::string options =
        GENERATE("subformat=dynamic", "subformat=fixed", "subformat=dynamic,block_size=1M",
                 "subformat=dynamic,block_size=8M,log_size=4M", "subformat=fixed,block_size=16M");
    TempDir dir;
    Random random(21);
    FlatModel model{disk_content(random, (24 << 20) + 512 * 1024)};
    write_file(dir / "in.raw", model.bytes);
    shell("qemu-img convert -f raw -O vhdx -o " + options + " " + (dir / "in.raw") + " " + (dir / "disk.vhdx"));
    for (int opening = 0; opening < 2; ++opening) {
        auto disk = must(open_image({.path = dir / "disk.vhdx", .mode = WriteMode::Direct}));
        model.check(*disk);
        for (int i = 0; i < 200; ++i) random_request(random, *disk, model);
    }
    shell("qemu-img check " + (dir / "disk.vhdx"));
    CHECK(as_raw(dir, dir / "disk.vhdx") == model.bytes);
}

TEST_CASE("vhdx: qemu-img reads, checks and writes what we make", "[devices][vhdx][qemu]") {
    if (!have_qemu_img()) return;
    const VhdKind kind = GENERATE(VhdKind::Fixed, VhdKind::Dynamic);
    const u64 size = GENERATE(u64{512 * 4001}, u64{24} << 20);
    const u32 block = GENERATE(0u, 1u << 20);
    TempDir dir;
    Random random(size);
    must(create_vhdx({.path = dir / "disk.vhdx", .kind = kind, .size_bytes = size, .block_bytes = block}));
    shell("qemu-img check " + (dir / "disk.vhdx"));
    FlatModel model{std::vector<u8>(size)};
    {
        auto disk = must(open_image({.path = dir / "disk.vhdx", .mode = WriteMode::Direct}));
        for (int i = 0; i < 200; ++i) random_request(random, *disk, model);
    }
    shell("qemu-img check " + (dir / "disk.vhdx"));
    CHECK(as_raw(dir, dir / "disk.vhdx") == model.bytes);
    shell("qemu-io -f vhdx -c 'write -P 0xa5 512 1024' " + (dir / "disk.vhdx"));
    std::fill_n(model.bytes.begin() + 512, 1024, u8{0xa5});
    model.check(*must(open_image({.path = dir / "disk.vhdx", .mode = WriteMode::ReadOnly})));
}

TEST_CASE("vhdx: replays a log that qemu-io wrote", "[devices][vhdx][qemu]") {
    if (!have_qemu_img()) return;
    TempDir dir;
    const std::string image = dir / "disk.vhdx";
    shell("qemu-img create -f vhdx -o block_size=1M " + image + " 16M");
    shell("qemu-io -f vhdx -c 'write -P 0x11 0 2M' -c 'write -P 0x22 5M 4k' -c flush " + image);
    // As if it had been killed before the table was written in place: the entry is still in the log, the header is made
    // to name it, and the table loses what the entry is to restore.
    std::vector<u8> bytes = read_file(image);
    vhdx::LogEntryHeader newest;
    auto header = vhdx::load<vhdx::Header>(bytes, 65536);
    for (u64 at = header.log_offset; at < header.log_offset + header.log_length; at += 4096) {
        const auto entry = vhdx::load<vhdx::LogEntryHeader>(bytes, at);
        if (entry.signature == vhdx::kLogSignature && entry.sequence_number > newest.sequence_number) newest = entry;
    }
    REQUIRE(newest.descriptor_count != 0);
    for (const u64 at : vhdx::kHeaderOffsets) {
        header = vhdx::load<vhdx::Header>(bytes, at);
        header.log_guid = newest.log_guid;
        vhdx::store(bytes, at, header);
        header.checksum = vhdx::checksum(std::span(bytes).subspan(at, 4096), 4);
        vhdx::store(bytes, at, header);
    }
    const auto table = vhdx::load<vhdx::RegionTable>(bytes, vhdx::kRegionOffsets[0]);
    for (u32 i = 0; i < table.entry_count; ++i) {
        const auto region = vhdx::load<vhdx::RegionEntry>(bytes, vhdx::kRegionOffsets[0] + 16 + 32 * i);
        if (region.guid == vhdx::kBatRegion)
            std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(region.file_offset), 4096, u8{0});
    }
    write_file(image, bytes);
    const auto look = [&](WriteMode mode) {
        auto disk = must(open_image({.path = image, .mode = mode}));
        std::vector<u8> got(16 << 20);
        must(disk->read(0, got));
        CHECK(std::count(got.begin(), got.end(), 0x11) == 2 << 20);
        CHECK(std::count(got.begin(), got.end(), 0x22) == 4096);
        CHECK(got[5 << 20] == 0x22);
    };
    look(WriteMode::ReadOnly);
    CHECK(read_file(image) == bytes);
    look(WriteMode::Direct);
    shell("qemu-img check " + image);
}

TEST_CASE("vhdx: qemu-img replays the log of a writer of ours that was killed", "[devices][vhdx][qemu][slow]") {
    if (!have_qemu_img()) return;
    TempDir dir;
    const u64 size = u64{64} << 20;
    must(
        create_vhdx({.path = dir / "disk.vhdx", .kind = VhdKind::Dynamic, .size_bytes = size, .block_bytes = 1 << 20}));
    std::vector<u8> expected(size);
    for (unsigned round = 1; round <= 50; ++round) {
        int pipe[2];
        REQUIRE(::pipe(pipe) == 0);
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            auto disk = open_image({.path = dir / "disk.vhdx", .mode = WriteMode::Direct});
            Random random(round);
            for (u32 i = 0; disk && i < 100000; ++i) {
                const u64 at = random() % (size / 4096) * 4096;
                const std::vector<u8> data(4096, static_cast<u8>(1 + random() % 255));
                if (!(*disk)->write(at, data) || !(*disk)->flush()) break;
                const u64 told[2] = {at, data[0]};
                if (::write(pipe[1], told, sizeof told) != sizeof told) break;
            }
            ::_exit(1);
        }
        ::close(pipe[1]);
        u64 told[2];
        for (unsigned i = 0; i < 3 + round % 7 && ::read(pipe[0], told, sizeof told) == sizeof told; ++i)
            std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(told[0]), 4096, static_cast<u8>(told[1]));
        ::kill(child, SIGKILL);
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(WIFSIGNALED(status));
        while (::read(pipe[0], told, sizeof told) == sizeof told)
            std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(told[0]), 4096, static_cast<u8>(told[1]));
        ::close(pipe[0]);

        if (round % 2 == 0) shell("qemu-img check -r all " + (dir / "disk.vhdx"));
        auto disk = must(open_image({.path = dir / "disk.vhdx", .mode = WriteMode::ReadOnly}));
        std::vector<u8> got(size);
        must(disk->read(0, got));
        for (u64 at = 0; at < size; at += 4096) {
            // The last write may be there without having been told.
            const bool same = std::equal(got.begin() + static_cast<std::ptrdiff_t>(at),
                                         got.begin() + static_cast<std::ptrdiff_t>(at + 4096),
                                         expected.begin() + static_cast<std::ptrdiff_t>(at));
            if (!same) {
                Random random(round);
                bool known = false;
                for (u32 i = 0; i < 100000 && !known; ++i) {
                    known = random() % (size / 4096) * 4096 == at;
                    (void)random();
                }
                REQUIRE(known);
                expected[at] = got[at];
            }
        }
        expected = got;
        disk.reset();
        if (round % 2 == 1) must(open_image({.path = dir / "disk.vhdx", .mode = WriteMode::Direct}));
        CHECK(as_raw(dir, dir / "disk.vhdx") == got);
    }
}

TEST_CASE("vhdx: libvhdi sees the same disk in a chain of ours", "[devices][vhdx][qemu][slow]") {
    if (!succeeds("python3 -c 'import pyvhdi'")) return;
    TempDir dir;
    Random random(9);
    const u64 size = (u64{9} << 20) + 512 * 77;
    must(create_vhdx({.path = dir / "base.vhdx", .kind = VhdKind::Dynamic, .size_bytes = size}));
    FlatModel model{std::vector<u8>(size)};
    const auto change = [&](const std::string& name) {
        auto disk = must(open_image({.path = dir / name, .mode = WriteMode::Direct}));
        for (int i = 0; i < 150; ++i) random_request(random, *disk, model);
        model.check(*disk);
    };
    change("base.vhdx");
    must(create_vhdx({.path = dir / "top.vhdx", .kind = VhdKind::Differencing, .parent = dir / "base.vhdx"}));
    change("top.vhdx");
    // The parent's own disk as libvhdi reads it, then the child's view through it.
    const std::string script =
        "import pyvhdi, sys\n"
        "b = pyvhdi.file(); b.open(sys.argv[1])\n"
        "t = pyvhdi.file(); t.open(sys.argv[2]); t.set_parent(b)\n"
        "open(sys.argv[3], 'wb').write(t.read_buffer_at_offset(t.get_media_size(), 0))\n";
    write_file(dir / "read.py", {script.begin(), script.end()});
    shell(fmt::format("python3 {} {} {} {}", dir / "read.py", dir / "base.vhdx", dir / "top.vhdx", dir / "top.raw"));
    const std::vector<u8> seen = read_file(dir / "top.raw");
    REQUIRE(seen.size() == model.bytes.size());
    for (std::size_t at = 0; at < seen.size(); at += 512) {
        INFO("sector " << at / 512);
        REQUIRE(std::equal(seen.begin() + static_cast<std::ptrdiff_t>(at),
                           seen.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(at + 512, seen.size())),
                           model.bytes.begin() + static_cast<std::ptrdiff_t>(at)));
    }
}

TEST_CASE("vhdx: 64 TiB are written, read and checked in bounded memory", "[devices][vhdx][qemu][slow]") {
    TempDir dir;
    const u64 size = u64{64} << 40;
    const u32 block = GENERATE(1u << 20, 32u << 20, 256u << 20);
    rusage before{}, after{};
    ::getrusage(RUSAGE_SELF, &before);
    must(create_vhdx({.path = dir / "big.vhdx", .kind = VhdKind::Dynamic, .size_bytes = size, .block_bytes = block}));
    const ImageOptions options{.path = dir / "big.vhdx", .mode = WriteMode::Overlay, .overlay = dir / "over.avhdx"};
    Random random(block);
    std::vector<std::pair<u64, std::vector<u8>>> pieces;
    for (int i = 0; i < 40; ++i) pieces.emplace_back(random() % (size / 4096) * 4096, random_bytes(random, 4096));
    pieces.emplace_back(size - 4096, random_bytes(random, 4096));
    pieces.emplace_back(0, random_bytes(random, 4096));
    {
        auto disk = must(open_image({.path = dir / "big.vhdx", .mode = WriteMode::Direct}));
        for (std::size_t i = 0; i < pieces.size() / 2; ++i) must(disk->write(pieces[i].first, pieces[i].second));
    }
    {
        auto disk = must(open_image(options));
        for (std::size_t i = pieces.size() / 2; i < pieces.size(); ++i)
            must(disk->write(pieces[i].first, pieces[i].second));
        must(disk->discard(size / 2, u64{1} << 32));
    }
    auto disk = must(open_image(options));
    for (const auto& [at, data] : pieces) {
        std::vector<u8> got(4096);
        must(disk->read(at, got));
        const bool discarded = at >= size / 2 && at < size / 2 + (u64{1} << 32);
        CHECK((discarded || got == data));
    }
    ::getrusage(RUSAGE_SELF, &after);
    CHECK(after.ru_maxrss - before.ru_maxrss < 64 * 1024);  // KiB
    disk.reset();
    if (have_qemu_img() && block == 32u << 20) shell("qemu-img check " + (dir / "big.vhdx"));
}
