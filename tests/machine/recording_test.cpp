// Runs that are paused, recorded and run again.
#include "machine/recording.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <random>

#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;

namespace {

using Bytes = std::vector<u8>;

/// Prints what is typed, one higher, and counts in between; off after a typed 'q'.
const Bytes kEcho = {0x31, 0xdb,                          // xor ebx, ebx
                     0x43,                                // again: inc ebx
                     0x89, 0x1d, 0x00, 0x10, 0x20, 0x00,  // mov [0x201000], ebx
                     0x66, 0xba, 0xfd, 0x03, 0xec,        // in al, 0x3fd
                     0xa8, 0x01, 0x74, 0xee,              // test al, 1; jz again
                     0x66, 0xba, 0xf8, 0x03, 0xec,        // in al, 0x3f8
                     0x3c, 'q',  0x74, 0x05,              // cmp al, 'q'; je off
                     0xfe, 0xc0, 0xee, 0xeb, 0xe0,        // inc al; out dx, al; jmp again
                     0x66, 0xba, 0x04, 0x04, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef, 0xeb, 0xfe};  // off

struct World {
    test::TempDir dir;
    std::string console;
    std::unique_ptr<Machine> machine;

    Config config(const std::string& text) {
        test::write_file(dir / "kernel", test::image_with(kEcho, {0xf4}, 0));
        auto parsed = parse_config(text, "m.toml", dir / ".", {});
        REQUIRE(parsed);
        return *parsed;
    }
    void create(const Config& from) {
        MachineOptions options;
        options.console = [this](const std::string&, u8 byte) { console += static_cast<char>(byte); };
        auto made = Machine::create(from, std::move(options));
        REQUIRE(made);
        machine = std::move(*made);
        console.clear();
    }
    /// A run of a machine that is typed at, recorded. Returns the state at its end.
    u64 record(const Config& from, const std::string& path) {
        auto recorder = Recorder::create(path, from);
        REQUIRE(recorder);
        create(from);
        (*recorder)->attach(*machine);
        std::mt19937_64 random(7);
        const std::string typed = "Verdigris records what is typed.q";
        for (std::size_t i = 0; i < typed.size(); ++i) {
            machine->run_until(machine->now() + 10'000 + random() % 4'000'000);
            (*recorder)->look();
            REQUIRE(machine->console_input("", typed.substr(i, 1)) == 1);
        }
        machine->run_until(machine->now() + 1'000'000);
        REQUIRE(machine->outcome().kind == Outcome::Kind::PoweredOff);
        REQUIRE((*recorder)->finish(0, "off"));
        return machine->state_hash();
    }
};

const std::string kChild = "[hypervisor]\n[[child]]\nname = \"a\"\nkernel = \"kernel\"\nmemory = \"64 MiB\"\n";
const std::string kTwoChildren = kChild + "[[child]]\nname = \"b\"\nkernel = \"kernel\"\nmemory = \"64 MiB\"\n";
const std::string kPc = "[boot]\nkernel = \"kernel\"\n[machine]\nmemory = \"64 MiB\"\n";

}  // namespace

TEST_CASE("recording: a run is run again from its file alone", "[machine][recording]") {
    World world;
    const std::string text = GENERATE(kChild, kPc);
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
