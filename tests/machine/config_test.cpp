#include <catch2/catch.hpp>

#include "machine/config.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;

namespace {

Result<Config> parse(const std::string& text, const std::vector<Override>& overrides = {}) {
    return parse_config(text, "m.toml", "/dir", overrides);
}

std::string error_of(const std::string& text, const std::vector<Override>& overrides = {}) {
    auto config = parse(text, overrides);
    REQUIRE(!config);
    CHECK(config.error().code == Error::Code::Usage);
    return config.error().text;
}

}  // namespace

TEST_CASE("config: a full description loads with its values and relative paths", "[machine][config]") {
    auto config = parse(R"(
[machine]
cpu = "verdigris-v3"
memory = "2 GiB"
processors = 2
[hypervisor]
[[child]]
name = "a"
memory = "256 MiB"
kernel = "k/vmlinuz"
cmdline = "console=ttyS0"
  [[child.disk]]
  image = "/abs/root.vhd"
  overlay = "root.ovl"
  [[child.disk]]
  image = "b.vhd"
  lun = 7
[[child]]
name = "b"
[devices]
isa_debug_exit = 0xf4
[test]
expect = ["login:", "done"]
guest_time = "120 s"
)");
    REQUIRE(config);
    CHECK(config->machine.memory.bytes == u64{2} << 30);
    CHECK(config->hypervisor);
    CHECK(!config->boot);
    REQUIRE(config->children.size() == 2);
    CHECK(config->children[0].kernel == "/dir/k/vmlinuz");
    CHECK(config->children[1].name == "b");
    REQUIRE(config->children[0].disks.size() == 2);
    CHECK(config->children[0].disks[0].image == "/abs/root.vhd");
    CHECK(config->children[0].disks[0].overlay == "/dir/root.ovl");
    CHECK(!config->children[0].disks[0].lun);
    CHECK(config->children[0].disks[1].lun == 7);
    CHECK(config->children[0].disks[1].at.table.line == 15);
    CHECK(config->devices.isa_debug_exit == 0xf4);
    REQUIRE(config->test);
    CHECK(config->test->expect == std::vector<std::string>{"login:", "done"});
    CHECK(config->test->guest_time.ns == 120'000'000'000);
}

TEST_CASE("config: mistakes say file, line, column, and what would do", "[machine][config]") {
    CHECK(error_of("[machine]\nmemmory = \"1 GiB\"\n") == "m.toml:2:1: unknown key 'memmory' in [machine]; did you mean 'memory'?");
    CHECK(error_of("[machin]\n") == "m.toml:1:2: unknown key 'machin' at the top level; did you mean 'machine'?");
    CHECK(error_of("[machine]\nmemory = \"1 gib\"\n").find("m.toml:2:10: memory: \"1 gib\" is not a number with a unit") == 0);
    CHECK(error_of("[machine]\nmemory = 12\n") == "m.toml:2:10: memory must be a string in quotes");
    CHECK(error_of("[machine]\nprocessors = 17\n") == "m.toml:2:14: processors must be a whole number from 1 to 16");
    CHECK(error_of("[machine]\nprocessors = 0\n").find("from 1 to 16") != std::string::npos);
    CHECK(error_of("[machine]\nscheduler = \"fast\"\n") == "m.toml:2:13: scheduler must be one of \"deterministic\", \"parallel\"");
    CHECK(error_of("[child]\n").find("[[child]]") != std::string::npos);
    CHECK(error_of("[machine\n").find("m.toml:1:") == 0);
    CHECK(error_of("[[child]]\n[[child.disk]]\nimgae = \"x\"\n") == "m.toml:3:1: unknown key 'imgae' in [child.disk]; did you mean 'image'?");
}

TEST_CASE("config: settings on the command line change any key", "[machine][config]") {
    const std::string text = "[machine]\nprocessors = 2\n[hypervisor]\n[[child]]\nname = \"a\"\n";
    auto config = parse(text, {{"machine.processors", "4"}, {"machine.memory", "64 MiB"}, {"child.memory", "\"1 GiB\""},
                               {"child.0.disk.0.image", "x.vhd"}, {"test.expect", "[\"ok\"]"}, {"devices.testdev", "true"}});
    REQUIRE(config);
    CHECK(config->machine.processors == 4);
    CHECK(config->machine.memory.bytes == u64{64} << 20);
    CHECK(config->children[0].memory.bytes == u64{1} << 30);
    REQUIRE(config->children[0].disks.size() == 1);
    CHECK(config->children[0].disks[0].image == "/dir/x.vhd");
    CHECK(config->test->expect.size() == 1);
    CHECK(config->devices.testdev);
    CHECK(error_of(text, {{"machine.procesors", "4"}}) ==
          "-s machine.procesors=4: unknown key 'procesors' in [machine]; did you mean 'processors'?");
    CHECK(error_of(text, {{"machine.processors", "99"}}) ==
          "-s machine.processors=99: processors must be a whole number from 1 to 16");
    CHECK(error_of(text, {{"child.memory", "5"}}).find("-s child.memory=5: memory: \"5\" is not a number with a unit") == 0);
    CHECK(error_of(text, {{"tset.expect", "[\"a\"]"}}) ==
          "-s tset.expect=[\"a\"]: unknown key 'tset' at the top level; did you mean 'test'?");
    // A shell eats the quotes: what can only be text is text.
    for (const auto& [key, value] : std::vector<Override>{{"child.cmdline", "1"}, {"child.cmdline", "true"}, {"child.cmdline", ""},
                                                          {"machine.clock", "2026-01-01T00:00:00Z"}}) {
        auto set = parse(text, {{key, value}});
        REQUIRE(set);
        CHECK((key == "machine.clock" ? set->machine.clock : set->children[0].cmdline) == value);
    }
    CHECK(error_of(text, {{"child.5.name", "x"}}).find("not that many") != std::string::npos);
    CHECK(error_of(text, {{"machine..x", "1"}}).find("empty part") != std::string::npos);
    CHECK(error_of(text, {{"machine.processors.x", "1"}}).find("not a table") != std::string::npos);
}

TEST_CASE("config: every table name is known, also those that are left out", "[machine][config]") {
    CHECK(error_of("[bot]\n") == "m.toml:1:2: unknown key 'bot' at the top level; did you mean 'boot'?");
    CHECK(error_of("[hypervsor]\n").find("did you mean 'hypervisor'?") != std::string::npos);
    CHECK(error_of("[x_y_z]\n").find("known keys: machine, hypervisor, boot, disk, nic, child, devices, test") != std::string::npos);
}

TEST_CASE("config: network adapters that cannot be built are refused where they are written", "[machine][config]") {
    const auto check = [](const std::string& nic) {
        auto config = parse("[boot]\nkernel = \"/bin/sh\"\n[[nic]]\n" + nic);
        REQUIRE(config);
        const auto ok = check_config(*config);
        return ok ? std::string() : ok.error().text;
    };
    const std::string slirp = "bus = \"e1000e\"\nbackend = \"slirp\"\n";
    CHECK(check(slirp + "mac = \"52:54:00:12:34:56\"\nhostfwd = [\"tcp:2222-22\"]\nhost_access = true\npcap = \"x\"\n").empty());
    CHECK(check("bus = \"e1000e\"\n").empty());
    CHECK(check("").find("m.toml:3:1: bus \"vmbus\" is not available") == 0);
    CHECK(check("bus = \"virtio\"\n").empty());
    CHECK(check("bus = \"e1000e\"\nbackend = \"tap\"\n").find("not available yet") != std::string::npos);
    CHECK(check("bus = \"e1000e\"\nbackend = \"pcap\"\n").find("use pcap = \"FILE\"") != std::string::npos);
    CHECK(check("bus = \"e1000e\"\nhostfwd = [\"tcp:1-1\"]\n").find("hostfwd needs backend = \"slirp\"") != std::string::npos);
    CHECK(check("bus = \"e1000e\"\nhost_access = true\n").find("host_access needs") != std::string::npos);
    CHECK(check(slirp + "hostfwd = [\"22\"]\n").find("does not forward a port") != std::string::npos);
    CHECK(check(slirp + "mac = \"ff:ff:ff:ff:ff:ff\"\n").find("m.toml:6:7:") == 0);
    CHECK(check(slirp + "pcap = \"x\"\n[[nic]]\n" + slirp + "pcap = \"x\"\n").find("already takes the frames") != std::string::npos);
    std::string five = slirp;
    for (int i = 0; i < 4; ++i) five += "[[nic]]\n" + slirp;
    CHECK(check(five).find("there is room for 4") != std::string::npos);
}

TEST_CASE("config: network adapters of partitions, and what connects them, are refused where they are written", "[machine][config]") {
    const auto check = [](const std::string& nics) {
        auto config = parse("[hypervisor]\n[[child]]\nkernel = \"/bin/sh\"\n" + nics);
        REQUIRE(config);
        const auto ok = check_config(*config);
        return ok ? std::string() : ok.error().text;
    };
    const std::string lan = "[[child.nic]]\nbackend = \"switch\"\nswitch = \"lan\"\n";
    CHECK(check("[[child.nic]]\n").empty());
    CHECK(check(lan + "mac = \"52:54:00:12:34:56\"\npcap = \"x\"\n" + lan).empty());
    CHECK(check("[[child.nic]]\nbackend = \"slirp\"\nhost_access = true\n").empty());
    CHECK(check("[[child.nic]]\nbackend = \"pcap\"\nframes = \"/bin/sh\"\n").empty());
    CHECK(check("[[child.nic]]\nbus = \"e1000e\"\n").find("m.toml:5:7: bus \"e1000e\" is not available for network adapters of a partition") == 0);
    CHECK(check("[[child.nic]]\nbackend = \"switch\"\n").find("needs a name") != std::string::npos);
    CHECK(check("[[child.nic]]\nswitch = \"lan\"\n").find("switch needs backend = \"switch\"") != std::string::npos);
    CHECK(check("[[child.nic]]\nbackend = \"pcap\"\n").find("add frames = \"FILE\"") != std::string::npos);
    CHECK(check("[[child.nic]]\nbackend = \"pcap\"\nframes = \"/none\"\n").find("capture \"none\" does not exist") != std::string::npos);
    CHECK(check("[[child.nic]]\nframes = \"/bin/sh\"\n").find("frames needs backend = \"pcap\"") != std::string::npos);
    const std::string one = "mac = \"52:54:00:12:34:56\"\n", second = "[[child]]\nname = \"b\"\nkernel = \"/bin/sh\"\n";
    CHECK(check(lan + one + second + lan + one).find("is already the address of another adapter on switch \"lan\"") != std::string::npos);
    CHECK(check(lan + one + second + "[[child.nic]]\nbackend = \"switch\"\nswitch = \"dmz\"\n" + one).empty());
    CHECK(check(lan + "pcap = \"x\"\n" + second + lan + "pcap = \"x\"\n").find("already takes the frames") != std::string::npos);
    CHECK(check(lan + lan + lan + lan + lan).find("there is room for 4") != std::string::npos);
}

TEST_CASE("config: what is not a description is said to be none", "[machine][config]") {
    test::TempDir dir;
    const auto text_of = [](const std::string& path) {
        auto config = load_config(path, {});
        REQUIRE(!config);
        return config.error().text;
    };
    CHECK(text_of(dir / ".").find("cannot be read") != std::string::npos);
    CHECK(text_of(dir / "none.toml").find("cannot be read") != std::string::npos);
    test::write_file(dir / "vmlinuz", std::vector<u8>(2 << 20));
    CHECK(text_of(dir / "vmlinuz").find("verdigris run --kernel") != std::string::npos);
}

TEST_CASE("config: what is shown loads to the same description", "[machine][config]") {
    auto config = parse("[machine]\nmemory = \"3 MiB\"\n[hypervisor]\n[[child]]\nname = \"q\\\"x\"\nkernel = \"/k\"\n[[child.disk]]\nimage = "
                        "\"/i\"\n[test]\nexpect = [\"a\\\\d+\"]\nwall_time = \"90 s\"\n");
    REQUIRE(config);
    const std::string shown = show_config(*config);
    auto again = parse(shown);
    REQUIRE(again);
    CHECK(show_config(*again) == shown);
    CHECK(again->children[0].name == "q\"x");
    CHECK(again->test->expect[0] == "a\\d+");
    CHECK(again->test->wall_time.ns == 90'000'000'000);
}

TEST_CASE("config: what is shown keeps left-out units, empty and odd strings", "[machine][config]") {
    auto config = parse("[machine]\ncpu = \"\"\n[hypervisor]\n[[child]]\nname = \"a\\u007Fb\\u0000\"\n"
                        "[[child.disk]]\nimage = \"/i\"\n[[child.disk]]\nimage = \"/j\"\n");
    REQUIRE(config);
    const std::string shown = show_config(*config);
    auto again = parse(shown);
    REQUIRE(again);
    CHECK(show_config(*again) == shown);
    CHECK(again->machine.cpu.empty());
    CHECK(again->children[0].name == std::string_view("a\x7f" "b\0", 4));
    CHECK(!again->children[0].disks[1].lun);
}

TEST_CASE("config: a table name that is none is an error with its place", "[machine][config]") {
    for (const char* text : {"[=]", "[[=]]", "[ ;", "[", "[a.;]"}) {
        INFO(text);
        CHECK(error_of(text).find("m.toml:1:") == 0);
    }
}

TEST_CASE("config: bytes that are not UTF-8 are an error with their place", "[machine][config]") {
    for (const char* bad : {"\xff", "\xc0\x80", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf3\x01",
                            "\x80", "\xe2\x82"}) {
        CHECK(error_of(std::string("[machine]\ncpu = \"") + bad + "\"").find("m.toml:2:8: the byte 0x") == 0);
        CHECK(error_of("", {{"child.0.name", bad}}).find("not UTF-8") != std::string::npos);
    }
    const std::string good = "\xc2\x80 \xe0\xa0\x80 \xed\x9f\xbf \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf";
    auto config = parse("[machine]\ncpu = \"" + good + "\"");
    REQUIRE(config);
    CHECK(config->machine.cpu == good);
}

TEST_CASE("config: letters that are not ASCII are no white space", "[machine][config]") {
    for (const char* text : {"clock = 2026-01-01T00:0\xd0\xbf", "memory = 1\xc3\xa9", "\xc3\xa9 = 1", "[\xc3\xa9]", "a = true\xd1\x80"}) {
        INFO(text);
        CHECK(error_of(text).find("m.toml:1:") == 0);
    }
    auto config = parse("[machine]\ncpu = \"\"\"a\\\n  \xc3\xa9\"\"\"  # \xd0\xbf");
    REQUIRE(config);
    CHECK(config->machine.cpu == "a\xc3\xa9");
}

TEST_CASE("config: the schema describes every section", "[machine][config]") {
    const std::string schema = config_schema();
    for (const char* word : {"\"machine\"", "\"child\"", "\"overlay\"", "\"isa_debug_exit\"", "\"fail_on\"", "additionalProperties"}) {
        CHECK(schema.find(word) != std::string::npos);
    }
}

TEST_CASE("config: units, durations and clocks", "[machine][config]") {
    CHECK(parse_byte_size("512 MiB")->bytes == u64{512} << 20);
    CHECK(parse_byte_size("512MiB")->bytes == u64{512} << 20);
    CHECK(!parse_byte_size("512"));
    CHECK(!parse_byte_size("-1 MiB"));
    CHECK(!parse_byte_size("99999999999999 TiB"));
    CHECK(parse_duration("5 min")->ns == u64{300} * 1000 * 1000 * 1000);
    CHECK(!parse_duration("5 minutes"));
    CHECK(parse_duration("1.5s")->ns == 1'500'000'000);
    CHECK(parse_duration("0.000000001 s")->ns == 1);
    CHECK(parse_byte_size("1.5 GiB")->bytes == u64{1536} << 20);
    for (const char* const wrong : {"1.", "1. s", ".5 s", "1.5", "1.5.5 s", "0.5 ns", "1.0000000001 s", "1.-5 s"})
        CHECK(!parse_duration(wrong));
    CHECK(*parse_clock("1970-01-01T00:00:00Z") == 0);
    CHECK(*parse_clock("2026-01-01T00:00:00Z") == 1767225600);
    CHECK(*parse_clock("2024-02-29T12:34:56Z") == 1709210096);
    CHECK(!parse_clock("2025-02-29T00:00:00Z"));
    CHECK(!parse_clock("2026-01-01 00:00:00Z"));
    CHECK(!parse_clock("2026-13-01T00:00:00Z"));
    CHECK(to_string(ByteSize{u64{512} << 20}) == "512 MiB");
    CHECK(to_string(Duration{90'000'000'000}) == "90 s");
}

TEST_CASE("config: what cannot be built is said before anything is built", "[machine][config]") {
    const auto check = [](const std::string& text) {
        auto config = parse(text);
        REQUIRE(config);
        auto ok = check_config(*config);
        REQUIRE(!ok);
        return ok.error().text;
    };
    CHECK(check("").find("nothing to boot") != std::string::npos);
    CHECK(check("[[child]]\n").find("[hypervisor]") != std::string::npos);
    CHECK(check("[hypervisor]\n").find("[[child]]") != std::string::npos);
    CHECK(check("[hypervisor]\n[[child]]\n").find("m.toml:2:1: child \"child\" has no kernel") == 0);
    CHECK(check("[hypervisor]\n[[child]]\nkernel = \"/no/such/vmlinuz\"\n").find("does not exist (looked in /no/such)") != std::string::npos);
    CHECK(check("[hypervisor]\n[[child]]\nkernel = \"/bin/sh\"\n[[child.disk]]\nimage = \"/no/d.vhd\"\n").find("qemu-img create") != std::string::npos);
    CHECK(check("[hypervisor]\n[[child]]\nkernel = \"/bin/sh\"\nmemory = \"1 MiB\"\n").find("64 MiB") != std::string::npos);
    CHECK(check("[machine]\nscheduler = \"parallel\"\n[hypervisor]\n[boot]\nkernel = \"/bin/sh\"\n").find("parent partition") != std::string::npos);
    CHECK(check("[hypervisor]\n[[child]]\nkernel = \"/bin/sh\"\n[[child.disk]]\nimage = \"/no/d.vhd\"\n").find("m.toml:5:9: disk") == 0);
    CHECK(check("[machine]\ncpu = \"verdigris-v9\"\n[boot]\nkernel = \"/bin/sh\"\n").find("m.toml:2:7: unknown CPU model") == 0);
    const std::string child = "[[child]]\nkernel = \"/bin/sh\"\n", disk = "[[child.disk]]\nimage = \"/bin/sh\"\n";
    CHECK(check("[hypervisor]\n" + child + "cpu = \"x\"\n").find("m.toml:4:7: unknown CPU model") == 0);
    CHECK(check("[hypervisor]\n" + child + child).find("m.toml:4:1: a partition \"child\" is there already (m.toml:2:1)") == 0);
    CHECK(check("[hypervisor]\n" + child + disk + "lun = 1\n" + disk + "lun = 1\n").find("m.toml:9:7: controller 0 target 0 already") == 0);
    CHECK(check("[hypervisor]\n" + child + disk + "overlay = \"/o\"\n" + disk + "overlay = \"/./o\"\n").find("m.toml:9:11: ") == 0);
    CHECK(check("[hypervisor]\nroot_scheduler = true\n" + child).find("m.toml:2:18: root_scheduler") == 0);
    CHECK(check("[hypervisor]\n" + child + "[devices]\ndisplay = true\n").find("m.toml:5:11: test devices") == 0);
    const std::string pc = "[boot]\nkernel = \"/bin/sh\"\n[[disk]]\nimage = \"/no/d.vhd\"\n";
    CHECK(check(pc).find("m.toml:3:1: bus \"vmbus\" is not available for disks of the machine itself") == 0);
    CHECK(check(pc + "bus = \"ahci\"\n").find("m.toml:4:9: disk \"d.vhd\" does not exist") == 0);
    CHECK(check(pc + "bus = \"nvme\"\n").find("m.toml:4:9: disk \"d.vhd\" does not exist") == 0);
    CHECK(check(pc + "bus = \"ide\"\n").find("m.toml:4:9: disk \"d.vhd\" does not exist") == 0);
    CHECK(check(pc + "bus = \"nvme\"\nlun = 1\n").find("m.toml:6:7: lun is for bus = \"vmbus\"") == 0);
    CHECK(check("[hypervisor]\n[boot]\nkernel = \"/bin/sh\"\n" + child).find("m.toml:4:1: a guest as parent partition creates its own") == 0);
    CHECK(check("[hypervisor]\n" + child + "[devices]\ntestdev = true\n").find("m.toml:5:11: test devices") == 0);
    CHECK(check("[hypervisor]\n" + child + "[devices]\niommu = true\n").find("m.toml:5:9: test devices") == 0);
    const std::string unidentified = "[devices]\nioapic_source_id = false\n";
    CHECK(check(pc + "bus = \"ide\"\n" + unidentified).find("m.toml:7:20: ioapic_source_id is about") == 0);
    CHECK(check("[hypervisor]\n[boot]\nkernel = \"/bin/sh\"\n" + unidentified).find("m.toml:5:20: ioapic_source_id") == 0);
    CHECK(check("[machine]\nmemory = \"1 MiB\"\n[boot]\nkernel = \"/bin/sh\"\n").find("m.toml:2:10: memory") == 0);
    CHECK(check("[machine]\nclock = \"soon\"\n[boot]\nkernel = \"/bin/sh\"\n").find("not a time") != std::string::npos);
}

TEST_CASE("config: the IOMMU is there under a hypervisor with physical devices, or where it is asked for",
          "[machine][config]") {
    const auto has = [](const std::string& text) {
        const auto config = parse_config(text, "m.toml", ".", {});
        REQUIRE(config);
        const auto again = parse_config(show_config(*config), "again", ".", {});
        REQUIRE(again);
        CHECK(again->has_iommu() == config->has_iommu());
        return config->has_iommu();
    };
    const std::string boot = "[boot]\nkernel = \"/bin/sh\"\n", hypervisor = "[hypervisor]\n";
    CHECK_FALSE(has(boot));
    CHECK(has(boot + "[devices]\niommu = true\n"));
    CHECK(has(hypervisor + boot));
    CHECK_FALSE(has(hypervisor + boot + "[devices]\niommu = false\n"));
    CHECK_FALSE(has(hypervisor + "[[child]]\nkernel = \"/bin/sh\"\n"));
}

TEST_CASE("config: files that a test needs are relative to its description", "[machine][config]") {
    const auto config = parse_config("[test]\nrequires = [\"a\", \"/b\", \"../c\"]\nstart = [\"x\"]\nexit_code = 4\n", "t.toml", "dir", {});
    REQUIRE(config);
    CHECK(config->test->required == std::vector<std::string>{"dir/a", "/b", "c"});
    CHECK(config->test->exit_code == 4);
    CHECK(!parse_config("[test]\nexit_code = 256\n", "t.toml", "dir", {}));
}
