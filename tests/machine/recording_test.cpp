// Runs that are paused, recorded and run again.
#include "machine/recording.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <random>

#include "tests/support/typed_run.h"

using namespace vg;
using namespace vg::machine;

namespace {

using World = test::TypedRun;

const std::string kChild = test::kTypedChild;
const std::string kTwoChildren = kChild + "[[child]]\nname = \"b\"\nkernel = \"kernel\"\nmemory = \"64 MiB\"\n";

}  // namespace

TEST_CASE("recording: a run is run again from its file alone", "[machine][recording]") {
    World world;
    const std::string text = GENERATE(test::kTypedChild, test::kTypedPc);
    const std::string path = world.dir / "run.vgr";
    const u64 hash = world.record(world.config(text), path);
    const std::string console = world.console;
    CHECK(console.substr(0, 4) == "Wfse");
    std::filesystem::remove(world.dir / "kernel");
    auto recording = Recording::open(path);
    REQUIRE(recording);
    CHECK((*recording)->inputs().size() == 33);
    REQUIRE((*recording)->end());
    CHECK((*recording)->end()->hash == hash);
    REQUIRE((*recording)->marks().size() >= 2);
    world.create((*recording)->config());
    Replay replay(*recording);
    replay.attach(*world.machine);
    CHECK(world.machine->console_input("", "x") == 0);
    for (const StateMark& mark : (*recording)->marks()) {
        REQUIRE(run_to(*world.machine, mark.position));
        CHECK(compare(*world.machine, mark, (*recording)->part_names()) == "");
    }
    REQUIRE(run_to(*world.machine, (*recording)->last()));
    CHECK(world.machine->state_hash() == hash);
    CHECK(world.console == console);
    CHECK(replay.difference() == "");
}

TEST_CASE("recording: where a run is paused changes nothing, with several processors too",
          "[machine][recording][scheduler]") {
    World world;
    const std::string path = world.dir / "run.vgr";
    const u64 hash = world.record(world.config(kChild), path);
    auto recording = Recording::open(path);
    REQUIRE(recording);
    for (const char* const machine_text : {"one", "two"}) {
        const bool two = std::string(machine_text) == "two";
        const Config config = two ? world.config(kTwoChildren) : (*recording)->config();
        u64 expected = two ? 0 : hash;
        for (u64 seed = 0; seed < 4; ++seed) {
            world.create(config);
            Replay replay(*recording);
            replay.attach(*world.machine);
            const Position last = two ? Position{30'000'000, 0, false} : (*recording)->last();
            std::mt19937_64 random(seed);
            while (seed != 0 && world.machine->now() < last.time / 2) {
                if (random() % 2 == 0) {
                    world.machine->run_until(world.machine->now() + random() % 200'000);
                } else {
                    world.machine->run_until(kNever - 1, world.machine->instructions() + random() % 70'000);
                }
                for (u64 i = random() % 4; i != 0; --i) {
                    cpu::Vp* const vp = world.machine->scheduler().processors().at(random() % (two ? 2 : 1));
                    world.machine->step(*vp, world.machine->now() + 1'000'000);
                }
            }
            REQUIRE(run_to(*world.machine, last));
            if (expected == 0) expected = world.machine->state_hash();
            CHECK(world.machine->state_hash() == expected);
        }
    }
}

TEST_CASE("recording: another run is told from the recorded one at the next mark", "[machine][recording]") {
    World world;
    const std::string path = world.dir / "run.vgr";
    world.record(world.config(kChild), path);
    auto recording = Recording::open(path);
    REQUIRE(recording);
    world.create((*recording)->config());
    Replay replay(*recording);
    replay.attach(*world.machine);
    const std::vector<StateMark>& marks = (*recording)->marks();
    REQUIRE(run_to(*world.machine, marks.front().position));
    CHECK(compare(*world.machine, marks.front(), (*recording)->part_names()) == "");
    world.machine->scheduler().processors().front()->state().gpr[15] ^= 1;
    REQUIRE(run_to(*world.machine, marks.back().position));
    CHECK(compare(*world.machine, marks.back(), (*recording)->part_names()).find("other: hypervisor") != std::string::npos);
}

TEST_CASE("recording: what is no whole recording is refused, or good up to its end", "[machine][recording]") {
    World world;
    const std::string path = world.dir / "run.vgr", cut = world.dir / "cut.vgr";
    world.record(world.config(kChild), path);
    const std::vector<u8> whole = test::read_file(path);
    std::mt19937_64 random(3);
    unsigned good = 0;
    for (unsigned i = 0; i < 400; ++i) {
        std::vector<u8> bytes = whole;
        const bool cutting = i % 2 == 0;
        if (cutting)
            bytes.resize(random() % bytes.size());
        else
            bytes[random() % bytes.size()] ^= static_cast<u8>(1u << random() % 8);
        test::write_file(cut, bytes);
        const auto opened = Recording::open(cut);
        if (!opened) {
            CHECK(opened.error().code == Error::Code::Damaged);
            continue;
        }
        ++good;
        CHECK((*opened)->inputs().size() <= 33);
        if (cutting) CHECK_FALSE((*opened)->notes().empty());
    }
    CHECK(good > 0);
    CHECK(Recording::open(world.dir / "missing").error().code == Error::Code::Usage);
}

TEST_CASE("recording: disks are as they were, and what a replay writes is gone afterwards",
          "[machine][recording][storage]") {
    World world;
    const std::string path = world.dir / "run.vgr";
    test::write_file(world.dir / "disk.img", std::vector<u8>(1 << 20, 0x5a));
    const Config config = world.config(kChild + "[[child.disk]]\nimage = \"disk.img\"\nwrite = \"direct\"\n");
    world.record(config, path);
    std::filesystem::remove(world.dir / "disk.img");
    auto recording = Recording::open(path);
    REQUIRE(recording);
    CHECK((*recording)->config().children[0].disks[0].write == "memory");
    world.create((*recording)->config());
    CHECK_FALSE(std::filesystem::exists(world.dir / "disk.img"));
}
