// A Linux root partition with /dev/mshv, and children that a monitor in it makes and destroys. Needs a kernel with
// CONFIG_MSHV_ROOT: $VG_MSHV_KERNEL, or build/guest/bzImage-mshv. Rows R-01..R-94.
#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "hv/hypervisor.h"
#include "hv/vp.h"
#include "machine/machine.h"
#include "machine/pc_machine.h"
#include "machine/root_devices.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"

using namespace vg;

namespace {

std::string find_file(const char* variable, const char* in_build) {
    if (const char* given = std::getenv(variable); given != nullptr && std::filesystem::exists(given)) return given;
    const std::string built = std::string(VG_GUEST_DIR) + "/" + in_build;
    return std::filesystem::exists(built) ? built : std::string();
}

std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// A "newc" archive of a few files and directories (Linux "initramfs buffer format").
class Archive {
  public:
    void add(const std::string& name, unsigned mode, const std::string& data = {}) {
        const unsigned fields[] = {++inode_, mode, 0, 0, 1, 0, static_cast<unsigned>(data.size()), 0, 0, 0, 0,
                                   static_cast<unsigned>(name.size() + 1), 0};
        bytes_ += "070701";
        for (const unsigned field : fields) {
            char text[9];
            std::snprintf(text, sizeof text, "%08X", field);
            bytes_ += text;
        }
        bytes_ += name;
        bytes_ += '\0';
        pad();
        bytes_ += data;
        pad();
    }
    std::string finish() {
        add("TRAILER!!!", 0);
        return bytes_;
    }

  private:
    void pad() { bytes_.resize((bytes_.size() + 3) & ~std::size_t{3}); }
    std::string bytes_;
    unsigned inode_ = 0;
};

struct RootRun {
    RootRun(const std::string& kernel, const std::string& child_kernel, const std::string& options, unsigned processors,
            bool root_scheduler, const std::vector<const char*>& buses = {}) {
        constexpr unsigned kDirectory = 040755, kProgram = 0100755;
        Archive archive;
        for (const char* name : {"dev", "proc", "sys"}) archive.add(name, kDirectory);
        archive.add("init", kProgram, content(VG_VMM));
        if (!child_kernel.empty()) archive.add("kernel", kProgram, content(child_kernel));
        const std::string initrd = dir / "initrd";
        std::ofstream(initrd, std::ios::binary) << archive.finish();
        machine::Config config;
        config.machine.memory.bytes = u64{1} << 30;
        config.machine.processors = processors;
        config.hypervisor.emplace();
        config.hypervisor->root_scheduler = root_scheduler;
        config.boot.emplace();
        config.boot->kernel = kernel;
        config.boot->initrd = initrd;
        config.boot->cmdline = "console=ttyS0 loglevel=4 " + options;
        machine::MachineOptions machine_options;
        for (const char* bus : buses) {
            machine::DiskSection& disk = config.disks.emplace_back();
            disk.bus = bus;
            disk.image = dir / (std::to_string(config.disks.size()) + ".raw");
            test::write_file(disk.image, std::vector<u8>(4 << 20));
        }
        machine_options.log_sink = [this](Area, Level, std::string_view line) { log += std::string(line) + "\n"; };
        machine_options.console = [this](const std::string&, u8 byte) { console += static_cast<char>(byte); };
        auto made = machine::Machine::create(config, std::move(machine_options));
        REQUIRE(made);
        machine = std::move(*made);
        machine->run_until(VTime{60} * 1'000'000'000);
    }

    test::TempDir dir;
    std::string console, log;
    std::unique_ptr<machine::Machine> machine;
};

/// Pages that the hypervisor holds of what the root gave: all must be the root's own.
void check_nothing_left(RootRun& run) {
    hv::Hypervisor& hypervisor = *run.machine->hypervisor();
    CHECK(hypervisor.nodes().size() == 1);
    CHECK(run.machine->outcome().kind == machine::Outcome::Kind::PoweredOff);
    u64 deposited = 0, mapped = 0;
    for (const mmu::Region& region : run.machine->memory().regions()) {
        if (region.kind != mmu::RegionKind::Ram) continue;
        for (u64 at = 0; at < region.size; at += kPageSize) {
            deposited += hypervisor.ledger().deposited(region.base + at) ? 1 : 0;
            mapped += hypervisor.ledger().mappings(region.base + at);
        }
    }
    CHECK(mapped == 0);
    CHECK(deposited == hypervisor.root()->pool.available() + hypervisor.root()->pool.in_use());
    // Statistics pages: of the hypervisor, each LP, the root and its VPs, and one of a child at a time.
    CHECK(deposited < 16);
}

}  // namespace

TEST_CASE("root: with [hypervisor] what the PC boots is the root partition", "[machine][root]") {
    test::TempDir dir;
    // out 3f8, 'x'; CPUID 40000003 EBX to port 3f8 by its low byte; power off
    const std::vector<u8> code = {0x66, 0xba, 0xf8, 0x03, 0xb0, 'x', 0xee, 0xb8, 0x03, 0x00, 0x00, 0x40, 0x0f, 0xa2,
                                  0x88, 0xd8, 0x66, 0xba, 0xf8, 0x03, 0xee, 0x66, 0xba, 0x04, 0x04, 0x66, 0xb8, 0x00,
                                  0x34, 0x66, 0xef};
    test::write_file(dir / "k", test::image_with(code, {0xf4}, 0));
    auto config = machine::parse_config("[hypervisor]\n[boot]\nkernel = \"k\"\n", "m.toml", dir / ".", {});
    REQUIRE(config);
    std::string console;
    machine::MachineOptions options;
    options.console = [&](const std::string& partition, u8 byte) { console += partition + static_cast<char>(byte); };
    auto made = machine::Machine::create(*config, std::move(options));
    REQUIRE(made);
    (*made)->run_until(1'000'000'000);
    CHECK(console == "x\xff");  // C-93: 000211ff
    CHECK((*made)->outcome().kind == machine::Outcome::Kind::PoweredOff);
    REQUIRE((*made)->hypervisor() != nullptr);
    CHECK((*made)->hypervisor()->root() != nullptr);
}

TEST_CASE("root: Linux registers /dev/mshv, and twenty children in turn leave nothing behind", "[machine][root][slow]") {
    const std::string kernel = find_file("VG_MSHV_KERNEL", "bzImage-mshv");
    if (kernel.empty()) {
        WARN("no kernel with CONFIG_MSHV_ROOT: set VG_MSHV_KERNEL, or put it at build/guest/bzImage-mshv");
        return;
    }
    const bool root_scheduler = GENERATE(false, true);
    const unsigned processors = GENERATE(1u, 2u);
    CAPTURE(root_scheduler, processors);
    RootRun run(kernel, "", "vmm.cycles=20", processors, root_scheduler);
    CAPTURE(run.console);
    CHECK(run.console.find("vmm: all 20 cycles passed") != std::string::npos);
    CHECK(run.console.find("BUG:") == std::string::npos);
    CHECK(run.machine->hypervisor()->root()->partition->vps().size() == processors);
    check_nothing_left(run);
}

TEST_CASE("root: disks behind the hypervisor's IOMMU serve Linux while children come and go",
          "[machine][root][iommu][slow]") {
    const std::string kernel = find_file("VG_MSHV_KERNEL", "bzImage-mshv");
    if (kernel.empty()) {
        WARN("no kernel with CONFIG_MSHV_ROOT: set VG_MSHV_KERNEL, or put it at build/guest/bzImage-mshv");
        return;
    }
    const unsigned processors = GENERATE(1u, 2u);
    RootRun run(kernel, "", "vmm.cycles=20 vmm.disks=sda,nvme0n1", processors, false, {"ahci", "nvme"});
    CAPTURE(run.console, run.log);
    CHECK(run.console.find("vmm: all 20 cycles passed") != std::string::npos);
    CHECK(run.console.find("vmm: disks came back as written") != std::string::npos);
    CHECK(run.console.find("vmm: ended with status 0") != std::string::npos);
    for (const char* complaint : {"BUG:", "ata1: ", "nvme nvme0: I/O", "DMAR"})
        CHECK(run.console.find(complaint) == std::string::npos);
    CHECK(run.log.find("was refused") == std::string::npos);
    check_nothing_left(run);
    // Every function of the board is in the root's domain, and every transfer went through the unit.
    const machine::RootDevices* devices = run.machine->pc()->root_devices();
    REQUIRE(devices != nullptr);
    CHECK(devices->domains().attached().size() == run.machine->pc()->pci().bus().functions().size());
    for (const auto& [rid, domain] : devices->domains().attached())
        CHECK(domain == run.machine->hypervisor()->root()->id);
    CHECK(devices->faults().empty());
    CHECK(run.machine->pc()->iommu()->history().transfers.total() > 5'000);
}

TEST_CASE("root: Linux points a device at the hypervisor's memory in vain, and its disks do not notice",
          "[machine][root][iommu][slow]") {
    const std::string kernel = find_file("VG_MSHV_KERNEL", "bzImage-mshv");
    if (kernel.empty()) {
        WARN("no kernel with CONFIG_MSHV_ROOT: set VG_MSHV_KERNEL, or put it at build/guest/bzImage-mshv");
        return;
    }
    RootRun run(kernel, "", "vmm.cycles=2 vmm.disks=sda,nvme0n1 vmm.misuse=0000:00:09.0", 1, false,
                {"ahci", "nvme", "nvme"});
    CAPTURE(run.console, run.log);
    const hv::Hypervisor& hypervisor = *run.machine->hypervisor();
    const u64 own = hypervisor.private_base().value + hypervisor.private_size() - kPageSize;
    CHECK(run.console.find(fmt::format("vmm: 0000:00:09.0 pointed at {:#x}, CSTS 0x3", own)) != std::string::npos);
    CHECK(run.log ==
          fmt::format("a device of partition 1 was refused: 00:09.0 read {:#x}: 0x06 no read permission\n", own));
    CHECK(run.console.find("vmm: disks came back as written") != std::string::npos);
    CHECK(run.console.find("vmm: all 2 cycles passed") != std::string::npos);
    check_nothing_left(run);
}

TEST_CASE("root: a stock kernel boots in a child of a Linux root to its console", "[machine][root][slow]") {
    const std::string kernel = find_file("VG_MSHV_KERNEL", "bzImage-mshv");
    const std::string child = find_file("VG_CHILD_KERNEL", "vmlinuz");
    if (kernel.empty() || child.empty()) {
        WARN("no kernels: VG_MSHV_KERNEL (build/guest/bzImage-mshv) and VG_CHILD_KERNEL (build/guest/vmlinuz)");
        return;
    }
    const bool root_scheduler = GENERATE(false, true);
    RootRun run(kernel, child, "vmm.cycles=2 vmm.kernel=/kernel vmm.until=Memory:", 1, root_scheduler);
    CAPTURE(run.console);
    CHECK(run.console.find("Hypervisor detected: Microsoft Hyper-V") != std::string::npos);
    CHECK(run.console.find("vmm: all 2 cycles passed") != std::string::npos);
    check_nothing_left(run);
}
