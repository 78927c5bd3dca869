// A child that moves into another machine.
#include "machine/child_transfer.h"

#include <catch2/catch.hpp>

#include <fstream>
#include <iterator>
#include <random>

#include "machine/child_machine.h"
#include "tests/fuzz/forged_snapshot.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;

namespace {

/// Counts in memory for ever, with a division now and then.
const std::vector<u8> kCounter = {
    0xbf, 0x00, 0x00, 0x30, 0x00,              // mov edi, 0x300000
    0xff, 0x07,                                // l: inc dword [edi]
    0x8b, 0x07,                                // mov eax, [edi]
    0x25, 0xfc, 0x0f, 0x00, 0x00,              // and eax, 0xffc
    0x01, 0x84, 0x07, 0x00, 0x10, 0x00, 0x00,  // add [edi+eax+0x1000], eax
    0xeb, 0xee                                 // jmp l
};

struct World {
    test::TempDir dir;
    World() { test::write_file(dir / "kernel", test::image_with(kCounter, {0xf4}, 0)); }
    static std::string child(const std::string& name, const std::string& more = "") {
        return "[[child]]\nname = \"" + name + "\"\nmemory = \"64 MiB\"\nkernel = \"kernel\"\n" + more;
    }
    std::unique_ptr<Machine> make(const std::string& children) {
        auto config = parse_config("[hypervisor]\n" + children, "m.toml", dir / ".", {});
        REQUIRE(config);
        auto made = Machine::create(*config, {});
        INFO((made ? "" : made.error().text));
        REQUIRE(made);
        return std::move(*made);
    }
    static u32 count(Machine& machine, std::size_t child) {
        u32 value = 0;
        REQUIRE(machine.children()[child]->partition().read_memory(Gpa(0x300000), &value, sizeof value));
        return value;
    }
};

void run(Machine& machine, VTime time) { REQUIRE(machine.run_until(machine.now() + time) == Pause::Reached); }

}  // namespace

TEST_CASE("child transfer: a saved child goes on alone as it would have gone on", "[machine][transfer]") {
    World world;
    const auto here = world.make(World::child("a") + World::child("b", "processors = 2\n"));
    run(*here, 1'000'000);
    const std::string file = world.dir / "b.vgs";
    REQUIRE(save_child(*here, "b", file));
    CHECK_FALSE(save_child(*here, "b", file));  // the name is taken
    CHECK_FALSE(save_child(*here, "nobody", world.dir / "x.vgs"));
    const u32 then = World::count(*here, 1);
    CHECK(then > 1000);
    auto snapshot = Snapshot::open(file);
    REQUIRE(snapshot);
    REQUIRE((*snapshot)->check());
    const auto config = (*snapshot)->config({});
    REQUIRE(config);
    CHECK(config->children.size() == 1);
    auto alone = (*snapshot)->restore(*config, {});
    INFO((alone ? "" : alone.error().text));
    REQUIRE(alone);
    CHECK((*alone)->now() == here->now());
    CHECK(World::count(**alone, 0) == then);
    run(**alone, 1'000'000);
    run(*here, 1'000'000);
    CHECK(World::count(**alone, 0) == World::count(*here, 1));
    CHECK(World::count(*here, 1) > then);
}

TEST_CASE("child transfer: a child is taken in by a machine that runs, and both go on", "[machine][transfer]") {
    World world;
    const auto here = world.make(World::child("a") + World::child("b"));
    const auto there = world.make(World::child("c"));
    run(*here, 1'000'000);
    run(*there, 3'000'000);
    const std::string file = world.dir / "b.vgs";
    REQUIRE(save_child(*here, "b", file));
    const u32 then = World::count(*here, 1);
    here->put_off(*here->children()[1], "it moved");
    CHECK(here->outcome().kind == Outcome::Kind::None);
    CHECK_FALSE(here->is_on(*here->children()[1]));
    CHECK(World::count(*here, 1) == 0);  // its memory is the host's again

    auto snapshot = Snapshot::open(file);
    REQUIRE(snapshot);
    const auto config = (*snapshot)->config({});
    REQUIRE(config);
    const auto taken = take_in_child(*there, **snapshot, *config);
    INFO((taken ? "" : taken.error().text));
    REQUIRE(taken);
    REQUIRE(there->children().size() == 2);
    CHECK(World::count(*there, 1) == then);
    CHECK_FALSE(take_in_child(*there, **snapshot, *config));  // the name is taken
    CHECK_FALSE(save_snapshot(*there, world.dir / "all.vgs"));
    const u32 c = World::count(*there, 0);
    run(*there, 1'000'000);
    run(*here, 1'000'000);
    CHECK(World::count(*there, 0) > c);
    CHECK(World::count(*there, 1) > then);
    CHECK(World::count(*here, 1) == 0);
    // And it moves on from there.
    REQUIRE(save_child(*there, "b", world.dir / "again.vgs"));
    here->put_off(*here->children()[0], "it moved too");
    CHECK(here->outcome().kind == Outcome::Kind::PoweredOff);
}

TEST_CASE("child transfer: time never goes back, for nobody", "[machine][transfer]") {
    World world;
    const auto late = world.make(World::child("a"));
    const auto early = world.make(World::child("c"));
    run(*late, 5'000'000);
    run(*early, 1'000'000);
    REQUIRE(save_child(*late, "a", world.dir / "a.vgs"));
    auto snapshot = Snapshot::open(world.dir / "a.vgs");
    REQUIRE(snapshot);
    const auto config = (*snapshot)->config({});
    REQUIRE(config);
    REQUIRE(take_in_child(*early, **snapshot, *config));
    CHECK(early->now() >= 5'000'000);
    run(*early, 1'000'000);
}

TEST_CASE("child transfer: nobody who runs sees the clock jump by more than kernels take", "[machine][transfer]") {
    World world;
    const auto late = world.make(World::child("a") + World::child("b"));
    const auto early = world.make(World::child("c"));
    run(*late, 1'000'000);
    late->skip_to(20 * kVTimeHz);
    run(*late, 1'000'000);
    run(*early, 1'000'000);
    REQUIRE(save_child(*late, "a", world.dir / "a.vgs"));
    REQUIRE(save_child(*early, "c", world.dir / "c.vgs"));
    const auto take_in = [&](Machine& machine, const std::string& file) {
        auto snapshot = Snapshot::open(world.dir / file);
        REQUIRE(snapshot);
        const auto config = (*snapshot)->config({});
        REQUIRE(config);
        return take_in_child(machine, **snapshot, *config);
    };
    CHECK_FALSE(take_in(*early, "a.vgs"));  // its own child would
    CHECK(early->children().size() == 1);
    CHECK_FALSE(take_in(*late, "c.vgs"));  // the one that comes would
    early->skip_to(12 * kVTimeHz);
    CHECK(take_in(*early, "a.vgs"));
    CHECK(early->now() >= 20 * kVTimeHz);
}

TEST_CASE("child transfer: a machine of several children, or of none of the built-in parent's, is not taken in", "[machine][transfer]") {
    World world;
    const auto here = world.make(World::child("a") + World::child("b"));
    const auto there = world.make(World::child("c"));
    run(*here, 100'000);
    REQUIRE(save_snapshot(*here, world.dir / "both.vgs"));
    auto snapshot = Snapshot::open(world.dir / "both.vgs");
    REQUIRE(snapshot);
    const auto config = (*snapshot)->config({});
    REQUIRE(config);
    CHECK_FALSE(take_in_child(*there, **snapshot, *config));
    CHECK(there->children().size() == 1);
}

TEST_CASE("child transfer: a forged snapshot of a child gives errors only, and the machine goes on", "[machine][transfer]") {
    World world;
    const auto here = world.make(World::child("a") + World::child("b"));
    run(*here, 1'000'000);
    REQUIRE(save_child(*here, "b", world.dir / "b.vgs"));
    std::ifstream in(world.dir / "b.vgs", std::ios::binary);
    const std::vector<u8> good{std::istreambuf_iterator<char>(in), {}};
    const auto there = world.make(World::child("c"));
    std::mt19937_64 random(7);
    u32 refused = 0;
    const auto take_in = [&](std::vector<u8> bytes) {
        auto snapshot = Snapshot::open(std::make_unique<devices::MemoryFile>("b.vgs", std::move(bytes), false));
        if (!snapshot) return false;
        const auto config = (*snapshot)->config({});
        return config && take_in_child(*there, **snapshot, *config).has_value();
    };
    for (int i = 0; i < 60; ++i) {
        std::vector<u8> bytes = good;
        if (i % 3 == 0) bytes.resize(random() % bytes.size());  // cut short
        if (i % 3 == 1) bytes[random() % bytes.size()] ^= static_cast<u8>(1 + random() % 255);
        // Changed behind the checksums, in the part that says what the state is.
        if (i % 3 == 2) bytes = test::patched(good, std::vector<u8>{2, static_cast<u8>(random()), static_cast<u8>(random()), static_cast<u8>(random())});
        refused += take_in(std::move(bytes)) ? 0 : 1;
        const u32 c = World::count(*there, 0);
        run(*there, 10'000);
        CHECK(World::count(*there, 0) > c);
    }
    CHECK(refused >= 59);  // a patch may leave a byte as it is
    CHECK_FALSE(there->outcome().kind != Outcome::Kind::None);
}
