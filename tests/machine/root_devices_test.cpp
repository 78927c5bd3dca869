// The hypervisor's hold on the devices of the root partition. VT-d 4.1; R-31, K-126, K-127, K-128.
#include "machine/root_devices.h"

#include <catch2/catch.hpp>

#include <random>

#include "base/state.h"
#include "devices/spec/nvme.h"
#include "machine/machine.h"
#include "machine/pc_machine.h"
#include "tests/hv/tree_random.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/devices.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;

namespace {

constexpr u16 kRids[] = {0x08, 0x40, 0xf8, 0x1fa};

/// A unit in the hypervisor's hands on the memory of a RootFixture.
class Devices final : public hv::test::TreeDevices {
  public:
    void start(hv::test::RootFixture& f) override {
        unit_.emplace(f.memory, f.events, f.log, messages);
        auto made = RootDevices::create(*f.hypervisor, *unit_, kRids);
        REQUIRE(made);
        guard = made->get();
        f.hypervisor->set_device_guard(std::move(*made));
    }
    void stop(hv::test::RootFixture& f) override {
        f.hypervisor->set_device_guard(nullptr);
        guard = nullptr;
        u64 data = 0;
        CHECK_FALSE(access(0, 0x1000, &data, sizeof data, false));
        unit_.reset();
    }
    bool access(unsigned device, u64 address, void* data, u64 size, bool write) override {
        mmu::Dma& dma = unit_->dma(kRids[device]);
        const bool done = write ? dma.write(Iova(address), data, size) : dma.read(Iova(address), data, size);
        (done ? reached : refused) += 1;
        return done;
    }
    bool reads(unsigned device, u64 address) {
        u8 byte = 0;
        return access(device, address, &byte, 1, false);
    }
    bool writes(unsigned device, u64 address) {
        u8 byte = 0x5a;
        return access(device, address, &byte, 1, true);
    }
    iommu::Vtd& unit() { return *unit_; }

    test::RecordingSink messages;
    RootDevices* guard = nullptr;
    u64 reached = 0, refused = 0;

  private:
    std::optional<iommu::Vtd> unit_;
};

struct Board {
    explicit Board(bool root_scheduler = false) : f(root_scheduler, 1) { devices.start(f); }
    ~Board() { devices.stop(f); }
    hv::test::RootFixture f;
    Devices devices;
};

std::string tree_of(Machine& machine) {
    StatePrinter printer;
    machine.fields(printer);
    return printer.result();
}

}  // namespace

TEST_CASE("root devices: a page that was deposited is out of reach before anything else is in it",
          "[machine][root][iommu]") {
    Board b;
    constexpr u64 kPage = 0x900;
    CHECK(b.devices.writes(0, kPage << 12));  // now the unit remembers
    CHECK(b.devices.writes(1, (kPage << 12) + 0xfff));
    const u64 id = b.f.create();
    REQUIRE(b.f.deposit(id, kPage, 8) == hv::HvStatus::Success);
    for (unsigned device = 0; device < 4; ++device) {
        CHECK_FALSE(b.devices.reads(device, kPage << 12));
        CHECK_FALSE(b.devices.writes(device, (kPage + 7) << 12));
        CHECK(b.devices.writes(device, (kPage + 8) << 12));
    }
    CHECK(b.devices.guard->faults().at(kRids[0]) == 2);
    CHECK(b.devices.guard->lost_faults() == 0);
    CHECK(b.devices.unit().mmio_read(iommu::reg::kFaultStatus, 4) == 0);
    const std::string wanted = "a device of partition 1 was refused: 00:01.0 read 0x900000: 0x06 no read permission";
    CHECK(std::ranges::find(b.f.lines, wanted) != b.f.lines.end());
    CHECK(b.devices.messages.sent.empty());  // nothing of it is the root's to hear
    // It comes back with its page.
    CHECK(b.f.withdraw_all(id).size() == 8);
    CHECK(b.devices.reads(0, kPage << 12));
}

TEST_CASE("root devices: what a child maps stays the root's too, what shows a VP is so while it is shown",
          "[machine][root][iommu]") {
    Board b;
    const u64 id = b.f.make_child();
    CHECK(b.devices.writes(0, hv::test::RootFixture::kChildRam));
    CHECK(b.devices.writes(0, b.f.register_page));
    CHECK(b.f.finalize(id) == hv::HvStatus::Success);
    CHECK_FALSE(b.devices.writes(0, b.f.register_page));
    CHECK(b.f.withdraw_all(id).size() == 24);
    CHECK(b.devices.writes(0, b.f.register_page));
    CHECK(b.f.remove(id) == hv::HvStatus::Success);
}

TEST_CASE("root devices: an overlay's rights are the devices' too, and end with it", "[machine][root][iommu]") {
    Board b;
    constexpr u64 kPlace = 0x9000;
    b.f.memory.write<u32>(Spa(kPlace), 0x11223344);
    CHECK(b.devices.writes(0, kPlace + 8));
    REQUIRE(b.f.wrmsr(hv::msr::HYPERCALL, kPlace | 1));
    u32 word = 0;
    CHECK(b.devices.access(0, kPlace, &word, 4, false));
    CHECK(word == 0xc3c1010f);  // VMCALL, RET
    CHECK_FALSE(b.devices.writes(0, kPlace));
    REQUIRE(b.f.wrmsr(hv::msr::HYPERCALL, 0));
    CHECK(b.devices.access(0, kPlace, &word, 4, false));
    CHECK(word == 0x11223344);
    CHECK(b.devices.writes(0, kPlace));
}

TEST_CASE("root devices: a device that nobody attached reaches nothing, and faults have a bound",
          "[machine][root][iommu]") {
    Board b;
    u8 byte = 0;
    CHECK_FALSE(b.devices.unit().dma(0x99).read(Iova(0x1000), &byte, 1));
    for (unsigned i = 0; i < 1000; ++i)
        CHECK_FALSE(b.devices.writes(i % 4, hv::test::RootFixture::kPrivateSpa + (3 << 20)));
    CHECK(b.devices.guard->faults().size() == 4);
    CHECK(b.devices.guard->faults().at(kRids[3]) == 250);
    const auto refused = std::ranges::count_if(
        b.f.lines, [](const std::string& line) { return line.find("was refused") != std::string::npos; });
    CHECK(refused == 20);
    CHECK(b.devices.guard->domains().table_pages() == 3);  // root table, bus 0, bus 1
}

TEST_CASE("root devices: device-domain calls are not offered, and say so", "[machine][root][iommu]") {
    Board b;
    constexpr u16 kCodes[] = {0x82, 0x83, 0xb1, 0xb2, 0xb3, 0xb4, 0xc4, 0xc5, 0xce, 0xd0, 0xd1, 0x125, 0x127};
    for (const u16 code : kCodes) CHECK(b.f.call_plain(code) == hv::HvStatus::InvalidHypercallCode);
}

TEST_CASE("partition tree: processors, hypercalls and devices reach what a partition was given",
          "[machine][root][iommu]") {
    std::mt19937_64 random(20261130);  // NOLINT: the same stream in every run
    Devices devices;
    for (int run = 0; run < 40; ++run) {
        CAPTURE(run);
        std::vector<u8> input(1500);
        for (u8& byte : input) byte = static_cast<u8>(random());
        CHECK_NOTHROW(hv::test::random_tree(input, &devices));
    }
    CHECK(devices.reached > 20'000);
    CHECK(devices.refused > 20'000);
}

TEST_CASE("root devices: an NVMe controller that is pointed at the hypervisor fails, and the report names it",
          "[machine][root][iommu]") {
    namespace nvme = devices::nvme;
    test::TempDir dir;
    test::write_file(dir / "k", test::image_with({0xf4}, {0xf4}, 0));
    test::write_file(dir / "d.raw", std::vector<u8>(1 << 20));
    const bool on = GENERATE(true, false);
    auto config = parse_config(
        std::string(
            "[machine]\nmemory = \"64 MiB\"\n[hypervisor]\n[boot]\nkernel = \"k\"\n[[disk]]\nbus = \"nvme\"\nimage "
            "= \"d.raw\"\n") +
            (on ? "" : "[devices]\niommu = false\n"),
        "m.toml", dir / ".", {});
    REQUIRE(config);
    std::vector<std::string> lines;
    MachineOptions options;
    options.log_sink = [&](Area, Level, std::string_view line) { lines.emplace_back(line); };
    auto made = Machine::create(*config, std::move(options));
    REQUIRE(made);
    Machine& machine = **made;
    hv::Hypervisor& hypervisor = *machine.hypervisor();
    CHECK((hypervisor.device_guard() != nullptr) == on);

    // Registers of the function, as its driver reaches them; memory as the device sees it.
    constexpr u16 kNvme = 8 << 3;
    devices::PciBus& bus = machine.pc()->pci().bus();
    devices::PciFunction& function = *bus.functions().at(devices::Rid{kNvme});
    function.config_write(4, 2, 6);  // memory space, bus master
    const u64 bar = (function.config_read(0x10, 4) & ~0xfu) - bus.windows().low.base;
    const auto write = [&](u64 reg, u64 value, unsigned size = 4) {
        bus.low_memory().mmio_write(bar + reg, size, value);
    };
    const auto run_with = [&](u64 submission, u64 completion) {
        write(nvme::kCc, 0);
        write(nvme::kAqa, 15 << 16 | 15);
        write(nvme::kAsq, submission, 8);
        write(nvme::kAcq, completion, 8);
        write(nvme::kCc, 4 << 20 | 6 << 16 | 1);
        write(nvme::kDoorbells, 1);
        (void)machine.run_until(machine.now() + 10'000'000);
        return static_cast<u32>(bus.low_memory().mmio_read(bar + nvme::kCsts, 4));
    };
    constexpr u64 kQueue = 0x1000000, kDone = 0x1001000;
    nvme::Command identify{.opcode = 6, .id = 1, .prp1 = kQueue + 0x2000, .dw10 = 1};
    machine.memory().write(Spa(kQueue), identify);
    CHECK(run_with(kQueue, kDone) == nvme::kReady);
    CHECK(machine.memory().read<nvme::Completion>(Spa(kDone)).status == 1);
    // The same with the completions in the hypervisor's memory.
    const Spa own = hypervisor.private_base() + hypervisor.private_size() - kPageSize;
    const u32 status = run_with(kQueue, own.value);
    CHECK((status & nvme::kFatal) == (on ? nvme::kFatal : 0));
    CHECK(machine.memory().read<u64>(own + 8) == (on ? 0 : machine.memory().read<u64>(Spa(kDone + 8))));
    const std::string report =
        fmt::format("a device of partition 1 was refused: 00:08.0 write 0x{:x}: 0x05 no write permission", own.value);
    CHECK((std::ranges::find(lines, report) != lines.end()) == on);
    const std::string tree = tree_of(machine);
    CHECK((tree.find("device_guard/00:08.0/faults = 1\n") != std::string::npos) == on);
    CHECK((tree.find(fmt::format("fault 0 = 00:08.0 write 0x{:x}", own.value)) != std::string::npos) == on);

    // The root knows nothing of the unit.
    std::vector<u8> tables(board::kAcpiSize);
    machine.memory().read(Spa(board::kAcpiBase), tables.data(), tables.size());
    CHECK(std::string(tables.begin(), tables.end()).find("DMAR") == std::string::npos);
    u64 value = 0;
    machine.memory().read(Spa(board::kIommuBase), &value, sizeof value);
    CHECK(value == ~u64{0});
}

TEST_CASE("root devices: a machine that cannot be built leaves nothing that knows its parts",
          "[machine][root][iommu]") {
    test::TempDir dir;
    test::write_file(dir / "k",
                     std::vector<u8>(4096, 0x5a));  // no kernel image: found out when everything else is there
    auto config = parse_config("[hypervisor]\n[boot]\nkernel = \"k\"\n", "m.toml", dir / ".", {});
    REQUIRE(config);
    CHECK_FALSE(Machine::create(*config, {}));
    auto little = parse_config("[hypervisor]\nmemory = \"1 MiB\"\n[boot]\nkernel = \"k\"\n", "m.toml", dir / ".", {});
    REQUIRE(little);
    CHECK_FALSE(Machine::create(*little, {}));
}
