// A child that moves into another machine.
#include "machine/child_transfer.h"

#include <catch2/catch.hpp>

#include "machine/child_machine.h"
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
