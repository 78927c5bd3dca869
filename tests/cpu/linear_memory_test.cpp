#include <catch2/catch.hpp>

#include <cstring>
#include <memory>
#include <vector>

#include "cpu/linear_memory.h"
#include "cpu/spec/bits.h"
#include "cpu/vp.h"
#include "mmu/slat_builder.h"
#include "mmu/spec/paging.h"

using namespace vg;
using namespace vg::cpu;
namespace pte = vg::mmu::pte;

namespace {

constexpr u64 kMiB = u64{1} << 20;
constexpr u64 kTable = pte::kPresent | pte::kWrite | pte::kUser;

struct NoPlatform final : Platform {
    u32 port_read(Vp&, u16, unsigned) override { return ~0u; }
    void port_write(Vp&, u16, unsigned, u32) override {}
    int acknowledge_external(Vp&) override { return -1; }
    void shutdown(Vp&) override {}
};

struct Device final : mmu::MmioHandler {
    std::vector<std::pair<u64, unsigned>> reads, writes;
    u64 last = 0;
    u64 mmio_read(u64 offset, unsigned size) override {
        reads.emplace_back(offset, size);
        return 0x8877665544332211;
    }
    void mmio_write(u64 offset, unsigned size, u64 value) override {
        writes.emplace_back(offset, size);
        last = value;
    }
};

struct CodeWatch final : mmu::CodeObserver {
    std::vector<u64> seen;
    void code_written(Spa spa, u32) override { seen.push_back(spa.value); }
    void mark_page(Spa) override {}
};

struct Owner final : virt::ExitOwner {
    virt::Action answer = virt::Action::Complete;
    std::vector<virt::Exit> exits;
    virt::Action on_exit(Vp&, virt::Exit& exit) override {
        exits.push_back(exit);
        if (exit.write) return answer;
        exit.value = 0x0102030405060708;
        for (u64& word : exit.data) word = 0x1111111111111111;
        exit.fault = Fault{.vector = kGeneralProtection, .has_error = true, .error_code = 0x77};
        return answer;
    }
};

/// A VP in 64-bit mode at CPL 0. GVA pages below 2 MiB through the page table at 0x4000, 32 MiB of RAM, a device at
/// 0x10000000, the APIC at its usual place.
struct Fixture {
    mmu::PhysicalMemory memory;
    ManualClock clock;
    EventQueue events{clock};
    Log log;
    CpuModel model = CpuModel::create("verdigris-v3").value();
    ApicBus bus;
    NoPlatform platform;
    Device device;
    std::unique_ptr<Vp> vp;
    u64 base = 0;  ///< SPA of GPA 0

    explicit Fixture(u64 gpa_base = 0) : base(gpa_base) {
        REQUIRE(memory.add_ram("ram", Spa(0), 32 * kMiB));
        REQUIRE(memory.add_mmio("device", Spa(0x10000000), 0x1000, device));
        const u64 partition = gpa_base != 0 ? 1 : 0;  // with a second level it is a partition's, whose APIC is in its space
        vp = std::make_unique<Vp>(VpEnvironment{memory, events, log, model, bus, platform, partition}, "vp", 0, 0);
        put(0x1000, 0x2000 | kTable);
        put(0x2000, 0x3000 | kTable);
        put(0x3000, 0x4000 | kTable);
        for (u64 page = 0x10; page < 0x20; ++page) map(page << 12, page << 12, kTable);
        VpState& s = vp->state();
        s.cr0 = cr0::PE | cr0::PG | cr0::WP | cr0::NE;
        s.cr4 = cr4::PAE;
        s.efer = efer::LME | efer::LMA | efer::NXE;
        s.cr3 = 0x1000;
        vp->tlb().flush_all();
        vp->update_context();
    }
    void put(u64 gpa, u64 entry) { memory.write<u64>(Spa(base + gpa), entry); }
    u64 get(u64 gpa) { return memory.read<u64>(Spa(base + gpa)); }
    void map(u64 gva, u64 gpa, u64 flags) {
        put(0x4000 + (gva >> 12) * 8, gpa | flags);
        vp->tlb().flush_page(gva);
    }
    LinearMemory& lm() { return vp->memory(); }
    void user() {
        vp->state().cpl = 3;
        vp->update_context();
    }
    void expect(u8 vector, u32 error, u64 cr2 = 0) {
        CHECK(vp->failed() == Exec::Fault);
        CHECK(vp->fault().vector == vector);
        CHECK(vp->fault().error_code == error);
        if (vector == kPageFault) CHECK(vp->fault().cr2 == cr2);
    }
};

}  // namespace

TEST_CASE("linear memory: reads and writes of every size, aligned or not, across pages", "[cpu][memory]") {
    Fixture f;
    for (u32 size = 1; size <= 64; ++size) {
        for (const u64 address : {u64{0x10000}, u64{0x10fff}, u64{0x11001}, u64{0x11fe0}}) {
            CAPTURE(size, address);
            u8 data[64], back[64] = {};
            for (u32 i = 0; i < size; ++i) data[i] = static_cast<u8>(i * 7 + size);
            REQUIRE(f.lm().write(address, data, size));
            REQUIRE(f.lm().read(address, back, size));
            REQUIRE(std::memcmp(data, back, size) == 0);
            u8 physical[64];
            f.memory.read(Spa(address), physical, size);
            REQUIRE(std::memcmp(data, physical, size) == 0);
        }
    }
}

TEST_CASE("linear memory: non-canonical addresses", "[cpu][memory]") {
    Fixture f;
    u64 value = 0;
    CHECK_FALSE(f.lm().read(u64{1} << 47, value));
    f.expect(kGeneralProtection, 0);
    CHECK_FALSE(f.lm().write((u64{1} << 47) - 4, value, As::Current, true));
    f.expect(kStackFault, 0);
    CHECK_FALSE(f.lm().read((u64{1} << 47) - 8, value));
    f.expect(kPageFault, 0, (u64{1} << 47) - 8);
    u8 bytes[16];
    CHECK(f.lm().fetch(u64{1} << 47, bytes, 1) == 0);
    f.expect(kGeneralProtection, 0);
    f.vp->state().cr0 = cr0::PE;
    f.vp->state().efer = 0;
    f.vp->tlb().flush_all();
    f.vp->update_context();
    f.memory.write<u32>(Spa(0), 0x44332211);
    CHECK(f.lm().read(0xffffffff, bytes, 3));  // without paging linear addresses wrap at 4 GiB
    CHECK(bytes[1] == 0x11);
}

TEST_CASE("linear memory: a fault on the second page leaves the first unwritten", "[cpu][memory]") {
    Fixture f;
    f.map(0x12000, 0x12000, pte::kPresent);
    f.memory.write<u64>(Spa(0x11ff8), 0xaaaaaaaaaaaaaaaa);
    u64 value = 0;
    CHECK_FALSE(f.lm().write(0x11ffc, value));
    f.expect(kPageFault, 3, 0x12000);
    CHECK(f.memory.read<u64>(Spa(0x11ff8)) == 0xaaaaaaaaaaaaaaaa);
    CHECK_FALSE(f.lm().probe_write(0x11ffc, 8));
    CHECK(f.lm().probe_write(0x11ff8, 8));
    f.map(0x12000, 0x12000, 0);
    value = 5;
    CHECK_FALSE(f.lm().read(0x11ffc, value));
    f.expect(kPageFault, 0, 0x12000);
    CHECK(value == 5);
}

TEST_CASE("linear memory: implicit supervisor accesses ignore the CPL", "[cpu][memory]") {
    Fixture f;
    f.map(0x12000, 0x12000, pte::kPresent | pte::kWrite);
    f.user();
    u32 value = 0;
    CHECK_FALSE(f.lm().read(0x12000, value));
    f.expect(kPageFault, 5, 0x12000);
    CHECK(f.lm().read(0x12000, value, As::Supervisor));
    CHECK(f.lm().write(0x12000, value, As::Supervisor));
    CHECK_FALSE(f.lm().write(0x12000, value));
    f.expect(kPageFault, 7, 0x12000);
}

TEST_CASE("linear memory: alignment checks", "[cpu][memory]") {
    Fixture f;
    VpState& s = f.vp->state();
    s.cr0 |= cr0::AM;
    s.rflags |= flag::AC;
    u8 data[64] = {};
    CHECK(f.lm().read(0x10001, data, 4));  // not at CPL 0
    f.user();
    for (const auto& [size, bad, good] : {std::tuple<u32, u64, u64>{2, 1, 2}, {4, 2, 4}, {8, 4, 8}, {10, 4, 8}, {6, 2, 4}, {16, 8, 16},
                                       {32, 8, 16}, {14, 1, 2}, {28, 2, 4}, {44, 2, 4}, {30, 1, 2}}) {
        CAPTURE(size);
        CHECK_FALSE(f.lm().read(0x10000 + bad, data, size));
        f.expect(kAlignmentCheck, 0);
        CHECK(f.lm().read(0x10000 + good, data, size));
        CHECK_FALSE(f.lm().write(0x10000 + bad, data, size));
        CHECK(f.lm().direct(0x10000 + bad, size, false) == nullptr);
        CHECK(f.lm().direct_failed());
    }
    CHECK(f.lm().read(0x10001, data, 1));
    CHECK(f.lm().read(0x10001, data, 4, As::Supervisor));
    s.rflags &= ~flag::AC;
    CHECK(f.lm().read(0x10001, data, 4));
}

TEST_CASE("linear memory: devices see whole accesses, holes give ones", "[cpu][memory]") {
    Fixture f;
    f.map(0x12000, 0x10000000, kTable);
    f.map(0x13000, 0x20000000, kTable);
    u32 value = 0;
    CHECK(f.lm().read(0x12004, value));
    CHECK(f.device.reads == std::vector<std::pair<u64, unsigned>>{{4, 4}});
    CHECK(value == 0x44332211);
    u8 wide[32] = {};
    CHECK(f.lm().write(0x12010, wide, 32));
    CHECK(f.device.writes.size() == 4);
    CHECK(f.lm().direct(0x12000, 4, false) == nullptr);
    CHECK_FALSE(f.lm().direct_failed());
    CHECK(f.lm().read(0x13000, value));
    CHECK(value == ~0u);
    CHECK(f.lm().write(0x13000, value));

    f.device.reads.clear();
    u64 both = 0;
    f.memory.write<u32>(Spa(0x11ffc), 0xcafebabe);
    CHECK(f.lm().read(0x11ffc, both));  // RAM, then device
    CHECK(both == 0x44332211cafebabe);
}

TEST_CASE("linear memory: the xAPIC page is where the APIC says", "[cpu][memory]") {
    Fixture f;
    f.map(0x12000, 0xfee00000, kTable);
    u32 value = 0;
    CHECK(f.lm().write(0x12080, u32{0x20}));
    CHECK(f.vp->apic().tpr() == 0x20);
    CHECK(f.lm().read(0x12080, value));
    CHECK(value == 0x20);
    CHECK(f.lm().read(0x12084, value));
    CHECK(value == 0);
    u8 byte = 1;
    CHECK(f.lm().read(0x12080, byte));
    CHECK(byte == 0x20);
    CHECK(f.lm().write(0x12080, byte));
    CHECK(f.vp->apic().tpr() == 0x20);
    CHECK(f.lm().direct(0x12080, 4, true) == nullptr);
    CHECK_FALSE(f.lm().direct_failed());
}

TEST_CASE("linear memory: writes to code are heard, direct pointers to it refused", "[cpu][memory]") {
    Fixture f;
    CodeWatch watch;
    f.memory.add_code_observer(&watch);
    CHECK(f.lm().write(0x10100, u32{1}));
    CHECK(f.lm().direct(0x10100, 4, true) == f.memory.ram(Spa(0x10100)));
    f.memory.mark_code(Spa(0x10100), 8);
    CHECK(f.lm().write(0x10104, u32{2}));
    CHECK(watch.seen == std::vector<u64>{0x10104});
    CHECK(f.memory.read<u32>(Spa(0x10104)) == 2);
    CHECK(f.lm().direct(0x10100, 4, true) == nullptr);
    CHECK_FALSE(f.lm().direct_failed());
    CHECK(f.lm().direct(0x10100, 4, false) != nullptr);
    CHECK(f.lm().direct(0x10ffe, 4, false) == nullptr);
    CHECK_FALSE(f.lm().direct_failed());
    CHECK(f.lm().direct(0x30000, 4, false) == nullptr);
    CHECK(f.lm().direct_failed());
}

TEST_CASE("linear memory: fetch stops at the page and never looks past it", "[cpu][memory]") {
    Fixture f;
    f.map(0x11000, 0x11000, 0);
    f.memory.write<u32>(Spa(0x10ffc), 0x04030201);
    u8 bytes[16] = {};
    CHECK(f.lm().fetch(0x10ffd, bytes, 15) == 3);
    CHECK(bytes[0] == 2);
    CHECK(bytes[2] == 4);
    CHECK(f.lm().fetch(0x11000, bytes, 12) == 0);
    f.expect(kPageFault, 0x10, 0x11000);
    f.map(0x12000, 0x12000, kTable | pte::kNoExecute);
    CHECK(f.lm().fetch(0x12000, bytes, 1) == 0);
    f.expect(kPageFault, 0x11, 0x12000);
    u32 value = 0;
    CHECK(f.lm().peek(0x10ffc, &value, 4));
    CHECK(value == 0x04030201);
    CHECK_FALSE(f.lm().peek(0x10ffe, &value, 4));
}

TEST_CASE("linear memory: what the second level withholds is offered to its owner", "[cpu][memory]") {
    Fixture f(16 * kMiB);
    u64 next = 8 * kMiB;
    mmu::SlatBuilder slat(f.memory, [&]() -> Result<Spa> { return Spa((next += kPageSize) - kPageSize); }, [](Spa) {});
    REQUIRE(slat.map(Gpa(0), Spa(16 * kMiB), 4 * kMiB, {}));
    REQUIRE(slat.map(Gpa(0x13000), Spa(16 * kMiB + 0x13000), kPageSize, {.read = true, .write = false, .execute = false}));
    Owner owner;
    virt::Level level;
    level.controls.slat = slat.mode();
    level.owner = &owner;
    f.vp->levels().push_back(level);
    f.vp->update_context();
    f.map(0x12000, 0x40000000, kTable);

    u32 value = 0;
    CHECK(f.lm().read(0x10000, value));
    CHECK(owner.exits.empty());
    CHECK(f.lm().read(0x12004, value));
    CHECK(value == 0x05060708);
    REQUIRE(owner.exits.size() == 1);
    CHECK(owner.exits[0].reason == virt::ExitReason::Memory);
    CHECK(owner.exits[0].gpa.value == 0x40000004);
    CHECK(owner.exits[0].gva.value == 0x12004);
    CHECK(owner.exits[0].size == 4);
    CHECK_FALSE(owner.exits[0].write);

    u8 wide[16] = {};
    CHECK(f.lm().read(0x12000, wide, 16));
    CHECK(wide[15] == 0x11);
    CHECK(f.lm().write(0x12008, u64{0x55}));
    CHECK(owner.exits.back().write);
    CHECK(owner.exits.back().value == 0x55);
    CHECK(f.lm().write(0x13000, u32{0x99}));  // a read-only page: the owner emulates the write
    CHECK(owner.exits.back().slat.permissions == 1);
    CHECK(f.lm().probe_write(0x12000, 8));

    owner.answer = virt::Action::Inject;
    CHECK_FALSE(f.lm().read(0x12000, value));
    f.expect(kGeneralProtection, 0x77);
    owner.answer = virt::Action::Leave;
    CHECK_FALSE(f.lm().read(0x12000, value));
    CHECK(f.vp->failed() == Exec::Leave);
    f.vp->clear_failure();
    f.memory.write<u32>(Spa(16 * kMiB + 0x11ffc), 0x12345678);
    CHECK_FALSE(f.lm().write(0x11ffc, u64{0}));  // RAM first, but nothing is written before the owner agreed
    CHECK(f.memory.read<u32>(Spa(16 * kMiB + 0x11ffc)) == 0x12345678);
    f.vp->clear_failure();
    owner.answer = virt::Action::Default;
    CHECK(f.lm().read(0x12000, value));
    CHECK(value == ~0u);

    f.map(0x14000, 0xfee00000, kTable);  // the APIC needs no mapping
    const std::size_t count = owner.exits.size();
    CHECK(f.lm().write(0x14080, u32{0x30}));
    CHECK(f.vp->apic().tpr() == 0x30);
    CHECK(owner.exits.size() == count);

    f.put(0x3000, 0x50000000 | kTable);  // a page table outside the partition: bounded, whatever the owner says
    f.vp->tlb().flush_all();
    owner.answer = virt::Action::Complete;
    CHECK_FALSE(f.lm().read(0x10000, value));
    f.expect(kPageFault, 0, 0x10000);
    CHECK(owner.exits.back().size == 0);
    CHECK(owner.exits.back().slat.during_walk);
    CHECK(owner.exits.size() <= count + 20);
}

TEST_CASE("linear memory: a page fault drops what is cached about the page", "[cpu][memory]") {
    // SDM 3A "Operations that Invalidate TLBs and Paging-Structure Caches": copy on write without INVLPG.
    Fixture f;
    const auto set_entry = [&](u64 gva, u64 entry) { f.put(0x4000 + (gva >> 12) * 8, entry); };
    f.map(0x12000, 0x12000, pte::kPresent);
    f.memory.write<u32>(Spa(0x12000), 0x11111111);
    f.memory.write<u32>(Spa(0x13000), 0x22222222);
    u32 value = 0;
    REQUIRE(f.lm().read(0x12000, value));
    REQUIRE(value == 0x11111111);
    CHECK_FALSE(f.lm().write(0x12000, value));
    f.expect(kPageFault, 3, 0x12000);
    set_entry(0x12000, 0x13000 | pte::kPresent | pte::kWrite);
    REQUIRE(f.lm().read(0x12000, value));
    CHECK(value == 0x22222222);
}
