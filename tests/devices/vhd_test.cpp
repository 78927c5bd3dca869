// VHD images in memory: requests against a flat model, chains, and what is refused.
#include <catch2/catch.hpp>

#include "devices/storage/throwaway.h"
#include "devices/storage/vhd_layout.h"
#include "devices/storage/vhd_path.h"
#include "tests/devices/storage_support.h"

using namespace vg;
using namespace vg::devices;
using namespace vg::test;

namespace {

vhd::Plan plan(VhdKind kind, u64 size, u32 block, u8 id) {
    vhd::Plan p;
    p.kind = kind;
    p.size_bytes = size;
    p.block_bytes = block;
    p.id = test_id(id);
    p.time_stamp = 1000u + id;
    return p;
}
vhd::Plan child_of(const vhd::Plan& parent, const std::string& parent_name, u8 id) {
    vhd::Plan p = plan(VhdKind::Differencing, parent.size_bytes, parent.block_bytes, id);
    p.parent = {parent_name, parent.id, parent.time_stamp, 0};
    p.parent_path = parent_name;
    return p;
}
/// The plan with the time stamp that the file has by now: writing renews it.
vhd::Plan as_written(MemoryFolder& folder, const std::string& name, vhd::Plan made) {
    made.time_stamp = must(vhd::load_layout(*folder.open(name))).footer.time_stamp;
    return made;
}
std::unique_ptr<BlockDevice> open(MemoryFolder& folder, const std::string& name, bool writable = true) {
    return std::move(must(vhd::open_chain(folder.open(name, writable), ImageFormat::Vhd, folder)).device);
}
Error refused(MemoryFolder& folder, const std::string& name) {
    auto result = vhd::open_chain(folder.open(name), ImageFormat::Vhd, folder);
    REQUIRE_FALSE(result.has_value());
    return result.error();
}

}  // namespace

TEST_CASE("vhd: random requests and reopenings match a flat disk", "[devices][vhd]") {
    const auto kind = GENERATE(VhdKind::Fixed, VhdKind::Dynamic);
    const u32 block = GENERATE(512u, 4096u, 65536u, 2097152u);
    Random random(block + static_cast<unsigned>(kind));
    MemoryFolder folder;
    const u64 size = 300 * 1024 + 512;
    folder.create("disk.vhd", plan(kind, size, block, 1));
    FlatModel model{std::vector<u8>(size)};
    for (int opening = 0; opening < 6; ++opening) {
        auto disk = open(folder, "disk.vhd");
        model.check(*disk);
        for (int i = 0; i < 120; ++i) random_request(random, *disk, model);
    }
    model.check(*open(folder, "disk.vhd", false));
    must(vhd::load_layout(*folder.open("disk.vhd")));
}

TEST_CASE("vhd: a chain of three matches a flat disk and leaves its parents alone", "[devices][vhd]") {
    const u32 block = GENERATE(512u, 8192u, 65536u);
    Random random(block);
    MemoryFolder folder;
    const u64 size = 400 * 1024;
    FlatModel model{std::vector<u8>(size)};
    const auto written = [&](const std::string& name, const vhd::Plan& made) {
        folder.create(name, made);
        auto disk = open(folder, name);
        for (int i = 0; i < 150; ++i) random_request(random, *disk, model);
        disk.reset();
        return as_written(folder, name, made);
    };
    const vhd::Plan base = written("base.vhd", plan(VhdKind::Dynamic, size, block, 1));
    const vhd::Plan middle = written("middle.vhd", child_of(base, "base.vhd", 2));
    const std::vector<u8> base_bytes = folder.content("base.vhd"), middle_bytes = folder.content("middle.vhd");
    const FlatModel below = model;
    folder.create("top.vhd", child_of(middle, "middle.vhd", 3));
    for (int opening = 0; opening < 4; ++opening) {
        auto disk = open(folder, "top.vhd");
        model.check(*disk);
        for (int i = 0; i < 100; ++i) random_request(random, *disk, model);
    }
    model.check(*open(folder, "top.vhd"));
    below.check(*open(folder, "middle.vhd", false));
    CHECK(folder.content("base.vhd") == base_bytes);
    CHECK(folder.content("middle.vhd") == middle_bytes);
}

TEST_CASE("vhd: a throw-away overlay matches a flat disk and leaves the base alone", "[devices][vhd][throwaway]") {
    Random random(77);
    MemoryFolder folder;
    const u64 size = 3 * 1024 * 1024 + 512;
    folder.create("base.vhd", plan(VhdKind::Dynamic, size, 65536, 1));
    FlatModel model{std::vector<u8>(size)};
    {
        auto disk = open(folder, "base.vhd");
        for (int i = 0; i < 300; ++i) random_request(random, *disk, model);
    }
    const std::vector<u8> before = folder.content("base.vhd");
    auto store = std::make_shared<MemoryFile>("store");
    auto disk = make_throwaway(open(folder, "base.vhd", false), std::make_unique<SharedFile>(store));
    CHECK_FALSE(disk->read_only());
    for (int i = 0; i < 600; ++i) random_request(random, *disk, model);
    model.check(*disk);
    CHECK(store->size() <= size);
    CHECK(folder.content("base.vhd") == before);
}

TEST_CASE("vhd: what was flushed is there when the writer disappears", "[devices][vhd]") {
    // Every prefix of the writes that reach the file opens again, and shows all that was flushed before it.
    class Journal final : public BlockFile {
      public:
        Journal(std::unique_ptr<BlockFile> file, u64 limit, u64& count)
            : file_(std::move(file)), limit_(limit), count_(count) {}
        const std::string& name() const override { return file_->name(); }
        u64 size() const override { return file_->size(); }
        bool writable() const override { return true; }
        Result<void> read(u64 offset, std::span<u8> out) override { return file_->read(offset, out); }
        Result<void> write(u64 offset, std::span<const u8> data) override {
            return ++count_ > limit_ ? dead() : file_->write(offset, data);
        }
        Result<void> zero(u64 offset, u64 size) override {
            return ++count_ > limit_ ? dead() : file_->zero(offset, size);
        }
        Result<void> sync() override { return count_ > limit_ ? dead() : Result<void>{}; }
        Result<void> resize(u64 size) override { return ++count_ > limit_ ? dead() : file_->resize(size); }

      private:
        static Result<void> dead() { return fail(Error::Code::Host, "killed"); }
        std::unique_ptr<BlockFile> file_;
        u64 limit_;
        u64& count_;
    };
    const u64 size = 64 * 1024;
    const bool differencing = GENERATE(false, true);
    for (u64 limit = 0; limit < 150; ++limit) {
        Random random(limit / 30);
        MemoryFolder folder;
        const vhd::Plan base = plan(VhdKind::Dynamic, size, 4096, 1);
        folder.create("base.vhd", base);
        FlatModel flushed{std::vector<u8>(size)};
        std::string name = "base.vhd";
        if (differencing) {
            auto disk = open(folder, "base.vhd");
            for (int i = 0; i < 20; ++i) random_request(random, *disk, flushed);
            disk.reset();
            folder.create("child.vhd", child_of(as_written(folder, "base.vhd", base), "base.vhd", 2));
            name = "child.vhd";
        }
        u64 count = 0;
        std::vector<bool> touched(size / 512);
        {
            auto file = std::make_unique<Journal>(folder.open(name), limit, count);
            auto disk = std::move(must(vhd::open_chain(std::move(file), ImageFormat::Vhd, folder)).device);
            FlatModel model = flushed;
            for (int i = 0; i < 40 && count <= limit; ++i) {
                const u64 first = random() % (size / 512);
                const u64 sectors = 1 + random() % std::min<u64>(20, size / 512 - first);
                const std::vector<u8> data = random_bytes(random, static_cast<std::size_t>(sectors * 512));
                if (random() % 4 == 0) {
                    if (!disk->flush()) break;
                    flushed = model;
                    touched.assign(touched.size(), false);
                }
                for (u64 s = first; s < first + sectors; ++s) touched[s] = true;
                std::copy(data.begin(), data.end(), model.bytes.begin() + static_cast<std::ptrdiff_t>(first * 512));
                if (!disk->write(first * 512, data)) break;
            }
        }
        auto disk = open(folder, name);
        std::vector<u8> got(size);
        must(disk->read(0, got));
        for (u64 s = 0; s < touched.size(); ++s) {
            if (touched[s]) continue;  // written but not flushed: either content is right
            const auto at = static_cast<std::ptrdiff_t>(s * 512);
            REQUIRE(std::equal(got.begin() + at, got.begin() + at + 512, flushed.bytes.begin() + at));
        }
        must(disk->write(0, std::vector<u8>(size, 0x5a)));
        must(disk->flush());
    }
}

TEST_CASE("vhd: space claimed by a killed writer is taken back", "[devices][vhd]") {
    MemoryFolder folder;
    folder.create("disk.vhd", plan(VhdKind::Dynamic, 1 << 20, 65536, 1));
    const std::vector<u8> empty = folder.content("disk.vhd");
    std::vector<u8> grown = empty;
    grown.resize(grown.size() + 70000);  // the footer overwritten, blocks not yet in the table
    std::fill(grown.begin() + static_cast<std::ptrdiff_t>(empty.size() - 512), grown.end(), u8{0x33});
    folder.add("disk.vhd", grown);
    {
        auto readable = open(folder, "disk.vhd", false);
        std::vector<u8> sector(512);
        must(readable->read(0, sector));
    }
    CHECK(folder.content("disk.vhd") == grown);
    open(folder, "disk.vhd");
    CHECK(folder.content("disk.vhd") == empty);
}

TEST_CASE("vhd: overlays on a raw image know it by its content", "[devices][vhd]") {
    Random random(5);
    MemoryFolder folder;
    FlatModel model{random_bytes(random, 3 << 20)};
    folder.add("disk.img", model.bytes);
    vhd::Plan p = plan(VhdKind::Differencing, 3 << 20, 65536, 9);
    p.parent = {"disk.img", must(vhd::raw_identity(*folder.open("disk.img"))), 0, 0};
    p.parent_path = "disk.img";
    folder.create("over.vhd", p);
    {
        auto disk = open(folder, "over.vhd");
        CHECK(disk->describe() == "vhd (differencing, over.vhd, of raw (disk.img))");
        for (int i = 0; i < 100; ++i) random_request(random, *disk, model);
    }
    model.check(*open(folder, "over.vhd"));
    std::vector<u8> other = folder.content("disk.img");
    other[1000] ^= 1;
    folder.add("disk.img", other);
    const Error error = refused(folder, "over.vhd");
    CHECK(error.code == Error::Code::Damaged);
    CHECK(error.text.find("over.vhd: at byte 552: found parent id") == 0);
}

TEST_CASE("vhd: a child larger than its parent reads zeroes behind it", "[devices][vhd]") {
    MemoryFolder folder;
    const vhd::Plan base = plan(VhdKind::Fixed, 4096, 512, 1);
    folder.create("base.vhd", base);
    must(open(folder, "base.vhd")->write(0, std::vector<u8>(4096, 7)));
    vhd::Plan p = child_of(as_written(folder, "base.vhd", base), "base.vhd", 2);
    p.size_bytes = 8192;
    p.block_bytes = 4096;
    folder.create("child.vhd", p);
    auto disk = open(folder, "child.vhd");
    std::vector<u8> got(8192);
    must(disk->read(0, got));
    CHECK(std::count(got.begin(), got.end(), 7) == 4096);
    CHECK(got[4096] == 0);
}

TEST_CASE("vhd: parents are checked for identity, time, loops and depth", "[devices][vhd]") {
    MemoryFolder folder;
    const vhd::Plan base = plan(VhdKind::Dynamic, 65536, 4096, 1);
    folder.create("base.vhd", base);
    SECTION("another id") {
        vhd::Plan p = child_of(base, "base.vhd", 2);
        p.parent.id = test_id(7);
        folder.create("child.vhd", p);
        const Error error = refused(folder, "child.vhd");
        CHECK(error.code == Error::Code::Damaged);
        CHECK(error.text.find("07070707-0707-0707-0707-070707070707") != std::string::npos);
    }
    SECTION("another time") {
        vhd::Plan p = child_of(base, "base.vhd", 2);
        p.parent.time_stamp = 1;
        folder.create("child.vhd", p);
        CHECK(refused(folder, "child.vhd").text.find("at byte 568: found parent time stamp 1") != std::string::npos);
    }
    SECTION("missing") {
        folder.create("child.vhd", child_of(base, "gone.vhd", 2));
        const Error error = refused(folder, "child.vhd");
        CHECK(error.code == Error::Code::Usage);
        CHECK(error.text.find("gone.vhd") != std::string::npos);
    }
    SECTION("its own parent") {
        vhd::Plan p = child_of(base, "child.vhd", 2);
        folder.create("child.vhd", p);
        CHECK(refused(folder, "child.vhd").text.find("loop") != std::string::npos);
    }
    SECTION("depth") {
        vhd::Plan below = base;
        std::string name = "base.vhd";
        for (u8 i = 2; i <= vhd::kMaxChain + 1; ++i) {
            const vhd::Plan p = child_of(below, name, i);
            name = "c" + std::to_string(i) + ".vhd";
            folder.create(name, p);
            if (i == vhd::kMaxChain) open(folder, name);
            below = p;
        }
        CHECK(refused(folder, name).text.find("at most 32") != std::string::npos);
    }
}

TEST_CASE("vhd: a child is refused after its parent was written", "[devices][vhd]") {
    const auto kind = GENERATE(VhdKind::Fixed, VhdKind::Dynamic);
    MemoryFolder folder;
    const vhd::Plan base = plan(kind, 64 * 1024, 4096, 1);
    folder.create("base.vhd", base);
    folder.create("child.vhd", child_of(base, "base.vhd", 2));
    {
        auto parent = open(folder, "base.vhd");
        must(parent->flush());
    }
    open(folder, "child.vhd");  // opened, not written
    must(open(folder, "base.vhd")->write(0, std::vector<u8>(512, 1)));
    const Error error = refused(folder, "child.vhd");
    CHECK(error.code == Error::Code::Damaged);
    CHECK(error.text.find("the parent was written since") != std::string::npos);
    must(vhd::load_layout(*folder.open("base.vhd")));
}

TEST_CASE("vhd: a flush that failed is not good because nothing was written since", "[devices][vhd]") {
    /// Fails the sync number `bad`.
    class Failing final : public BlockFile {
      public:
        Failing(std::unique_ptr<BlockFile> file, int& syncs, int bad) : file_(std::move(file)), syncs_(syncs), bad_(bad) {}
        const std::string& name() const override { return file_->name(); }
        u64 size() const override { return file_->size(); }
        bool writable() const override { return true; }
        Result<void> read(u64 offset, std::span<u8> out) override { return file_->read(offset, out); }
        Result<void> write(u64 offset, std::span<const u8> data) override { return file_->write(offset, data); }
        Result<void> zero(u64 offset, u64 size) override { return file_->zero(offset, size); }
        Result<void> sync() override {
            if (++syncs_ == bad_) return fail(Error::Code::Host, "sync failed");
            return {};
        }
        Result<void> resize(u64 size) override { return file_->resize(size); }

      private:
        std::unique_ptr<BlockFile> file_;
        int& syncs_;
        int bad_;
    };
    // The stamp before the first write, data, bitmap, table: each may be the one that fails.
    for (int bad = 1; bad <= 4; ++bad) {
        INFO(bad);
        MemoryFolder folder;
        const vhd::Plan base = plan(VhdKind::Dynamic, 64 * 1024, 4096, 1);
        folder.create("base.vhd", base);
        folder.create("child.vhd", child_of(base, "base.vhd", 2));
        int syncs = 0;
        auto file = std::make_unique<Failing>(folder.open("child.vhd"), syncs, bad);
        auto disk = std::move(must(vhd::open_chain(std::move(file), ImageFormat::Vhd, folder)).device);
        if (!disk->write(0, std::vector<u8>(512, 7))) must(disk->write(0, std::vector<u8>(512, 7)));
        const int written = syncs;
        CHECK(disk->flush().has_value() == (bad <= written));
        const int before = syncs;
        must(disk->flush());
        CHECK((syncs > before || bad <= written));
        std::vector<u8> got(512);
        must(open(folder, "child.vhd", false)->read(0, got));
        CHECK(got == std::vector<u8>(512, 7));
    }
}

TEST_CASE("vhd: paths cross between Windows and here", "[devices][vhd]") {
    CHECK(vhd::to_windows("base.vhd") == ".\\base.vhd");
    CHECK(vhd::to_windows("../a/base.vhd") == "..\\a\\base.vhd");
    CHECK(vhd::from_windows(".\\dir\\base.vhd") == "dir/base.vhd");
    CHECK(vhd::from_windows("C:\\images\\base.vhd") == "base.vhd");
    CHECK(vhd::from_windows("\\\\server\\share\\base.vhd") == "base.vhd");
    const std::string text = "d\u00efsk \u65e5\u672c \U0001f4be";
    CHECK(vhd::to_utf8(must(vhd::to_utf16(text))) == text);
    for (const char* bad : {"\xff", "\xc0\x80", "\xe2\x82", "\xed\xa0\x80", "\xf5\x80\x80\x80"}) {
        CHECK_FALSE(vhd::to_utf16(bad).has_value());
    }
    const u16 lonely[] = {0xd800, 'a', 0xdc00, 0, 'x'};
    CHECK(vhd::to_utf8(lonely) == "\ufffda\ufffd");
}

TEST_CASE("vhd: requests outside the disk or in parts of sectors are refused", "[devices][vhd]") {
    MemoryFolder folder;
    folder.create("disk.vhd", plan(VhdKind::Dynamic, 8192, 4096, 1));
    auto disk = open(folder, "disk.vhd");
    std::vector<u8> two(1024), odd(100);
    CHECK(disk->read(8192 - 512, two).error().code == Error::Code::Internal);
    CHECK_FALSE(disk->read(~u64{511}, two).has_value());
    CHECK_FALSE(disk->write(0, odd).has_value());
    CHECK_FALSE(disk->write(100, two).has_value());
    CHECK_FALSE(disk->discard(8192, 512).has_value());
    CHECK(disk->read(8192, {}).has_value());
    auto readable = open(folder, "disk.vhd", false);
    CHECK(readable->read_only());
    CHECK(readable->write(0, two).error().code == Error::Code::Usage);
}

TEST_CASE("vhd: an image with a saved state is read but not written", "[devices][vhd]") {
    MemoryFolder folder;
    folder.create("disk.vhd", plan(VhdKind::Fixed, 4096, 512, 1));
    std::vector<u8> bytes = folder.content("disk.vhd");
    vhd::Footer footer = vhd::decode<vhd::Footer>(std::span<const u8>(bytes).subspan(4096));
    footer.saved_state = 1;
    const auto encoded = vhd::encode(footer);
    std::copy(encoded.begin(), encoded.end(), bytes.begin() + 4096);
    folder.add("disk.vhd", bytes);
    open(folder, "disk.vhd", false);
    CHECK(refused(folder, "disk.vhd").text.find("saved state") != std::string::npos);
}
