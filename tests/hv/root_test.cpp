// The root partition and the life of its children: rows of the parent's side of the interface.
#include <catch2/catch.hpp>

#include <set>

#include "tests/hv/root_fixture.h"

using namespace vg;
using namespace vg::hv;
using hv::test::RootFixture;

TEST_CASE("root: the profile is C-93", "[hv][root]") {
    RootFixture f;
    cpu::virt::Exit exit;
    exit.reason = cpu::virt::ExitReason::Cpuid;
    exit.leaf = 0x40000003;
    f.vp->on_exit(f.vp->processor(), exit);
    CHECK(exit.regs[0] == 0x00000f7f);
    CHECK(exit.regs[1] == 0x000211ff);
    CHECK(exit.regs[2] == 0);
    CHECK(exit.regs[3] == 0x00080500);
    exit.leaf = 0x40000082;  // C-82
    f.vp->on_exit(f.vp->processor(), exit);
    CHECK((exit.regs[0] | exit.regs[1] | exit.regs[2] | exit.regs[3]) == 0);
    exit.leaf = 0x40000007;  // C-77
    f.vp->on_exit(f.vp->processor(), exit);
    CHECK(exit.regs[0] == 3);
}

TEST_CASE("root: its overlay pages have places from the start, each its own, readable there (R-04..R-06, R-21, R-30)",
          "[hv][root]") {
    RootFixture f;
    std::set<u64> places;
    for (const u32 index :
         {msr::HYPERCALL, msr::REFERENCE_TSC, msr::VP_ASSIST_PAGE, msr::SIMP, msr::SIEFP, msr::SIRBP}) {
        CAPTURE(index);
        const auto value = f.rdmsr(index);
        REQUIRE(value);
        CHECK((*value & kPageMask) == 0);  // enable is 0
        CHECK(*value >= RootFixture::kPrivateSpa);
        CHECK(places.insert(*value).second);
        REQUIRE(f.root_address(*value));
        CHECK(f.root_address(*value)->value == *value);
        CHECK(f.wrmsr(index, *value | 1));
        CHECK(f.rdmsr(index) == (*value | 1));
        CHECK(f.root_address(*value)->value == *value);
    }
    // H-51, H-54: the call is there to be copied
    const u64 page = *f.rdmsr(msr::HYPERCALL) & ~kPageMask;
    CHECK(f.memory.read<u32>(Spa(page)) == 0xc3c1010f);
    // what else the hypervisor keeps is not seen
    CHECK_FALSE(f.root_address(RootFixture::kPrivateSpa + RootFixture::kPrivateSize - kPageSize));
}

TEST_CASE("root: memory is its own, at its own addresses", "[hv][root]") {
    RootFixture f;
    for (const u64 gpa : {u64{0}, u64{0x5000}, RootFixture::kRamSize - kPageSize, u64{0xfee00000}, u64{1} << 40})
        CHECK(f.root_address(gpa)->value == gpa);
}

TEST_CASE("root: logical processors are added and VPs made as at boot (R-13, K-150, K-151, K-132)", "[hv][root]") {
    RootFixture f;
    CHECK(f.call(0x04, u32{0}) == HvStatus::Success);
    CHECK(f.call(0x04, u32{1}) == HvStatus::InvalidLpIndex);  // not 2, not 5: Linux would stop
    CHECK(f.call(0x04, u32{7}) == HvStatus::InvalidLpIndex);
    CreateVpIn vp{};
    vp.partition_id = f.root->id();
    vp.vp_index = 1;
    vp.flags = 1;
    CHECK(f.call(0x4e, vp) == HvStatus::InvalidLpIndex);  // not added yet
    CHECK(f.call(0x76, AddLpIn{1, 3, {}}) == HvStatus::InvalidLpIndex);
    CHECK(f.call(0x76, AddLpIn{1, 2, {}}) == HvStatus::Success);
    CHECK(f.call(0x76, AddLpIn{1, 2, {}}) == HvStatus::ObjectInUse);
    CHECK(f.call(0x04, u32{1}) == HvStatus::Success);
    CHECK(f.call(0x87, NotifyPartitionEventIn{kEventAllLpsStarted, 0}) == HvStatus::Success);
    CHECK(f.call(0x4e, vp) == HvStatus::Success);
    REQUIRE(f.root->find_vp(1) != nullptr);
    cpu::Vp& processor = f.root->find_vp(1)->processor();
    CHECK(processor.apic().id() == 2);
    CHECK(processor.activity() == cpu::Activity::WaitForSipi);
    CHECK_FALSE(processor.held());
    CHECK(f.host.vps.size() == 2);
    CHECK(f.call(0x4e, vp) == HvStatus::InvalidVpIndex);
    CHECK(f.rdmsr(msr::SIMP, 1) != f.rdmsr(msr::SIMP, 0));
}

TEST_CASE("root: system properties, own id, power off (K-019, K-153..K-155)", "[hv][root]") {
    RootFixture f;
    CHECK(f.call_plain(0x46) == HvStatus::Success);
    CHECK(f.output<u64>() == f.root->id());
    CHECK(f.call(0x7b, GetSystemPropertyIn{15, 0, 0}) == HvStatus::Success);
    CHECK(f.output<u64>() == 3);
    CHECK(f.call(0x7b, GetSystemPropertyIn{47, 0, 0}) == HvStatus::UnknownProperty);
    SetSystemPropertyIn sleep{};
    sleep.id = 3;
    sleep.sleep_state = 5;
    CHECK(f.call(0x6f, sleep) == HvStatus::Success);
    CHECK(f.power_offs == 0);
    CHECK(f.call(0x84, u32{5}) == HvStatus::Success);
    CHECK(f.power_offs == 1);
}

TEST_CASE("root: statistics pages are the root's own deposits (K-177, R-24, R-31)", "[hv][root]") {
    RootFixture f;
    StatsPageIn in{};
    in.type = 1;
    CHECK(f.call(0x6c, in) == HvStatus::InsufficientMemory);
    CHECK(f.deposit(kPartitionSelf, 0x500, 1) == HvStatus::Success);
    CHECK_FALSE(f.root_address(0x500000));
    CHECK(f.call(0x6c, in) == HvStatus::Success);
    CHECK(f.output<u64>() == 0x500);
    CHECK(f.root_address(0x500000)->value == 0x500000);
    CHECK(f.memory.read<u64>(Spa(0x500000 + 8)) == 2);  // K-180: the number of LPs
    in.identity.area = 1;
    CHECK(f.call(0x6c, in) == HvStatus::InvalidParameter);  // parent: "not supported"
    in.identity.area = 0;
    StatsPageIn lp{};
    lp.type = 2;
    lp.identity.id = 2;
    CHECK(f.call(0x6c, lp) == HvStatus::InvalidLpIndex);
    CHECK(f.withdraw_all(kPartitionSelf).empty());  // in use
    CHECK(f.call(0x6d, in) == HvStatus::Success);
    CHECK_FALSE(f.root_address(0x500000));
    CHECK(f.call(0x6d, in) == HvStatus::NotFound);
    CHECK(f.withdraw_all(kPartitionSelf) == std::vector<u64>{0x500});
    CHECK(f.root_address(0x500000)->value == 0x500000);
}

TEST_CASE("root: a deposited page leaves the depositor and comes back by withdrawal (K-126, K-127, R-32)",
          "[hv][root]") {
    RootFixture f;
    const u64 id = f.create();
    REQUIRE(id != 0);
    f.memory.write<u64>(Spa(0x400000), 0x1234);
    CHECK(f.deposit(id, 0x400, 3) == HvStatus::Success);
    CHECK(f.completed == 3);
    for (u64 pfn = 0x400; pfn < 0x403; ++pfn) {
        CHECK_FALSE(f.root_address(pfn << 12));
        CHECK_FALSE(f.root->readable(Gpa(pfn << 12)));
    }
    CHECK(f.root_address(0x403000));
    // once is enough, whoever asks; other pages of the same call before it went
    CHECK(f.reps(0x48, DepositHeader{id}, std::vector<u64>{0x404, 0x400}) == HvStatus::InvalidParameter);
    CHECK(f.completed == 1);
    CHECK(f.deposit(kPartitionSelf, 0x401, 1) == HvStatus::InvalidParameter);
    // not the hypervisor's pages, not what is no RAM
    CHECK(f.deposit(id, RootFixture::kPrivateSpa >> 12, 1) == HvStatus::InvalidParameter);
    CHECK(f.deposit(id, *f.rdmsr(msr::SIMP) >> 12, 1) == HvStatus::InvalidParameter);
    CHECK(f.deposit(id, 0xfee00, 1) == HvStatus::InvalidParameter);
    CHECK(f.deposit(id, ~u64{0}, 1) == HvStatus::InvalidParameter);
    CHECK(f.deposit(id + 7, 0x410, 1) == HvStatus::InvalidPartitionId);
    // a hypercall's own pages can be deposited: then there is no input to read any more
    MemoryBalanceIn balance{id, {}};
    CHECK(f.call(0x4a, balance) == HvStatus::Success);
    CHECK(f.output<MemoryBalanceOut>().pages_available == 4);
    std::vector<u64> pages = f.withdraw_all(id);
    CHECK(f.last_withdraw == HvStatus::NoResources);
    std::sort(pages.begin(), pages.end());
    CHECK(pages == std::vector<u64>{0x400, 0x401, 0x402, 0x404});
    CHECK(f.root_address(0x400000)->value == 0x400000);
    CHECK(f.remove(id) == HvStatus::Success);
    CHECK(f.remove(id) == HvStatus::InvalidPartitionId);
}

TEST_CASE("partition: states follow each other (K-121, K-122, K-270)", "[hv][root]") {
    RootFixture f;
    const u64 id = f.create();
    const u32 rwx = map_flag::kRead | map_flag::kWrite | map_flag::kKernelExecute;
    CHECK(f.map(id, 0, rwx, {0x800}) == HvStatus::InvalidPartitionState);
    CHECK(f.create_vp(id, 0) == HvStatus::InvalidPartitionState);
    CHECK(f.initialize(id) == HvStatus::InsufficientMemory);
    CHECK(f.deposit(id, 0x400, 3) == HvStatus::Success);
    CHECK(f.initialize(id) == HvStatus::Success);
    CHECK(f.initialize(id) == HvStatus::InvalidPartitionState);
    CHECK(f.remove(id) == HvStatus::InvalidPartitionState);
    // K-250: early properties are over
    CHECK(f.call(0x45, SetPropertyIn{id, 0x10000, 0, 0}) == HvStatus::InvalidPartitionState);
    CHECK(f.map(id, 0, rwx, {0x800}) == HvStatus::InsufficientMemory);  // tables
    CHECK(f.completed == 0);
    CHECK(f.deposit(id, 0x410, 8) == HvStatus::Success);
    CHECK(f.map(id, 0, rwx, {0x800}) == HvStatus::Success);
    CHECK(f.create_vp(id, 0) == HvStatus::Success);
    CHECK(f.create_vp(id, 0) == HvStatus::InvalidVpIndex);
    CHECK(f.create_vp(id, Hypervisor::kMaxVpsPerPartition) == HvStatus::InvalidVpIndex);
    CHECK(f.finalize(id) == HvStatus::Success);
    CHECK(f.finalize(id) == HvStatus::InvalidPartitionState);
    CHECK(f.host.vps.size() == 1);
    CHECK(f.unmap(id, 0, 1) == HvStatus::Success);  // Linux unmaps behind Finalize
    CHECK(f.remove(id) == HvStatus::OperationDenied);
    CHECK(f.withdraw_all(id).size() == 11);
    CHECK(f.remove(id) == HvStatus::Success);
    CHECK(f.create() != id);  // never again
}

TEST_CASE("partition: ids name the caller, its children, or nobody", "[hv][root]") {
    RootFixture f;
    PartitionConfig config;
    config.name = "other";
    config.privileges = ~u64{0};
    Partition& other = f.hypervisor->create_partition(config, f.sink);
    CHECK(f.initialize(other.id()) == HvStatus::AccessDenied);
    CHECK(f.initialize(0) == HvStatus::InvalidPartitionId);
    CHECK(f.finalize(f.root->id()) == HvStatus::AccessDenied);
    const u64 a = f.create(), b = f.create();
    CHECK(f.call(0x47, NextChildIn{kPartitionSelf, 0}) == HvStatus::Success);
    CHECK(f.output<u64>() == a);
    CHECK(f.call(0x47, NextChildIn{f.root->id(), a}) == HvStatus::Success);
    CHECK(f.output<u64>() == b);
    CHECK(f.call(0x47, NextChildIn{f.root->id(), b}) == HvStatus::Success);
    CHECK(f.output<u64>() == 0);
    u64 made = 0;
    CHECK(f.hypervisor->create_child(other.node(), CreatePartitionIn{}, made) == HvStatus::PartitionTooDeep);
}

TEST_CASE("partition: the number of partitions and VPs has a limit", "[hv][root]") {
    RootFixture f;
    std::size_t made = 0;
    while (f.create() != 0) ++made;
    CHECK(made == Hypervisor::kMaxPartitions - 1);
    CHECK(f.call(0x40, CreatePartitionIn{}) == HvStatus::NoResources);
}

TEST_CASE("map: sizes, permissions and what may be mapped (K-128, K-129)", "[hv][root]") {
    RootFixture f;
    const u64 id = f.create();
    f.deposit(id, 0x400, 32);
    f.initialize(id);
    Partition& child = f.child(id);
    CHECK(f.map(id, 0x10, map_flag::kRead, {0x801, 0x805}) == HvStatus::Success);
    CHECK(f.completed == 2);
    CHECK(f.address(child, 0x10123)->value == 0x801123);
    CHECK(f.address(child, 0x11000)->value == 0x805000);
    CHECK_FALSE(f.address(child, 0x10000, mmu::Access::Write));
    CHECK_FALSE(f.address(child, 0x10000, mmu::Access::Fetch));
    // a large page
    const u32 rw = map_flag::kRead | map_flag::kWrite;
    CHECK(f.map(id, 0x200, rw | map_flag::kLarge, {0xa00}) == HvStatus::Success);
    CHECK(f.address(child, 0x200000 + 0x1ff000, mmu::Access::Write)->value == 0xa00000 + 0x1ff000);
    CHECK(f.map(id, 0x201, rw | map_flag::kLarge, {0xa00}) == HvStatus::InvalidParameter);
    CHECK(f.map(id, 0x400, rw | map_flag::kLarge, {0xa01}) == HvStatus::InvalidParameter);
    // the parent still has what it lent
    CHECK(f.root_address(0xa00000)->value == 0xa00000);
    CHECK(f.hypervisor->ledger().mappings(Spa(0xa00000)) == 1);
    CHECK(f.deposit(id, 0xa00, 1) == HvStatus::OperationDenied);
    // not what it does not own
    CHECK(f.map(id, 0x20, rw, {0x400}) == HvStatus::InvalidParameter);  // deposited
    CHECK(f.map(id, 0x20, rw, {RootFixture::kPrivateSpa >> 12}) == HvStatus::InvalidParameter);
    CHECK(f.map(id, 0x20, rw, {*f.rdmsr(msr::SIMP) >> 12}) == HvStatus::InvalidParameter);
    CHECK(f.map(id, 0x20, rw, {0x100000}) == HvStatus::InvalidParameter);  // nothing is there
    CHECK(f.map(id, 0x20, map_flag::kWrite, {0x806}) == HvStatus::InvalidParameter);
    CHECK(f.map(id, u64{1} << 36, rw, {0x806}) == HvStatus::InvalidParameter);
    CHECK(f.map(id, ~u64{0}, rw, {0x806}) == HvStatus::InvalidParameter);
    CHECK(f.map(kPartitionSelf, 0x20, rw, {0x806}) == HvStatus::AccessDenied);
    // part of a large page goes, the rest stays
    CHECK(f.unmap(id, 0x300, 16) == HvStatus::Success);
    CHECK(f.completed == 16);
    CHECK_FALSE(f.address(child, 0x300000));
    CHECK(f.address(child, 0x310000)->value == 0xb10000);
    CHECK(f.hypervisor->ledger().mappings(Spa(0xb00000)) == 0);
    CHECK(f.deposit(id, 0xb00, 1) == HvStatus::Success);
    CHECK(f.unmap(id, 0x200, 1, kUnmapLarge) == HvStatus::Success);
    CHECK(f.hypervisor->ledger().mappings(Spa(0xa00000)) == 0);
    CHECK(f.unmap(id, 0x5000, 3) == HvStatus::Success);  // nothing there: counts as done
}

TEST_CASE("map: NO_ACCESS ignores the list, is cheap, and decides about the intercept (K-128, R-65)", "[hv][root]") {
    RootFixture f;
    const u64 id = f.create();
    f.deposit(id, 0x400, 8);
    f.initialize(id);
    MapGpaHeader header{id, 0, map_flag::kNoAccess, 0};
    f.memory.write(Spa(RootFixture::kInput), header);
    CHECK(f.reps_of(0x4b, 500) == HvStatus::Success);
    CHECK(f.completed == 500);
    Partition& child = f.child(id);
    CHECK(child.contains(Gpa(499 * kPageSize)));
    CHECK_FALSE(child.contains(Gpa(500 * kPageSize)));
    CHECK_FALSE(f.address(child, 0));
    CHECK_FALSE(child.readable(Gpa(0)));
    CHECK(child.node().pool.in_use() == Partition::kOwnPages);
    CHECK(f.hypervisor->ledger().mappings(Spa(0)) == 0);
}
