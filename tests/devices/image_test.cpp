// Images in files: write modes, overlays, what may be followed, killed writers.
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <filesystem>

#include "tests/devices/storage_support.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

std::unique_ptr<BlockDevice> open(const ImageOptions& options) { return must(open_image(options)); }
Error refused(const ImageOptions& options) {
    const auto checked = check_image(options);
    auto result = open_image(options);
    REQUIRE_FALSE(result.has_value());
    // A lock that another opening holds shared is no obstacle to reading.
    if (!checked || result.error().text.find("in use") == std::string::npos) CHECK(!checked);
    return result.error();
}

}  // namespace

TEST_CASE("image: a raw file in every write mode", "[devices][storage]") {
    TempDir dir;
    Random random(3);
    const std::vector<u8> original = random_bytes(random, 1 << 20);
    const std::string path = dir / "disk.img";
    write_file(path, original);
    FlatModel model{original};
    SECTION("read-only") {
        auto disk = open({.path = path, .mode = WriteMode::ReadOnly});
        model.check(*disk);
        CHECK(disk->write(0, std::vector<u8>(512)).error().code == Error::Code::Usage);
        CHECK(disk->flush().has_value());
        disk.reset();
        CHECK(read_file(path) == original);
    }
    SECTION("throw-away, the default") {
        auto disk = open({.path = path});
        CHECK(disk->describe() == "throw-away overlay of raw (" + path + ")");
        for (int i = 0; i < 300; ++i) random_request(random, *disk, model);
        model.check(*disk);
        disk.reset();
        CHECK(read_file(path) == original);
        FlatModel{original}.check(*open({.path = path}));
    }
    SECTION("direct") {
        auto disk = open({.path = path, .mode = WriteMode::Direct});
        for (int i = 0; i < 300; ++i) random_request(random, *disk, model);
        disk.reset();
        CHECK(read_file(path) == model.bytes);
    }
    SECTION("overlay") {
        const ImageOptions options{.path = path, .mode = WriteMode::Overlay, .overlay = dir / "disk.overlay"};
        for (int opening = 0; opening < 3; ++opening) {
            auto disk = open(options);
            for (int i = 0; i < 100; ++i) random_request(random, *disk, model);
        }
        model.check(*open(options));
        CHECK(read_file(path) == original);
    }
}

TEST_CASE("image: overlays of VHD images, in other folders and nested", "[devices][storage]") {
    TempDir dir;
    Random random(4);
    std::filesystem::create_directory(dir / "over");
    const u64 size = 5 << 20;
    must(create_vhd({.path = dir / "base.vhd", .kind = VhdKind::Dynamic, .size_bytes = size}));
    FlatModel model{std::vector<u8>(size)};
    {
        auto disk = open({.path = dir / "base.vhd", .mode = WriteMode::Direct});
        CHECK(disk->describe() == "vhd (dynamic, " + (dir / "base.vhd") + ")");
        for (int i = 0; i < 100; ++i) random_request(random, *disk, model);
    }
    const FlatModel base = model;
    const ImageOptions options{.path = dir / "base.vhd", .mode = WriteMode::Overlay, .overlay = dir / "over/top.vhd"};
    {
        auto disk = open(options);
        for (int i = 0; i < 100; ++i) random_request(random, *disk, model);
    }
    model.check(*open(options));
    base.check(*open({.path = dir / "base.vhd", .mode = WriteMode::ReadOnly}));

    // Opened by its own name, the child may not reach out of its folder unless the user allows it.
    const ImageOptions child{.path = dir / "over/top.vhd", .mode = WriteMode::ReadOnly};
    const Error error = refused(child);
    CHECK(error.code == Error::Code::Usage);
    CHECK(error.text.find("outside of its own folder") != std::string::npos);
    ImageOptions allowed = child;
    allowed.parents = {dir / "base.vhd"};
    model.check(*open(allowed));

    must(create_vhd({.path = dir / "over/third.vhd", .kind = VhdKind::Differencing, .parent = dir / "base.vhd"}));
    std::filesystem::rename(dir / "over/third.vhd", dir / "third.vhd");
    base.check(*open({.path = dir / "third.vhd"}));  // found next to it
    std::filesystem::create_directory(dir / "over/deep");
    std::filesystem::rename(dir / "third.vhd", dir / "over/deep/third.vhd");
    const Error missing = refused({.path = dir / "over/deep/third.vhd"});
    CHECK(missing.text.find("missing (looked for ../base.vhd, base.vhd)") != std::string::npos);
}

TEST_CASE("image: a link out of the folder is not followed", "[devices][storage]") {
    TempDir dir;
    std::filesystem::create_directory(dir / "in");
    must(create_vhd({.path = dir / "secret.vhd", .kind = VhdKind::Fixed, .size_bytes = 4096}));
    std::filesystem::copy(dir / "secret.vhd", dir / "in/base.vhd");
    must(create_vhd({.path = dir / "in/child.vhd", .kind = VhdKind::Differencing, .parent = dir / "in/base.vhd"}));
    open({.path = dir / "in/child.vhd"});
    std::filesystem::remove(dir / "in/base.vhd");
    std::filesystem::create_symlink(dir / "secret.vhd", dir / "in/base.vhd");
    CHECK(refused({.path = dir / "in/child.vhd"}).text.find("outside") != std::string::npos);
}

TEST_CASE("image: mistakes of the user are named with a remedy", "[devices][storage]") {
    TempDir dir;
    const auto usage = [](const ImageOptions& options, const std::string& part) {
        const Error error = refused(options);
        INFO(error.text);
        CHECK(error.code == Error::Code::Usage);
        CHECK(error.text.find(part) != std::string::npos);
    };
    usage({.path = dir / "gone.img"}, "no such file");
    usage({.path = dir / "gone.vhdx"}, "no such file");
    usage({.path = dir / "gone.qcow2"}, "no such file");
    write_file(dir / "odd.img", std::vector<u8>(1000));
    usage({.path = dir / "odd.img"}, "truncate");
    write_file(dir / "empty.img", {});
    usage({.path = dir / "empty.img"}, "512-byte sectors");
    std::filesystem::create_directory(dir / "folder");
    usage({.path = dir / "folder"}, "neither a file nor a block device");
    REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
    usage({.path = dir / "pipe"}, "neither");
    write_file(dir / "disk.img", std::vector<u8>(4096));
    usage({.path = dir / "disk.img", .mode = WriteMode::Overlay}, "overlay has no name");
    usage({.path = dir / "disk.img", .mode = WriteMode::Overlay, .overlay = dir / "disk.img"}, "own overlay");
    must(create_vhd({.path = dir / "whole.vhd", .kind = VhdKind::Dynamic, .size_bytes = 4096}));
    usage({.path = dir / "disk.img", .mode = WriteMode::Overlay, .overlay = dir / "whole.vhd"}, "whole disk");
    usage({.path = dir / "disk.img", .mode = WriteMode::Overlay, .overlay = dir / "nowhere/over.vhd"}, "mkdir -p " + (dir / "nowhere"));
    auto writer = open({.path = dir / "disk.img", .mode = WriteMode::Direct});
    usage({.path = dir / "disk.img"}, "in use");
    writer.reset();
    auto reader = open({.path = dir / "disk.img"});
    usage({.path = dir / "disk.img", .mode = WriteMode::Direct}, "in use");
    open({.path = dir / "disk.img"});

    write_file(dir / "notes.vhd", std::vector<u8>(4096, 'x'));
    const Error error = refused({.path = dir / "notes.vhd"});
    CHECK(error.code == Error::Code::Damaged);
    CHECK(error.text.find("at byte 3584: found \"xxxxxxxx\"") != std::string::npos);
}

TEST_CASE("image: a check and a look create and write nothing", "[devices][storage]") {
    TempDir dir;
    must(create_vhd({.path = dir / "base.vhd", .kind = VhdKind::Dynamic, .size_bytes = 4096}));
    const ImageOptions options{.path = dir / "base.vhd", .mode = WriteMode::Overlay, .overlay = dir / "over.vhd"};
    must(check_image(options));
    CHECK_FALSE(std::filesystem::exists(dir / "over.vhd"));
    open(options);
    // A writer that was killed while the file grew: opening for writing repairs it, a check leaves it alone.
    std::vector<u8> grown = read_file(dir / "over.vhd");
    grown.resize(grown.size() + 8192);
    write_file(dir / "over.vhd", grown);
    must(check_image(options));
    CHECK(read_file(dir / "over.vhd") == grown);
    ImageOptions look = options;
    look.mode = WriteMode::ReadOnly;
    open(look);
    CHECK(read_file(dir / "over.vhd") == grown);
    look.overlay = dir / "gone.vhd";
    CHECK_FALSE(open_image(look));
    CHECK_FALSE(std::filesystem::exists(dir / "gone.vhd"));
    open(options);
    CHECK(read_file(dir / "over.vhd") != grown);
}

TEST_CASE("image: a raw file that looks like a VHD stays raw", "[devices][storage]") {
    TempDir dir;
    must(create_vhd({.path = dir / "inner.vhd", .kind = VhdKind::Dynamic, .size_bytes = 4096}));
    std::filesystem::rename(dir / "inner.vhd", dir / "disk.img");
    FlatModel{read_file(dir / "disk.img")}.check(*open({.path = dir / "disk.img"}));
    CHECK(open({.path = dir / "disk.img", .format = ImageFormat::Vhd})->size_bytes() == 4096);
}

TEST_CASE("image: creating refuses what cannot be", "[devices][storage]") {
    TempDir dir;
    const auto refuse = [&](VhdOptions options) {
        options.path = dir / "new.vhd";
        const Result<void> result = create_vhd(options);
        REQUIRE_FALSE(result.has_value());
        CHECK(result.error().code == Error::Code::Usage);
        CHECK(std::filesystem::is_empty(dir / "."));
    };
    refuse({.path = {}, .kind = VhdKind::Dynamic, .size_bytes = 0});
    refuse({.path = {}, .kind = VhdKind::Dynamic, .size_bytes = 1000});
    refuse({.path = {}, .kind = VhdKind::Dynamic, .size_bytes = vhd::kMaxDiskBytes + 512});
    refuse({.path = {}, .kind = VhdKind::Dynamic, .size_bytes = 4096, .block_bytes = 1000});
    refuse({.path = {}, .kind = VhdKind::Differencing, .parent = dir / "gone.vhd"});
    must(create_vhd({.path = dir / "a.vhd", .kind = VhdKind::Dynamic, .size_bytes = vhd::kMaxDiskBytes}));
    CHECK_FALSE(create_vhd({.path = dir / "a.vhd", .kind = VhdKind::Fixed, .size_bytes = 512}).has_value());
    auto disk = open({.path = dir / "a.vhd", .mode = WriteMode::Direct});
    CHECK(disk->size_bytes() == vhd::kMaxDiskBytes);
    must(disk->write(vhd::kMaxDiskBytes - 512, std::vector<u8>(512, 1)));
}

TEST_CASE("image: a killed writer loses nothing that it flushed", "[devices][storage][kill]") {
    // The child reports each flush through a pipe; all that was flushed must be in the overlay, whenever it dies.
    TempDir dir;
    constexpr u64 kSectors = 8192;
    Random random(11);
    const std::vector<u8> base = random_bytes(random, kSectors * 512);
    write_file(dir / "base.img", base);
    const ImageOptions options{.path = dir / "base.img", .mode = WriteMode::Overlay, .overlay = dir / "overlay"};
    // Sector s in generation g is filled with one value, so that each sector tells its age.
    const auto fill = [](u64 sector, u32 generation) {
        std::vector<u8> out(512);
        for (std::size_t i = 0; i < 512; i += 4) {
            const u32 word = static_cast<u32>(sector) * 2654435761u ^ generation;
            std::memcpy(&out[i], &word, 4);
        }
        return out;
    };
    std::vector<u32> flushed(kSectors);
    for (u32 round = 1; round <= 50; ++round) {
        int report[2];
        REQUIRE(::pipe(report) == 0);
        const u64 seed = random();
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            ::close(report[0]);
            auto disk = open_image(options);
            if (!disk) ::_exit(1);
            Random writes(seed);
            for (u32 step = 1;; ++step) {
                const u64 sector = writes() % kSectors;
                if (!(*disk)->write(sector * 512, fill(sector, round << 20 | step))) ::_exit(2);
                if (step % 16 != 0) continue;
                if (!(*disk)->flush()) ::_exit(3);
                if (::write(report[1], &step, sizeof step) != sizeof step) ::_exit(4);
            }
        }
        ::close(report[1]);
        ::usleep(static_cast<useconds_t>(random() % 12000));
        ::kill(child, SIGKILL);
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(WIFSIGNALED(status));
        u32 last_flush = 0;
        for (u32 step = 0; ::read(report[0], &step, sizeof step) == sizeof step;) last_flush = step;
        ::close(report[0]);

        Random writes(seed);
        for (u32 step = 1; step <= last_flush; ++step) flushed[writes() % kSectors] = round << 20 | step;
        auto disk = open(options);
        std::vector<u8> got(kSectors * 512);
        must(disk->read(0, got));
        for (u64 s = 0; s < kSectors; ++s) {
            const std::vector<u8> sector(got.begin() + static_cast<std::ptrdiff_t>(s * 512),
                                         got.begin() + static_cast<std::ptrdiff_t>(s * 512 + 512));
            u32 word = 0;
            std::memcpy(&word, sector.data(), 4);
            const u32 generation = word ^ static_cast<u32>(s) * 2654435761u;
            if (flushed[s] == 0 &&
                std::equal(sector.begin(), sector.end(), base.begin() + static_cast<std::ptrdiff_t>(s * 512)))
                continue;
            INFO("round " << round << " sector " << s);
            REQUIRE(sector == fill(s, generation));
            REQUIRE(generation >= flushed[s]);
            flushed[s] = generation;
        }
    }
    CHECK(read_file(dir / "base.img") == base);
}
