// Our own parent (roms/parent) with children that mean it no good: each ends alone, and nothing is left behind.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>

#include "hv/hypervisor.h"
#include "machine/machine.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using Catch::Matchers::Contains;

namespace {

struct ParentRun {
    /// @param children  names of guest programs, each a child with autostart
    /// @param mib       memory of each
    explicit ParentRun(const std::vector<std::string>& children, unsigned mib = 64) {
        std::string table = "exit = when-children-stop\n", members = "children.conf";
        for (const std::string& name : children) {
            std::filesystem::copy_file(std::string(VG_GUEST_IMAGES) + "/child_" + name + ".bin", dir / name);
            table +=
                "[child " + name + "]\nkernel = " + name + "\nmemory = " + std::to_string(mib) + "\nautostart = yes\n";
            members += " " + name;
        }
        test::write_file(dir / "children.conf", {table.begin(), table.end()});
        REQUIRE(std::system(("cd " + (dir / ".") + " && tar --format=ustar -cf store.img " + members).c_str()) == 0);
        auto config =
            machine::parse_config("[machine]\nmemory = \"512 MiB\"\n[hypervisor]\n[boot]\nkernel = \"" VG_PARENT
                                  "\"\n"
                                  "[[disk]]\nbus = \"ahci\"\nimage = \"store.img\"\nformat = \"raw\"\n",
                                  "m.toml", dir / ".", {});
        REQUIRE(config);
        machine::MachineOptions options;
        options.console = [this](const std::string&, u8 byte) { console += static_cast<char>(byte); };
        auto made = machine::Machine::create(*config, std::move(options));
        REQUIRE(made);
        machine = std::move(*made);
        machine->run_until(VTime{20} * 1'000'000'000);
        check_nothing_left();
    }

    /// Pages that the hypervisor holds or children map: none.
    void check_nothing_left() {
        hv::Hypervisor& hypervisor = *machine->hypervisor();
        CHECK(hypervisor.nodes().size() == 1);
        CHECK(hypervisor.root()->ports.empty());
        u64 deposited = 0, mapped = 0;
        for (const mmu::Region& region : machine->memory().regions()) {
            if (region.kind != mmu::RegionKind::Ram) continue;
            for (u64 at = 0; at < region.size; at += kPageSize) {
                deposited += hypervisor.ledger().deposited(region.base + at) ? 1 : 0;
                mapped += hypervisor.ledger().mappings(region.base + at);
            }
        }
        CHECK(mapped == 0);
        CHECK(deposited == 0);
    }

    test::TempDir dir;
    std::string console;
    std::unique_ptr<machine::Machine> machine;
};

using Kind = machine::Outcome::Kind;

}  // namespace

TEST_CASE("parent: children that power themselves off end the machine", "[machine][parent]") {
    ParentRun run({"good", "escape"});
    INFO(run.console);
    CHECK(run.machine->outcome().kind == Kind::PoweredOff);
    CHECK_THAT(run.console, Contains("[good] ok\r\n"));
    CHECK_THAT(run.console, Contains("parent: good: powered off; every page came back"));
    // A terminal is the user's: a child does not reach it with control characters, and its lines end.
    CHECK_THAT(run.console, Contains("[escape] ?[2Jxxx"));
    CHECK(run.console.find('\x1b') == std::string::npos);
    CHECK(run.console.find(std::string(1100, 'x')) == std::string::npos);
    CHECK_THAT(run.console, Contains("[escape] n\r\n"));
}

TEST_CASE("parent: a child that fails fails the run, and the others go on", "[machine][parent]") {
    ParentRun run({"string_io", "triple", "good"});
    INFO(run.console);
    CHECK(run.machine->outcome().kind == Kind::Reset);
    CHECK_THAT(run.console, Contains("parent: string_io: string I/O at port 0x3f8, rip 0x"));
    CHECK_THAT(run.console, Contains("is not emulated; every page came back"));
    CHECK_THAT(run.console, Contains("parent: triple: processor 0 shut down or asked for a reset at 0x"));
    CHECK_THAT(run.console, Contains("[good] ok\r\n"));
    CHECK_THAT(run.console, Contains("parent: good: powered off; every page came back"));
    CHECK_THAT(run.console, Contains("a child failed"));
}

TEST_CASE("parent: a child that floods it with messages harms itself only", "[machine][parent]") {
    ParentRun run({"flood", "good"});
    INFO(run.console);
    CHECK(run.machine->outcome().kind == Kind::PoweredOff);
    CHECK_THAT(run.console, Contains("[flood] d\r\n"));
    CHECK_THAT(run.console, Contains("flood: posts without taking its answers; a message is lost"));
    CHECK_THAT(run.console, Contains("parent: flood: powered off; every page came back"));
    CHECK_THAT(run.console, Contains("parent: good: powered off; every page came back"));
}

TEST_CASE("parent: a child that there is no memory for is refused, with nothing of it left", "[machine][parent]") {
    ParentRun run({"good", "escape"}, 300);
    INFO(run.console);
    CHECK(run.machine->outcome().kind == Kind::Reset);
    CHECK_THAT(run.console, Contains("parent: escape: 300 MiB are more than the "));
    CHECK_THAT(run.console, Contains("parent: good: powered off; every page came back"));
    CHECK(run.console.find("pages are lost") == std::string::npos);
}
