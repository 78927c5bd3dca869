// Whole machines with partitions whose kernels are a few instructions.
#include "machine/machine.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "devices/storage/create.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;

namespace {

using Bytes = std::vector<u8>;

const Bytes kPowerOff = {0x66, 0xba, 0x04, 0x04, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef};  // out 0x404, SLP_EN | S5
const Bytes kPrintX = {0x66, 0xba, 0xf8, 0x03, 0xb0, 'x', 0xee};                       // out 0x3f8, 'x'
const Bytes kDelay = {0xb9, 0x40, 0x42, 0x0f, 0x00, 0x49, 0x75, 0xfd};                 // a million times dec ecx; jnz
const Bytes kForever = {0xeb, 0xfe};

Bytes operator+(Bytes a, const Bytes& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}
/// Goes back to the start for ever.
Bytes again(const Bytes& code) { return code + Bytes{0xeb, static_cast<u8>(-static_cast<int>(code.size()) - 2)}; }

struct World {
    test::TempDir dir;
    std::string console;
    std::unique_ptr<Machine> machine;

    void kernel(const std::string& name, const Bytes& code) { test::write_file(dir / name, test::image_with(code, {0xf4}, 0)); }
    Result<void> create(const std::string& text) {
        auto config = parse_config("[hypervisor]\n" + text, "m.toml", dir / ".", {});
        if (!config) return Unexpected{config.error()};
        MachineOptions options;
        options.engine = MachineOptions::EngineKind::Step;
        options.console = [this](const std::string& partition, u8 byte) {
            console += partition + static_cast<char>(byte);
            if (stop_at_console) machine->stop();
        };
        auto made = Machine::create(*config, std::move(options));
        if (!made) return Unexpected{made.error()};
        machine = std::move(*made);
        return {};
    }
    bool stop_at_console = false;
};

}  // namespace

TEST_CASE("machine: a partition that is off stays off, however often it asks", "[machine]") {
    World world;
    world.kernel("a", again(kPowerOff));
    world.kernel("b", kDelay + kPrintX + kPowerOff + kForever);
    REQUIRE(world.create("[[child]]\nname = \"a\"\nkernel = \"a\"\n[[child]]\nname = \"b\"\nkernel = \"b\"\n"));
    CHECK(world.machine->run_until(1'000'000'000) == Pause::Asked);
    CHECK(world.machine->outcome().kind == Outcome::Kind::PoweredOff);
    CHECK(world.machine->outcome().text == "b: the guest powered off");
    CHECK(world.console == "bx");
    CHECK(world.machine->instructions() < 2'100'000);  // b's: a does not run beside it
}

TEST_CASE("machine: a triple fault ends the machine and says where", "[machine]") {
    World world;
    world.kernel("a", {0xcd, 0x03});  // int 3 without an IDT
    REQUIRE(world.create("[[child]]\nname = \"a\"\nkernel = \"a\"\n"));
    CHECK(world.machine->run_until(1'000'000) == Pause::Asked);
    CHECK(world.machine->outcome().kind == Outcome::Kind::Shutdown);
    CHECK(world.machine->outcome().text == "a: triple fault; last instruction at 0x200080");
}

TEST_CASE("machine: the hypervisor's memory may be large", "[machine]") {
    World world;
    world.kernel("a", kPowerOff + kForever);
    auto created = world.create("memory = \"5 GiB\"\n[[child]]\nname = \"a\"\nkernel = \"a\"\n");
    INFO((created ? "" : created.error().text));
    REQUIRE(created);
    CHECK(world.machine->run_until(1'000'000) == Pause::Asked);
    CHECK(world.machine->outcome().kind == Outcome::Kind::PoweredOff);
}

TEST_CASE("machine: a run that was stopped goes on", "[machine]") {
    World world;
    world.stop_at_console = true;
    world.kernel("a", kPrintX + kPrintX + kPowerOff + kForever);
    REQUIRE(world.create("[[child]]\nname = \"a\"\nkernel = \"a\"\n"));
    CHECK(world.machine->run_until(1'000'000) == Pause::Asked);
    CHECK(world.console == "ax");
    CHECK(world.machine->run_until(1'000'000) == Pause::Asked);
    CHECK(world.console == "axax");
    CHECK(world.machine->run_until(1'000'000) == Pause::Asked);
    CHECK(world.machine->outcome().kind == Outcome::Kind::PoweredOff);
}

TEST_CASE("machine: nothing is written when it cannot be built", "[machine][storage]") {
    World world;
    world.kernel("good", kForever);
    test::write_file(world.dir / "bad", Bytes(4096, 'x'));
    test::write_file(world.dir / "disk.img", Bytes(4096));
    test::write_file(world.dir / "odd.img", Bytes(1000));
    const auto child = [](const std::string& name, const std::string& kernel) {
        return "[[child]]\nname = \"" + name + "\"\nkernel = \"" + kernel + "\"\n";
    };
    const auto disk = [](const std::string& image, const std::string& overlay) {
        return "[[child.disk]]\nimage = \"" + image + "\"\noverlay = \"" + overlay + "\"\n";
    };
    const std::string texts[] = {
        child("a", "bad") + disk("disk.img", "new.vhd"),
        child("a", "good") + disk("disk.img", "new.vhd") + child("b", "bad"),
        child("a", "good") + disk("disk.img", "new.vhd") + disk("odd.img", "other.vhd"),
        child("a", "good") + disk("disk.img", "new.vhd") + disk("disk.img", "none/other.vhd"),
        child("a", "good") + disk("disk.img", "new.vhd") + disk("disk.img", "new.vhd"),
    };
    for (const std::string& text : texts) {
        INFO(text);
        CHECK_FALSE(world.create(text));
        CHECK_FALSE(std::filesystem::exists(world.dir / "new.vhd"));
    }
    CHECK(world.create(child("a", "good") + disk("disk.img", "new.vhd")));
    CHECK(std::filesystem::exists(world.dir / "new.vhd"));
}
