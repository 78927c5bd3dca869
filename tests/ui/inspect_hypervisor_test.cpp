// What inspect says of partitions, second-level walks and the IOMMU, on a machine whose root partition a test drives.
#include "ui/model/inspect_hypervisor.h"

#include <catch2/catch.hpp>

#include "hv/hypercalls/bodies.h"
#include "hv/hypervisor.h"
#include "hv/spec/port.h"
#include "hv/vp.h"
#include "machine/pc_machine.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"
#include "ui/model/hypervisor.h"

using namespace vg;

namespace {

struct Board {
    explicit Board(const std::string& tables = "[hypervisor]\n") {
        test::write_file(dir / "k", test::image_with({0xf4}, {0xf4}, 0));
        test::write_file(dir / "d.raw", std::vector<u8>(1 << 20));
        auto config = machine::parse_config("[machine]\nmemory = \"64 MiB\"\n" + tables +
                                                "[boot]\nkernel = \"k\"\n[[disk]]\nbus = \"nvme\"\nimage = \"d.raw\"\n",
                                            "m.toml", dir / ".", {});
        REQUIRE(config);
        auto made = machine::Machine::create(*config, {});
        REQUIRE(made);
        machine = std::move(*made);
    }
    std::string lines() {
        StatePrinter printer;
        model::show_hypervisor(*machine, printer);
        return printer.result();
    }
    bool says(const std::string& line) { return ("\n" + lines()).find("\n" + line + "\n") != std::string::npos; }
    std::string walk(const std::string& path) { return model::inspect_walk(*machine, path); }

    test::TempDir dir;
    std::unique_ptr<machine::Machine> machine;
};

constexpr u64 kDeposited = 0x1000, kLent = 0x2000;  // page numbers
constexpr u32 kPort = 0x77;

/// A child with 24 pages deposited, one mapped read-only at GPA 0x5000, a VP, and a port of the root that it is
/// connected to.
u64 make_child(hv::Vp& root) {
    using namespace hv;
    u64 id = 0;
    CreatePartitionIn create{};
    create.flags = create_flag::kLapic;
    REQUIRE(hypercalls::create_partition(root, create, id) == HvStatus::Success);
    for (u64 i = 0; i < 24; ++i)
        REQUIRE(hypercalls::deposit_memory(root, DepositHeader{id}, kDeposited + i) == HvStatus::Success);
    REQUIRE(hypercalls::initialize_partition(root, PartitionIn{id}) == HvStatus::Success);
    REQUIRE(hypercalls::map_gpa(root, MapGpaHeader{id, 5, map_flag::kRead, 0}, 0, kLent) == HvStatus::Success);
    CreateVpIn vp{};
    vp.partition_id = id;
    REQUIRE(hypercalls::create_vp(root, vp) == HvStatus::Success);
    CreatePortIn port{};
    port.port_partition = root.partition().id();
    port.port_id = kPort;
    port.connection_partition = id;
    port.type = static_cast<u32>(PortType::Message);
    port.target.sint = 5;
    REQUIRE(hypercalls::create_port(root, port) == HvStatus::Success);
    ConnectPortIn connect{};
    connect.connection_partition = id;
    connect.connection_id = 9;
    connect.port_partition = root.partition().id();
    connect.port_id = kPort;
    connect.type = port.type;
    REQUIRE(hypercalls::connect_port(root, connect) == HvStatus::Success);
    return id;
}

}  // namespace

TEST_CASE("inspect: partitions with their tree, deposits, ports, connections and messages", "[ui][inspect]") {
    Board board;
    hv::Partition& root = *board.machine->hypervisor()->root()->partition;
    const u64 id = make_child(*root.vps().front());
    REQUIRE(id == 2);
    root.post_own_message(0, 5, 0x80000001, {}, id);
    CHECK(board.says("partitions/1/name = root"));
    CHECK(board.says("partitions/1/children = 2"));
    CHECK(board.says("partitions/1/properties/PrivilegeFlags = 0x211ff00000f7f"));
    CHECK(board.says("partitions/1/port119 = message from partition 2 to SINT 5 of VP 0"));
    CHECK(board.says("partitions/1/vp0/state = runs"));
    CHECK(board.says("partitions/1/vp0/message0 = SINT 5 type 0x80000001 origin 0x2 waits"));
    CHECK(board.says("partitions/2/parent = 1"));
    CHECK(board.says("partitions/2/state = initialized"));
    CHECK(board.says("partitions/2/table_pages = 4"));
    // Tables, the partition's two overlay pages and the VP's three.
    CHECK(board.says("partitions/2/deposits/in_use = 9"));
    CHECK(board.says("partitions/2/deposits/available = 15"));
    CHECK(board.says("partitions/2/connection9 = message to port 119 of partition 1, SINT 5 of VP 0"));
    CHECK(board.says("partitions/2/vp0/state = suspended (explicit)"));
    const std::vector<model::PartitionView> views = model::partitions(*board.machine);
    REQUIRE(views.size() == 2);
    CHECK(views[1].deposited_available + views[1].deposited_in_use == 24);
}

TEST_CASE("inspect: a second-level walk shows every level's entry and what is behind it", "[ui][inspect]") {
    Board board;
    hv::Partition& root = *board.machine->hypervisor()->root()->partition;
    make_child(*root.vps().front());
    const auto walk = model::walk(*board.machine, 2, Gpa(0x5678));
    REQUIRE(walk);
    REQUIRE(walk->steps.size() == 4);
    u64 table = board.machine->hypervisor()->find(2)->slat().root & ~kPageMask;
    for (unsigned i = 0; i < 4; ++i) {
        const model::WalkStep& step = walk->steps[i];
        CHECK(step.level == 4 - i);
        CHECK(step.place.value == table + ((u64{0x5678} >> (12 + 9 * (3 - i))) & 511) * 8);
        CHECK(step.entry == board.machine->memory().read<u64>(step.place));
        table = step.entry & 0xffffffffff000;
    }
    CHECK(walk->spa == Spa((kLent << 12) + 0x678));
    CHECK(walk->permissions == mmu::SlatPermissions{true, false, false});
    CHECK(walk->mappings == 1);
    CHECK_FALSE(walk->overlay);
    const std::string text = board.walk("walk/2/0x5678");
    CHECK(text.find("walk/2/0x5678/level1/meaning = r-- 4 KiB 0x2000000\n") != std::string::npos);
    CHECK(text.find("walk/2/0x5678/spa = 0x2000678\n") != std::string::npos);
    CHECK(text.find("walk/2/0x5678/mapped_by_children = 1\n") != std::string::npos);
    CHECK(board.walk("walk/2/22136") == board.walk("walk/2/0x5678"));

    // What the child never got, and what the root gave away.
    const auto nothing = model::walk(*board.machine, 2, Gpa(0x6000));
    REQUIRE(nothing);
    CHECK_FALSE(nothing->spa);
    CHECK_FALSE(nothing->in_space);
    CHECK(nothing->steps.back().meaning == "not present");
    CHECK_FALSE(model::walk(*board.machine, 1, Gpa(kDeposited << 12))->spa);
    // A large page of the root, and one of its overlay pages at home.
    const auto large = model::walk(*board.machine, 1, Gpa(0x40000000));
    REQUIRE(large);
    CHECK(large->steps.size() == 2);
    CHECK(large->steps.back().meaning == "rwx 1 GiB 0x40000000");
    for (const char* path : {"walk/", "walk/2", "walk/2/", "walk/3/0x0", "walk/2/0x1000000000000", "walk/x/0",
                             "walk/2/0x0/x", "walk/-1/0"})
        CHECK(board.walk(path).empty());
}

TEST_CASE("inspect: the IOMMU's domains, devices, last faults and transfers", "[ui][inspect][iommu]") {
    Board board;
    iommu::Vtd& unit = *board.machine->pc()->iommu();
    CHECK(board.says("iommu/owner = hypervisor"));
    CHECK(board.says("iommu/translation = on"));
    CHECK(board.says("iommu/interrupt_remapping = off"));
    CHECK(board.says("iommu/domain1 = 00:00.0 00:08.0"));
    u64 word = 0;
    CHECK(unit.dma(0x40).read(Iova(0x3000), &word, sizeof word));
    const u64 own =
        board.machine->hypervisor()->private_base().value + board.machine->hypervisor()->private_size() - kPageSize;
    CHECK_FALSE(unit.dma(0x40).write(Iova(own), &word, sizeof word));
    CHECK(board.says("iommu/00:08.0/faults = 1"));
    CHECK(board.says("iommu/faults = 1"));
    CHECK(board.says("iommu/transfers = 2"));
    CHECK(board.says("iommu/transfer0 = 00:08.0 read iova 0x3000 size 0x8 spa 0x3000: ok"));
    CHECK(board.says(fmt::format("iommu/fault0 = 00:08.0 write 0x{:x}: 0x05 no write permission", own)));
    const u64 table = board.machine->hypervisor()->root()->partition->slat().root & ~kPageMask;
    CHECK(board.says(fmt::format("iommu/00:08.0/reach = domain 1 by 4 levels at 0x{:x}", table)));
}

TEST_CASE("inspect: a bare PC has no partitions, and its IOMMU is the guest's", "[ui][inspect][iommu]") {
    Board with("[devices]\niommu = true\n");
    CHECK(with.says("iommu/owner = guest"));
    CHECK(with.says("iommu/00:08.0/reach = all of memory: not translated"));
    CHECK(with.lines().find("partitions/") == std::string::npos);
    CHECK(with.walk("walk/1/0").empty());
    Board without("");
    CHECK(without.lines().empty());
}
