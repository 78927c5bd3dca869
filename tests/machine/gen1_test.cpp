// Generation 1: what its configuration may say, its board as a guest's accesses see it, two ways to one disk (rows B-04,
// B-13, B-17, D-02, D-41, D-98).
#include <catch2/catch.hpp>
#include <cstring>

#include "hv/vmbus/channel.h"
#include "hv/spec/storvsc.h"
#include "machine/child_machine.h"
#include "machine/machine.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/memory_disk.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;
namespace pci = devices::pci;

namespace {

struct World {
    test::TempDir dir;
    std::unique_ptr<Machine> machine;

    explicit World(const std::string& more = "") {
        test::write_file(dir / "kernel", test::image_with({0xeb, 0xfe}, {0xf4}, 0));  // for ever
        test::write_file(dir / "disk.raw", std::vector<u8>(1 << 20));
        const auto config = parse_config("[hypervisor]\n[[child]]\nname = \"a\"\ngeneration = 1\nkernel = \"kernel\"\n"
                                         "memory = \"64 MiB\"\n" + more,
                                         "m.toml", dir / ".", {});
        REQUIRE(config);
        MachineOptions options;
        options.engine = MachineOptions::EngineKind::Step;
        auto made = Machine::create(*config, std::move(options));
        if (!made) FAIL(made.error().text);
        machine = std::move(*made);
    }
    ChildMachine& child() { return *machine->children().front(); }
    hv::Vp& vp() { return *child().partition().vps().front(); }
    u32 in(u16 port, unsigned size) { return child().parent().port_read(vp(), port, size); }
    void out(u16 port, unsigned size, u32 value) { child().parent().port_write(vp(), port, size, value); }
    u32 config(u32 device, u32 function, u32 offset) {
        out(pci::kConfigAddressPort, 4, pci::kConfigEnable | device << 11 | function << 8 | offset);
        return in(pci::kConfigDataPort, 4);
    }
    void config(u32 device, u32 function, u32 offset, u32 value) {
        out(pci::kConfigAddressPort, 4, pci::kConfigEnable | device << 11 | function << 8 | offset);
        out(pci::kConfigDataPort, 4, value);
    }
    template <class T>
    T peek(u64 gpa) {
        T value{};
        REQUIRE(child().partition().read_memory(Gpa(gpa), &value, sizeof value));
        return value;
    }
};

std::string wrong(const std::string& child) {
    const auto config = parse_config("[hypervisor]\n[[child]]\n" + child, "m.toml", ".", {});
    if (!config) return config.error().text;
    const auto ok = check_config(*config);
    return ok ? "" : ok.error().text;
}

}  // namespace

TEST_CASE("gen1: what only a partition with a PC's chips may have", "[machine][gen1]") {
    const std::string kernel = "kernel = \"/bin/sh\"\n", disk = "[[child.disk]]\nimage = \"/bin/sh\"\n";
    CHECK(wrong("generation = 1\n" + kernel).empty());
    CHECK(wrong("generation = 1\n" + kernel + disk + "bus = \"ide\"\n").empty());
    CHECK(wrong("generation = 1\nfirmware = \"/bin/sh\"\n").empty());
    CHECK(wrong("generation = 1\nenlightenments = \"none\"\n" + kernel).empty());
    CHECK(wrong(kernel + disk + "bus = \"ide\"\n").find("m.toml:6:7: bus \"ide\" is not available in a generation 2 partition") == 0);
    CHECK(wrong("generation = 1\n" + kernel + disk + "bus = \"ahci\"\n").find("use bus = \"vmbus\" or \"ide\"") != std::string::npos);
    CHECK(wrong("generation = 1\n" + kernel + disk + "bus = \"ide\"\nlun = 1\n").find("lun is for bus = \"vmbus\"") != std::string::npos);
    CHECK(wrong("firmware = \"/bin/sh\"\n").find("m.toml:3:12: a BIOS is for partitions of generation 1") == 0);
    CHECK(wrong("enlightenments = \"none\"\n" + kernel).find("for partitions of generation 1") != std::string::npos);
    CHECK(wrong("generation = 1\nfirmware = \"/bin/sh\"\n" + kernel).find("kernel is not for firmware") != std::string::npos);
    CHECK(wrong("generation = 1\n").find("or firmware = \"seabios\"") != std::string::npos);
    CHECK(wrong("generation = 1\nvideo_bios = \"/bin/sh\"\n" + kernel).find("video_bios is for firmware") != std::string::npos);
    const auto missing = parse_config("[hypervisor]\n[[child]]\ngeneration = 1\nfirmware = \"/none\"\n", "m.toml", ".", {});
    REQUIRE(missing);
    auto built = Machine::create(*missing, {});
    REQUIRE(!built);
    CHECK(built.error().text.find("m.toml:4:12: firmware \"/none\" does not exist. Write firmware = \"seabios\"") == 0);
    std::string five = "generation = 1\n" + kernel;
    for (int i = 0; i < 5; ++i) five += disk + "bus = \"ide\"\n";
    CHECK(wrong(five).find("more than 4 disks") != std::string::npos);
}

TEST_CASE("gen1: the board is a 440BX with a PIIX4, reached by configuration ports (B-17)", "[machine][gen1]") {
    World w("  [[child.disk]]\n  bus = \"ide\"\n  image = \"disk.raw\"\n");
    CHECK(w.config(0, 0, 0) == 0x71928086);
    CHECK(w.config(7, 0, 0) == 0x71108086);
    CHECK(w.config(7, 1, 0) == 0x71118086);
    CHECK(w.config(7, 1, 8) >> 8 == 0x010180);
    CHECK(w.config(7, 3, 0) == 0x71138086);
    CHECK(w.config(7, 3, 0x40) == (board::kPmBase | 1u));
    CHECK(w.config(8, 0, 0) == 0x53531414);
    CHECK(w.config(1, 0, 0) == 0xffffffff);
    // The chips answer: NMI reasons (B-04), interval timer, CMOS, 8042, COM1, both interrupt controllers.
    CHECK((w.in(0x61, 1) & 0xc0) == 0);
    w.out(0x43, 1, 0x00);
    CHECK(w.in(0x40, 1) != 0xff);
    CHECK((w.in(0x64, 1) & 0xc0) == 0);
    CHECK(w.in(0x3fd, 1) == 0x60);
    CHECK(w.in(0x21, 1) != w.in(0xea, 1));
    // The disk is a drive in front of the driver.
    CHECK(w.in(0x1f7, 1) == 0x50);
    CHECK(w.in(0x177, 1) == 0x00);
}

TEST_CASE("gen1: the video's memory follows its BAR, and its text window is a VGA's", "[machine][gen1]") {
    World w;
    CHECK(w.config(8, 0, 0x10) == board::kLowGapBase);
    const u32 mark = 0x12345678;
    REQUIRE(w.child().partition().write_memory(Gpa(board::kLowGapBase), &mark, sizeof mark));
    w.config(8, 0, 0x10, 0xfa000000);
    CHECK_FALSE(w.child().partition().contains(Gpa(board::kLowGapBase)));
    CHECK(w.peek<u32>(0xfa000000) == mark);
    w.config(8, 0, 4, 0);  // decoding off
    CHECK_FALSE(w.child().partition().contains(Gpa(0xfa000000)));
    w.config(8, 0, 0x10, 0x10000000);  // over RAM: nowhere
    w.config(8, 0, 4, 3);
    CHECK(w.peek<u32>(0x10000000 % (64 << 20)) == 0);
    CHECK_FALSE(w.child().partition().contains(Gpa(0xa0000)));
    CHECK(w.child().partition().contains(Gpa(0xc0000)));
    World none("  [child.devices]\n  video = false\n");
    CHECK(none.config(8, 0, 0) == 0xffffffff);
    CHECK(none.child().board()->vga() == nullptr);
}

TEST_CASE("gen1: systems find names by which drivers leave emulated disks to VMBus", "[machine][gen1]") {
    World w;
    const auto anchor = w.peek<std::array<char, 4>>(0xfe000);
    CHECK(std::string(anchor.data(), 4) == "_SM_");
    const u32 table = w.peek<u32>(0xfe018);
    CHECK(table == 0xfe020);
    std::string text(w.peek<u16>(0xfe016), '\0');
    REQUIRE(w.child().partition().read_memory(Gpa(table), text.data(), text.size()));
    CHECK(text.find("Microsoft Corporation") != std::string::npos);
    CHECK(text.find("Virtual Machine") != std::string::npos);
    u8 sum = 0;
    for (u32 i = 0; i < 0x1f; ++i) sum = static_cast<u8>(sum + w.peek<u8>(0xfe000 + i));
    CHECK(sum == 0);
}

TEST_CASE("gen1: each IDE disk has an accelerator, the target in its instance (D-02, D-41)", "[machine][gen1]") {
    std::string disks;
    for (int i = 0; i < 3; ++i) disks += "  [[child.disk]]\n  bus = \"ide\"\n  image = \"disk.raw\"\n";
    World w(disks + "  [[child.disk]]\n  image = \"disk.raw\"\n");
    std::vector<hv::vmbus::Offer> offers;
    for (const auto& [relid, channel] : w.child().parent().server().channels())
        if (channel->offer().type == hv::kIdeAcceleratorClass) offers.push_back(channel->offer());
    REQUIRE(offers.size() == 3);
    CHECK(hv::to_string(offers[0].instance) == "00000000-0000-8899-0000-000000000000");
    CHECK(hv::to_string(offers[1].instance) == "00000000-0001-8899-0000-000000000000");
    CHECK(hv::to_string(offers[2].instance) == "00000001-0000-8899-0000-000000000000");
    CHECK(offers[1].user_data[3] == 1);
    CHECK(offers[1].user_data[8] == 2);
    CHECK(offers[0].sub_channel == 0);
    const auto& storage = w.child().parent().storage();
    REQUIRE(storage.size() == 4);
    REQUIRE(storage[1]->disks().size() == 1);
    CHECK(storage[1]->disks()[0].target == 1);
    CHECK(storage[1]->disks()[0].lun == 0);
    CHECK(storage[3]->name() == "a.scsi0");
    CHECK(w.machine->disks().size() == 4);
}

TEST_CASE("gen1: while the accelerator is in use the emulated disk cannot be written", "[machine][gen1]") {
    auto medium = std::make_unique<test::MemoryDisk>(1 << 16);
    test::MemoryDisk& disk = *medium;
    SharedDisk shared(std::move(medium));
    const auto emulated = shared.emulated(), accelerated = shared.accelerated();
    const std::vector<u8> ones(512, 1), twos(512, 2);
    std::vector<u8> read(512);
    CHECK(emulated->write(0, ones));
    CHECK_FALSE(emulated->read_only());
    shared.set_accelerated(true);
    CHECK(emulated->read_only());
    CHECK_FALSE(emulated->write(0, twos));
    CHECK_FALSE(emulated->discard(0, 512));
    CHECK(emulated->read(0, read));
    CHECK(read == ones);
    CHECK(accelerated->write(0, twos));
    CHECK_FALSE(accelerated->read_only());
    CHECK(emulated->flush());
    CHECK(disk.flushes == 1);
    shared.set_accelerated(false);
    CHECK(emulated->write(512, twos));
    CHECK(accelerated->read(512, read));
    CHECK(read == twos);
}
