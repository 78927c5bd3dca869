#include <catch2/catch.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "mmu/spec/paging.h"
#include "mmu/tlb.h"

using namespace vg;
using namespace vg::mmu;

namespace {

constexpr u64 kP = pte::kPresent, kW = pte::kWrite, kU = pte::kUser, kD = pte::kDirty, kPs = pte::kLarge, kG = pte::kGlobal;

struct StatePage {
    int fd = memfd_create("state", MFD_CLOEXEC);
    u8* page = nullptr;
    StatePage() {
        REQUIRE(ftruncate(fd, 2 * kPageSize) == 0);
        page = static_cast<u8*>(mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, kPageSize));
        REQUIRE(page != MAP_FAILED);
    }
    ~StatePage() {
        munmap(page, kPageSize);
        close(fd);
    }
};

/// One 4-level tree: PML4 0x1000, and the first 1 GiB by a page directory at 0x3000; page table of the first 2 MiB at
/// 0x4000. RAM is 64 MiB.
struct Fixture {
    PhysicalMemory memory;
    StatePage state;
    std::unique_ptr<Tlb> tlb;
    PagingMode mode;

    Fixture() {
        REQUIRE(memory.add_ram("ram", Spa(0), u64{64} << 20));
        tlb = std::make_unique<Tlb>(memory, state.fd, kPageSize);
        mode.kind = PagingKind::Level4;
        mode.wp = mode.nxe = mode.pge = mode.pcide = true;
        mode.cr3 = 0x1000;
        put(0x1000, 0x2000 | kP | kW | kU);
        put(0x2000, 0x3000 | kP | kW | kU);
        put(0x3000, 0x4000 | kP | kW | kU);
        use(Privilege::Supervisor);
    }
    void put(u64 at, u64 entry) { memory.write<u64>(Spa(at), entry); }
    u64 get(u64 at) { return memory.read<u64>(Spa(at)); }
    void page(u64 gva, u64 spa, u64 flags) { put(0x4000 + (gva >> 12) * 8, spa | flags); }
    void large(u64 gva, u64 spa, u64 flags) { put(0x3000 + (gva >> 21) * 8, spa | flags | kPs); }
    void use(Privilege privilege) { tlb->set_context(mode, {}, privilege); }
    u8* host(u64 spa) { return memory.ram(Spa(spa)); }
    Tlb::Mapping resolve(u64 gva, Access access) { return tlb->resolve(gva, access, tlb->privilege()); }
};

}  // namespace

TEST_CASE("tlb: every bank aliases the same state page", "[mmu][tlb]") {
    Fixture f;
    std::vector<BankTables*> banks;
    for (u16 pcid = 0; pcid < 40; ++pcid) {
        f.mode.cr3 = 0x1000 | pcid;
        for (const Privilege p : {Privilege::Supervisor, Privilege::User}) {
            f.use(p);
            banks.push_back(f.tlb->bank());
            u8* const below = reinterpret_cast<u8*>(f.tlb->bank()) - kPageSize;
            below[4095] = static_cast<u8>(banks.size());
            REQUIRE(f.state.page[4095] == static_cast<u8>(banks.size()));
            f.state.page[0] = static_cast<u8>(pcid);
            REQUIRE(below[0] == static_cast<u8>(pcid));
        }
    }
    std::sort(banks.begin(), banks.end());
    CHECK(std::unique(banks.begin(), banks.end()) - banks.begin() == 32);
    CHECK(f.tlb->stats().bank_evictions >= 48);
}

TEST_CASE("tlb: empty tables match no address", "[mmu][tlb]") {
    Fixture f;
    for (const u64 gva : {u64{0}, u64{0x1000}, u64{0x400000}, ~u64{0}, u64{kPageSize} * kTlbEntries}) {
        CHECK(f.tlb->find_read(gva) == nullptr);
        CHECK(f.tlb->find_write(gva) == nullptr);
    }
    const BankTables* bank = f.tlb->bank();
    for (u32 i = 0; i < kJumpEntries; ++i) {
        const u32 index = jump_index(bank->jump[i].rip);
        REQUIRE((index != i && other_jump_index(index) != i));
    }
}

TEST_CASE("tlb: a jump entry whose place is taken moves beside it, once", "[mmu][tlb]") {
    Fixture f;
    constexpr u64 kApart = u64{4} * kJumpEntries;  // one place for both
    const u64 first = 0x5010, second = first + kApart, third = second + kApart;
    for (const u64 rip : {first, second, third}) f.page(rip & ~kPageMask, 0x10000, kP | kW);
    const u32 index = jump_index(first);
    const auto& own = f.tlb->bank()->jump[index];
    const auto& other = f.tlb->bank()->jump[other_jump_index(index)];
    f.tlb->fill_jump(first, 1, false);
    f.tlb->fill_jump(second, 2, true);
    CHECK((own.rip == second && own.host == 2 && other.rip == first && other.host == 1));
    f.tlb->fill_jump(third, 3, false);
    CHECK((own.rip == third && other.rip == second));
    f.tlb->fill_jump(second, 4, true);
    CHECK((own.rip == second && own.host == 4 && other.rip == third));
    // The flags have moved along.
    f.tlb->flush_nonglobal(0);
    CHECK((own.rip == second && other.rip != third));
    f.tlb->fill_jump(first, 5, false);
    CHECK(other.rip == second);
    f.tlb->fill_jump(second, 6, true);
    CHECK((own.rip == second && own.host == 6 && other.rip == first));
    f.tlb->flush_page(first);
    CHECK((own.rip == second && other.rip != first));
    f.tlb->flush_page(second);
    CHECK(own.rip != second);
}

TEST_CASE("tlb: reads fill reads, writes fill writes once the dirty bit is set", "[mmu][tlb]") {
    Fixture f;
    f.page(0x5000, 0x10000, kP | kW);
    const Tlb::Mapping read = f.resolve(0x5123, Access::Read);
    CHECK(read.host == f.host(0x10123));
    CHECK(f.tlb->find_read(0x5fff) == f.host(0x10fff));
    CHECK(f.tlb->find_write(0x5000) == nullptr);
    CHECK((f.get(0x4000 + 5 * 8) & kD) == 0);
    const Tlb::Mapping write = f.resolve(0x5004, Access::Write);
    CHECK(write.host == f.host(0x10004));
    CHECK(f.tlb->find_write(0x5008) == f.host(0x10008));
    CHECK((f.get(0x4000 + 5 * 8) & kD) != 0);
    CHECK((f.memory.page_info(Spa(0x10000)).flags & PageInfo::kWriteCached) != 0);

    f.page(0x6000, 0x11000, kP);
    CHECK(f.resolve(0x6000, Access::Read).host != nullptr);
    const Tlb::Mapping refused = f.resolve(0x6000, Access::Write);
    CHECK(refused.translation.status == Translation::Status::Fault);
    CHECK(refused.translation.fault.error_code == 3);
    f.page(0x6000, 0x11000, kP | kW);  // a right that was added needs no flush
    CHECK(f.resolve(0x6000, Access::Write).host == f.host(0x11000));
}

TEST_CASE("tlb: MMIO, holes and the APIC page are never entries", "[mmu][tlb]") {
    Fixture f;
    f.page(0x5000, 0x10000000, kP | kW);
    const Tlb::Mapping hole = f.resolve(0x5010, Access::Write);
    CHECK(hole.translation.status == Translation::Status::Ok);
    CHECK(hole.host == nullptr);
    CHECK(hole.translation.spa.value == 0x10000010);
    CHECK(f.tlb->find_write(0x5000) == nullptr);

    f.page(0x6000, 0x12000, kP | kW);
    CHECK(f.resolve(0x6000, Access::Read).host != nullptr);
    f.tlb->set_apic_page(Gpa(0x12000));
    CHECK(f.tlb->find_read(0x6000) == nullptr);
    CHECK(f.resolve(0x6000, Access::Read).host == nullptr);
    f.tlb->set_apic_page(Tlb::kNoPage);
    CHECK(f.resolve(0x6000, Access::Read).host != nullptr);
}

TEST_CASE("tlb: a page that gets code loses its write entries in every bank", "[mmu][tlb]") {
    Fixture f;
    f.page(0x5000, 0x10000, kP | kW | kU);
    f.page(0x6000, 0x10000, kP | kW | kU);
    f.page(0x7000, 0x11000, kP | kW | kU);
    const Privilege all[] = {Privilege::Supervisor, Privilege::User};
    const bool aliases = GENERATE(false, true);
    for (const Privilege p : all) {
        f.use(p);
        CHECK(f.resolve(0x5000, Access::Write).host != nullptr);
        if (aliases) CHECK(f.resolve(0x6000, Access::Write).host != nullptr);
        CHECK(f.resolve(0x7000, Access::Write).host != nullptr);
    }
    f.memory.mark_code(Spa(0x10100), 4);
    for (const Privilege p : all) {
        f.use(p);
        CHECK(f.tlb->find_write(0x5000) == nullptr);
        CHECK(f.tlb->find_write(0x6000) == nullptr);
        CHECK(f.tlb->find_read(0x5000) != nullptr);
        CHECK(f.tlb->find_write(0x7000) != nullptr);
        CHECK(f.resolve(0x5000, Access::Write).host == nullptr);
        CHECK(f.resolve(0x5000, Access::Write).translation.status == Translation::Status::Ok);
    }
    f.memory.remark_code(Spa(0x10000));
    CHECK(f.resolve(0x6000, Access::Write).host == f.host(0x10000));
    f.memory.set_tracked(Spa(0x10000), true);
    CHECK(f.tlb->find_write(0x6000) == nullptr);
}

TEST_CASE("tlb: a watched page has no entries, and needs no walk for that", "[mmu][tlb]") {
    Fixture f;
    const u64 a = 0x400000, b = a + kTlbEntries * kPageSize;
    f.large(a, 0x400000, kP | kW);
    f.large(b, 0x800000, kP | kW);
    for (const u64 gva : {a, b}) REQUIRE(f.resolve(gva, Access::Write).host != nullptr);
    const TlbEntry& second = f.tlb->bank()->read[second_index(a)];
    REQUIRE(second.tag == a);
    // What a walk would set is cleared: it comes back only if there is one.
    f.large(a, 0x400000, kP | kW);
    f.memory.set_watched(Spa(0x400000), true, false);
    CHECK(second.tag != a);
    CHECK(f.tlb->bank()->write[second_index(a)].tag != a);
    for (const Access access : {Access::Read, Access::Write}) {
        CHECK_FALSE(f.tlb->may_walk(a, access));
        CHECK(f.resolve(a, access).host == nullptr);
        CHECK(f.resolve(a, access).translation.spa.value == 0x400000);
    }
    CHECK(f.tlb->find_read(a) == nullptr);
    CHECK((f.get(0x3000 + (a >> 21) * 8) & pte::kAccessed) == 0);
    CHECK(f.resolve(a, Access::Fetch).host == f.host(0x400000));
    CHECK(f.resolve(b, Access::Read).host == f.host(0x800000));
    f.memory.set_watched(Spa(0x400000), false, true);
    CHECK(f.resolve(a, Access::Read).host == f.host(0x400000));
    CHECK(f.resolve(a, Access::Write).host == nullptr);
    f.memory.set_watched(Spa(0x400000), false, false);
    CHECK(f.resolve(a, Access::Write).host == f.host(0x400000));
    f.tlb->flush_all();
    CHECK(f.tlb->may_walk(a, Access::Read));
    CHECK(f.tlb->may_walk(a, Access::Fetch));
}

TEST_CASE("tlb: a page that gets code loses its write entries in second places too", "[mmu][tlb]") {
    Fixture f;
    const u64 a = 0x400000, b = a + kTlbEntries * kPageSize;
    f.large(a, 0x400000, kP | kW);
    f.large(b, 0x800000, kP | kW);
    REQUIRE(tlb_index(a) == tlb_index(b));
    REQUIRE(f.resolve(a, Access::Write).host != nullptr);
    REQUIRE(f.resolve(b, Access::Write).host != nullptr);
    const TlbEntry& second = f.tlb->bank()->write[second_index(a)];
    REQUIRE(second.tag == a);
    f.memory.mark_code(Spa(0x400000), 4);
    CHECK(second.tag != a);
    CHECK(f.tlb->find_write(b) != nullptr);
    CHECK(f.resolve(a, Access::Write).host == nullptr);
}

TEST_CASE("tlb: conflicting pages come back from their second places, and not after a flush", "[mmu][tlb]") {
    Fixture f;
    const u64 a = 0x400000, b = a + kTlbEntries * kPageSize;
    f.large(a, 0x400000, kP | kW | kU);
    f.large(b, 0x800000, kP | kW | kU);
    REQUIRE(tlb_index(a) == tlb_index(b));
    CHECK(f.resolve(a, Access::Write).host == f.host(0x400000));
    CHECK(f.resolve(b, Access::Write).host == f.host(0x800000));
    CHECK(f.tlb->find_write(a) == nullptr);
    const Tlb::Mapping again = f.resolve(a + 8, Access::Write);
    CHECK(again.host == f.host(0x400008));
    CHECK(again.translation.spa.value == 0x400008);
    CHECK(f.tlb->stats().victim_hits == 1);
    CHECK(f.tlb->find_write(a) == f.host(0x400000));
    f.put(0x3000 + (b >> 21) * 8, 0);
    f.tlb->flush_page(b);
    CHECK(f.resolve(b, Access::Write).translation.status == Translation::Status::Fault);
}

TEST_CASE("tlb: INVLPG of any address of a large page drops all of it", "[mmu][tlb]") {
    Fixture f;
    f.large(0x400000, 0x400000, kP | kW);
    f.large(0x600000, 0x600000, kP | kW);
    for (u64 page = 0; page < 4; ++page) {
        CHECK(f.resolve(0x400000 + page * 0x31000, Access::Write).host != nullptr);
        CHECK(f.resolve(0x600000 + page * 0x31000, Access::Fetch).host != nullptr);
    }
    f.tlb->fill_jump(0x631000, 77, false);
    f.large(0x400000, 0x800000, kP | kW);
    f.large(0x600000, 0xa00000, kP | kW);
    f.tlb->flush_page(0x5fffff);
    f.tlb->flush_page(0x600001);
    for (u64 page = 0; page < 4; ++page) {
        CHECK(f.tlb->find_write(0x400000 + page * 0x31000) == nullptr);
        CHECK(f.resolve(0x400000 + page * 0x31000, Access::Read).translation.spa.value == 0x800000 + page * 0x31000);
        CHECK(f.resolve(0x600000 + page * 0x31000, Access::Fetch).translation.spa.value == 0xa00000 + page * 0x31000);
    }
    CHECK(f.tlb->bank()->jump[jump_index(0x631000)].rip != 0x631000);
}

TEST_CASE("tlb: PCIDs keep their entries, global pages survive MOV CR3", "[mmu][tlb]") {
    Fixture f;
    f.page(0x5000, 0x10000, kP | kW);
    f.page(0x6000, 0x11000, kP | kW | kG);
    const auto touch = [&] {
        CHECK(f.resolve(0x5000, Access::Read).host != nullptr);
        CHECK(f.resolve(0x6000, Access::Read).host != nullptr);
        f.tlb->fill_jump(0x5010, 1, false);
    };
    touch();
    f.mode.cr3 = 0x1001;
    f.use(Privilege::Supervisor);
    CHECK(f.tlb->find_read(0x5000) == nullptr);
    touch();
    f.mode.cr3 = 0x1000;
    f.use(Privilege::Supervisor);
    CHECK(f.tlb->find_read(0x5000) != nullptr);
    CHECK(f.tlb->bank()->jump[jump_index(0x5010)].rip == 0x5010);

    f.tlb->flush_nonglobal(0);
    CHECK(f.tlb->find_read(0x5000) == nullptr);
    CHECK(f.tlb->find_read(0x6000) != nullptr);
    CHECK(f.tlb->bank()->jump[jump_index(0x5010)].rip != 0x5010);
    f.tlb->flush_pcid(1);
    f.mode.cr3 = 0x1001;
    f.use(Privilege::Supervisor);
    CHECK(f.tlb->find_read(0x5000) == nullptr);
    CHECK(f.tlb->find_read(0x6000) != nullptr);
    f.tlb->flush_all_nonglobal();
    CHECK(f.tlb->find_read(0x6000) != nullptr);
    f.tlb->flush_all();
    CHECK(f.tlb->find_read(0x6000) == nullptr);
    touch();
    f.mode.cr3 = 0x1000;
    f.use(Privilege::Supervisor);
    CHECK(f.tlb->find_read(0x6000) == nullptr);
    touch();
    f.tlb->flush_page(0x6000);  // global: gone in every PCID
    f.tlb->flush_page(0x5000);  // not global: gone in this one
    CHECK(f.tlb->find_read(0x5000) == nullptr);
    f.mode.cr3 = 0x1001;
    f.use(Privilege::Supervisor);
    CHECK(f.tlb->find_read(0x6000) == nullptr);
    CHECK(f.tlb->find_read(0x5000) != nullptr);
    f.tlb->flush_page_pcid(0x5000, 1);
    CHECK(f.tlb->find_read(0x5000) == nullptr);
}

TEST_CASE("tlb: privileges have their own banks, and implicit accesses do not leak into them", "[mmu][tlb]") {
    Fixture f;
    f.mode.smap = true;
    f.page(0x5000, 0x10000, kP | kW | kU);
    f.page(0x6000, 0x11000, kP | kW);
    f.use(Privilege::User);
    CHECK(f.resolve(0x5000, Access::Read).host != nullptr);
    CHECK(f.resolve(0x6000, Access::Read).translation.fault.error_code == 5);
    CHECK(f.tlb->resolve(0x6000, Access::Read, Privilege::Supervisor).host == f.host(0x11000));
    CHECK(f.tlb->find_read(0x6000) == nullptr);
    f.tlb->set_privilege(Privilege::Supervisor);
    CHECK(f.tlb->find_read(0x5000) == nullptr);
    CHECK(f.resolve(0x5000, Access::Read).translation.fault.error_code == 1);
    f.tlb->set_privilege(Privilege::SupervisorAc);
    CHECK(f.resolve(0x5000, Access::Write).host != nullptr);
    CHECK(f.tlb->resolve(0x5000, Access::Read, Privilege::Supervisor).translation.fault.error_code == 1);
    const u64 switches = f.tlb->stats().bank_switches;
    f.tlb->set_privilege(Privilege::User);
    CHECK(f.tlb->find_read(0x5000) != nullptr);
    CHECK(f.tlb->find_read(0x6000) == nullptr);
    CHECK(f.tlb->stats().bank_switches == switches + 1);
}

TEST_CASE("tlb: a new protection key register counts at once in every bank", "[mmu][tlb]") {
    Fixture f;
    f.mode.pke = true;
    f.page(0x5000, 0x10000, kP | kW | kU | u64{2} << pte::kPkeyLow);
    for (const Privilege p : {Privilege::User, Privilege::Supervisor}) {
        f.use(p);
        CHECK(f.resolve(0x5000, Access::Write).host != nullptr);
    }
    f.mode.pkru = 2 << 4;
    f.tlb->pkru_changed();
    f.use(Privilege::Supervisor);
    CHECK(f.tlb->find_write(0x5000) == nullptr);
    CHECK(f.resolve(0x5000, Access::Read).host != nullptr);
    f.use(Privilege::User);
    CHECK(f.tlb->find_write(0x5000) == nullptr);
    CHECK(f.resolve(0x5000, Access::Write).translation.fault.error_code == 0x27);
}

TEST_CASE("tlb: the stress limit changes nothing but speed", "[mmu][tlb]") {
    Fixture f;
    f.tlb->set_stress_entries(1);
    f.large(0x400000, 0x400000, kP | kW | kU);
    for (u64 gva = 0x400000; gva < 0x410000; gva += kPageSize) {
        CHECK(f.resolve(gva, Access::Write).host == f.host(gva));
        CHECK((f.tlb->find_write(gva) != nullptr) == (tlb_index(gva) == 0));
    }
}
