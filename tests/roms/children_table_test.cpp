// The parent's table of children.
#include <catch2/catch.hpp>

#include "roms/parent/children_table.h"

using namespace vg;
using namespace vg::parent;
using Catch::Matchers::Contains;
using Catch::Matchers::Equals;

namespace {

std::string error_of(const std::string& text) {
    const auto table = ChildrenTable::parse(text);
    INFO(text);
    REQUIRE(!table);
    CHECK(table.error().code == Error::Code::Usage);
    return table.error().text;
}
std::string in_child(const std::string& lines) { return error_of("[child a]\nkernel = k\n" + lines); }

}  // namespace

TEST_CASE("children table: every key, comments, spaces, line ends of either kind", "[roms][children]") {
    const auto table = ChildrenTable::parse(
        "# the store\r\n"
        "exit = when-children-stop\r\n"
        "\n"
        "  [child web-1]\n"
        "kernel=vmlinuz\n"
        "initrd = boot/initrd.img\n"
        "cmdline =  console=ttyS0 root=/dev/sda # not a comment \n"
        "memory = 512\n"
        "processors = 4\n"
        "disk = web.vhd\n"
        "disk = data disk.vhd\n"
        "autostart = yes\n"
        "[child\tdb]\n"
        "kernel = vmlinuz");
    REQUIRE(table);
    CHECK(table->exit == ExitRule::WhenChildrenStop);
    REQUIRE(table->children.size() == 2);
    const ChildEntry& web = table->children[0];
    CHECK(web.name == "web-1");
    CHECK(web.kernel == "vmlinuz");
    CHECK(web.initrd == "boot/initrd.img");
    CHECK(web.cmdline == "console=ttyS0 root=/dev/sda # not a comment");
    CHECK(web.memory_bytes == u64{512} << 20);
    CHECK(web.processors == 4);
    CHECK(web.disks == std::vector<std::string>{"web.vhd", "data disk.vhd"});
    CHECK(web.autostart);
    const ChildEntry& db = table->children[1];
    CHECK(db.name == "db");
    CHECK(db.memory_bytes == u64{256} << 20);
    CHECK(db.processors == 1);
    CHECK(db.initrd.empty());
    CHECK(db.disks.empty());
    CHECK(!db.autostart);
    const auto nothing = ChildrenTable::parse("");
    REQUIRE(nothing);
    CHECK(nothing->children.empty());
    CHECK(nothing->exit == ExitRule::Never);
    CHECK(ChildrenTable::parse("exit = never"));
}

TEST_CASE("children table: an error says in which line and what is allowed", "[roms][children]") {
    CHECK_THAT(error_of("\n\nexit = later"), Equals("line 3: exit is \"later\", not when-children-stop or never"));
    CHECK_THAT(error_of("kernel = k"), Contains("line 1: kernel is not a key in front of the first [child NAME]"));
    CHECK_THAT(error_of("exit = never\nexit = never"), Equals("line 2: exit given twice"));
    CHECK_THAT(error_of("[guest a]"), Equals("line 1: \"[guest a]\" is not [child NAME]"));
    CHECK_THAT(error_of("[childa]"), Contains("is not [child NAME]"));
    CHECK_THAT(error_of("[child]"), Contains("is not [child NAME]"));
    CHECK_THAT(error_of("[child a"), Contains("is not [child NAME]"));
    CHECK_THAT(error_of("["), Contains("is not [child NAME]"));
    CHECK_THAT(error_of("[child a b]"), Contains("letters, digits, '-' and '_', which \"a b\" has not"));
    CHECK_THAT(error_of("[child " + std::string(33, 'x') + "]"), Contains("1 to 32"));
    CHECK_THAT(error_of("[child a]\nmemory = 64\n[child b]"), Equals("line 3: child a has no kernel"));
    CHECK_THAT(error_of("[child a]\n\n"), Equals("line 2: child a has no kernel"));
    CHECK_THAT(in_child("[child a]"), Equals("line 3: child a is there twice"));
    CHECK_THAT(in_child("kernel = k"), Equals("line 3: kernel given twice"));
    CHECK_THAT(in_child("memory = 15"), Equals("line 3: memory is \"15\", not a number from 16 to 1048576"));
    CHECK_THAT(in_child("memory = 1048577"), Contains("1048576"));
    CHECK_THAT(in_child("memory = 99999999999999999999999"), Contains("1048576"));
    CHECK_THAT(in_child("memory = -1"), Contains("not a number"));
    CHECK_THAT(in_child("memory = 64 MiB"), Contains("\"64 MiB\""));
    CHECK_THAT(in_child("processors = 0"), Contains("from 1 to 64"));
    CHECK_THAT(in_child("processors = 65"), Contains("from 1 to 64"));
    CHECK_THAT(in_child("autostart = true"), Equals("line 3: autostart is \"true\", not yes or no"));
    CHECK_THAT(in_child("initrd ="), Equals("line 3: initrd has no value"));
    CHECK_THAT(in_child("disk = " + std::string(257, 'x')), Contains("longer than 256 bytes"));
    CHECK_THAT(in_child("cmdline = " + std::string(2048, 'x')), Contains("longer than 2047 bytes"));
    CHECK_THAT(in_child("colour = red"), Contains("there are: kernel, initrd"));
    CHECK_THAT(in_child("disk = d\n[child b]\nkernel = k\ndisk = d"),
               Equals("line 6: disk \"d\" is a disk of child a already; two writers would destroy it"));
    CHECK_THAT(in_child("disk = d\ndisk = d"), Contains("child a already"));
    CHECK_THAT(in_child("\x01\x02"), Equals("line 3: \"??\" is neither [child NAME] nor KEY = VALUE"));
    std::string disks;
    for (u32 i = 0; i <= ChildrenTable::kMaxDisks; ++i) disks += "disk = " + std::to_string(i) + "\n";
    CHECK_THAT(in_child(disks), Equals("line 11: disk is there more than 8 times"));
    std::string children;
    for (u32 i = 0; i <= ChildrenTable::kMaxChildren; ++i)
        children += "[child c" + std::to_string(i) + "]\nkernel = k\n";
    CHECK_THAT(error_of(children), Equals("line 129: more than 64 children"));
    CHECK_THAT(error_of(std::string(ChildrenTable::kMaxBytes + 1, '\n')), Contains("more than 65536 bytes"));
}
