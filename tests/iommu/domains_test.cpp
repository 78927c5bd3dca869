// Device tables that a hypervisor builds over partitions' own second-level tables.
#include <set>

#include "iommu/domains.h"
#include "mmu/slat_builder.h"
#include "tests/iommu/bench.h"

using namespace vg;
using namespace vg::test;

namespace {

/// Private pages from the bench's table area, counted.
struct Owner : VtdBench {
    explicit Owner(VtdConfig config = {}) : VtdBench(std::move(config)) {}
    mmu::SlatBuilder::AllocatePage allocate() {
        return [this]() -> Result<Spa> {
            if (left == 0) return fail(Error::Code::Host, "no page left");
            --left;
            ++in_use;
            if (!free_pages.empty()) {
                const u64 spa = *free_pages.begin();
                free_pages.erase(free_pages.begin());
                const std::vector<u8> zero(kPageSize);
                memory.write(Spa(spa), zero.data(), zero.size());
                return Spa(spa);
            }
            return Spa(page());
        };
    }
    mmu::SlatBuilder::FreePage free() {
        return [this](Spa spa) {
            --in_use;
            ++left;
            free_pages.insert(spa.value);
        };
    }
    std::set<u64> free_pages;
    u64 left = 700, in_use = 0;
};

constexpr mmu::SlatPermissions kReadOnly{true, false, true};
constexpr mmu::SlatPermissions kAll{};

}  // namespace

TEST_CASE("domains: devices reach what their partition's EPT maps, and the others nothing", "[iommu][domains]") {
    Owner owner;
    {
        mmu::SlatBuilder slat(owner.memory, owner.allocate(), owner.free());
        REQUIRE(slat.map(Gpa(0), Spa(0x400000), 0x200000, kAll));  // one 2 MiB entry
        REQUIRE(slat.map(Gpa(0x300000), Spa(0x601000), 0x1000, kReadOnly));
        DeviceDomains domains(owner.memory, owner.unit, owner.allocate(), owner.free());
        REQUIRE_FALSE(domains.attach(0x10, 1, slat.root()));
        REQUIRE(domains.enable());
        CHECK_FALSE(owner.read8(0x10, 0x1000));
        CHECK(owner.take_fault().reason == FaultReason::RootNotPresent);
        CHECK_FALSE(domains.attach(0x10, 0, slat.root()));
        CHECK_FALSE(domains.attach(0x10, 1, u64{1} << 46));
        REQUIRE(domains.attach(0x10, 1, slat.root()));
        CHECK(owner.write8(0x10, 0x123456, 0x42));
        CHECK(owner.memory.read<u8>(Spa(0x523456)) == 0x42);
        CHECK(owner.read8(0x10, 0x300fff));
        CHECK_FALSE(owner.write8(0x10, 0x300fff));
        CHECK(owner.take_fault().reason == FaultReason::NoWrite);
        CHECK_FALSE(owner.read8(0x10, 0x301000));
        CHECK_FALSE(owner.read8(0x11, 0x1000));
        CHECK(owner.unit.peek_context(0x10).domain == 1);

        // A change counts for devices once it is flushed, as for processors.
        REQUIRE(slat.unmap(Gpa(0x1000), 0x1000));
        CHECK(owner.write8(0x10, 0x123456));
        domains.flush(1, Iova(0x1000), 0x1000);
        CHECK_FALSE(owner.read8(0x10, 0x1000));
        CHECK(owner.read8(0x10, 0x2000));
        REQUIRE(slat.unmap(Gpa(0), 0x200000));
        CHECK(owner.read8(0x10, 0x2000));
        domains.flush(1, Iova(0x1fff), 2);  // across a page boundary
        CHECK_FALSE(owner.read8(0x10, 0x2000));
        REQUIRE(slat.map(Gpa(0), Spa(0x400000), 0x200000, kAll));
        CHECK(owner.read8(0x10, 0x5000));
        REQUIRE(slat.unmap(Gpa(0), 0x200000));
        domains.flush(1, Iova(0), u64{1} << 47);  // more than a page-selective invalidation can say
        CHECK_FALSE(owner.read8(0x10, 0x5000));

        CHECK(domains.table_pages() == 2);
        CHECK(owner.read8(0x10, 0x300000));
        domains.detach(0x10);
        domains.detach(0x10);
        CHECK_FALSE(owner.read8(0x10, 0x300000));
        CHECK(domains.attached().empty());
        REQUIRE(domains.attach(0x10, 1, slat.root()));
        CHECK(owner.read8(0x10, 0x300000));
    }
    CHECK(owner.in_use == 0);
    CHECK_FALSE(owner.read8(0x10, 0x300000));  // nobody owns the tables any more
    CHECK_FALSE(owner.read8(0x10, 0x300000));
}

TEST_CASE("domains: a device moves between partitions without a moment in both", "[iommu][domains]") {
    VtdConfig config;
    config.caching_mode = GENERATE(false, true);
    Owner owner(config);
    mmu::SlatBuilder one(owner.memory, owner.allocate(), owner.free()),
        two(owner.memory, owner.allocate(), owner.free());
    REQUIRE(one.map(Gpa(0x1000), Spa(0x400000), 0x1000, kAll));
    REQUIRE(two.map(Gpa(0x1000), Spa(0x500000), 0x1000, kAll));
    owner.memory.write<u8>(Spa(0x400000), 1);
    owner.memory.write<u8>(Spa(0x500000), 2);
    DeviceDomains domains(owner.memory, owner.unit, owner.allocate(), owner.free());
    REQUIRE(domains.enable());
    CHECK_FALSE(owner.read8(0x10, 0x1000));
    for (u16 i = 0; i < 6; ++i) {
        REQUIRE(domains.attach(0x10, 1 + i % 2, i % 2 == 0 ? one.root() : two.root()));
        u8 byte = 0;
        CHECK(owner.read(0x10, 0x1000, &byte, 1));
        CHECK(byte == 1 + i % 2);
    }
}

TEST_CASE("domains: without pages the attachment fails and the device stays out", "[iommu][domains]") {
    Owner owner;
    mmu::SlatBuilder slat(owner.memory, owner.allocate(), owner.free());
    REQUIRE(slat.map(Gpa(0), Spa(0x400000), 0x200000, kAll));
    DeviceDomains domains(owner.memory, owner.unit, owner.allocate(), owner.free());
    owner.left = 0;
    CHECK_FALSE(domains.enable());
    owner.left = 1;
    REQUIRE(domains.enable());
    CHECK_FALSE(domains.attach(0x10, 1, slat.root()));
    CHECK_FALSE(owner.read8(0x10, 0x1000));
    owner.left = 1;
    CHECK(domains.attach(0x10, 1, slat.root()));
    CHECK(owner.read8(0x10, 0x1000));
}

TEST_CASE("domains: no access ever reaches a page that is not mapped for its device", "[iommu][domains]") {
    // Every page of kData belongs to one partition, says the map kept here; devices write the partition's number into
    // what they reach, and at every step each page may only hold its owner's.
    constexpr u64 kPartitions = 3, kPages = 128, kFirst = VtdBench::kData / kPageSize;
    u64 reached = 0, refused = 0;
    for (u64 seed = 1; seed <= 20; ++seed) {
        Random random(seed);
        Owner owner;
        std::vector<std::unique_ptr<mmu::SlatBuilder>> slats;
        for (u64 p = 0; p < kPartitions; ++p) {
            slats.push_back(std::make_unique<mmu::SlatBuilder>(owner.memory, owner.allocate(), owner.free()));
        }
        DeviceDomains domains(owner.memory, owner.unit, owner.allocate(), owner.free());
        REQUIRE(domains.enable());
        std::vector<u64> belongs(kPages, kPartitions);                       // nobody's
        std::vector<std::map<u64, std::pair<u64, bool>>> gpas(kPartitions);  // GPA page -> page, writable
        const auto device = [](u64 d) { return static_cast<u16>((d % 2) << 8 | d << 3); };
        std::map<u16, u64> where;
        for (u32 step = 0; step < 3000; ++step) {
            const u64 p = random.below(kPartitions), page = random.below(kPages), gpa = random.below(24);
            const u16 rid = device(random.below(5));
            switch (random.below(8)) {
                case 0:  // a page changes its owner: out of the old one's table, flushed, then into the new one's
                    if (belongs[page] != kPartitions) {
                        auto& old = gpas[belongs[page]];
                        for (auto at = old.begin(); at != old.end();) {
                            if (at->second.first != page) {
                                ++at;
                                continue;
                            }
                            REQUIRE(slats[belongs[page]]->unmap(Gpa(at->first * kPageSize), kPageSize));
                            domains.flush(static_cast<u16>(belongs[page] + 1), Iova(at->first * kPageSize), kPageSize);
                            at = old.erase(at);
                        }
                    }
                    belongs[page] = p;
                    owner.memory.write<u8>(Spa((kFirst + page) * kPageSize), static_cast<u8>(p));
                    break;
                case 1: {
                    const u64 owns = belongs[page];
                    if (owns == kPartitions) break;
                    const bool writable = random.chance(70);
                    REQUIRE(slats[owns]->map(Gpa(gpa * kPageSize), Spa((kFirst + page) * kPageSize), kPageSize,
                                             writable ? kAll : kReadOnly));
                    domains.flush(static_cast<u16>(owns + 1), Iova(gpa * kPageSize), kPageSize);
                    gpas[owns][gpa] = {page, writable};
                    break;
                }
                case 2:
                    if (random.chance(25)) {
                        domains.detach(rid);
                        where.erase(rid);
                    } else {
                        REQUIRE(domains.attach(rid, static_cast<u16>(p + 1), slats[p]->root()));
                        where[rid] = p;
                    }
                    break;
                default: {
                    const auto at = where.find(rid);
                    const bool write = random.chance(50);
                    bool expected = false;
                    u64 target = 0;
                    if (at != where.end()) {
                        const auto mapped = gpas[at->second].find(gpa);
                        expected = mapped != gpas[at->second].end() && (!write || mapped->second.second);
                        if (expected) target = mapped->second.first;
                    }
                    u8 byte = at == where.end() ? u8{0xff} : static_cast<u8>(at->second);
                    const bool ok = write ? owner.write(rid, gpa * kPageSize, &byte, 1)
                                          : owner.read(rid, gpa * kPageSize, &byte, 1);
                    REQUIRE(ok == expected);
                    if (ok) {
                        REQUIRE(owner.unit.history().transfers.last().spa == (kFirst + target) * kPageSize);
                        REQUIRE(byte == at->second);
                        REQUIRE(belongs[target] == at->second);
                    }
                    (ok ? reached : refused) += 1;
                }
            }
        }
        for (u64 page = 0; page < kPages; ++page) {
            if (belongs[page] != kPartitions)
                REQUIRE(owner.memory.read<u8>(Spa((kFirst + page) * kPageSize)) == belongs[page]);
        }
    }
    CHECK(reached > 5000);
    CHECK(refused > 5000);
}

TEST_CASE("domains: faults are told to the unit's owner, taken in order, and recorded again after an overflow",
          "[iommu][domains]") {
    Owner owner;
    mmu::SlatBuilder slat(owner.memory, owner.allocate(), owner.free());
    DeviceDomains domains(owner.memory, owner.unit, owner.allocate(), owner.free());
    REQUIRE(domains.enable());
    REQUIRE(domains.attach(0x10, 1, slat.root()));
    test::RecordingSink events;
    owner.unit.set_event_sink(&events);
    CHECK_FALSE(owner.read8(0x10, 0x1000));
    CHECK(events.sent.empty());  // masked
    domains.report_faults();     // one is pending
    CHECK(events.sent.size() == 1);
    DeviceDomains::Faults taken = domains.take_faults();
    REQUIRE(taken.list.size() == 1);
    CHECK_FALSE(taken.overflow);
    CHECK(domains.take_faults().list.empty());
    for (u64 round = 0; round < 3; ++round) {
        events.sent.clear();
        for (u64 i = 0; i < Vtd::kFaultRecords + 3; ++i) {
            const u64 page = (0x100 * round + i) * kPageSize;
            CHECK_FALSE((i % 2 == 0 ? owner.read8(0x10, page + 5) : owner.write8(0x10, page + 5)));
        }
        CHECK(events.sent.size() == 1);  // until it is looked at
        taken = domains.take_faults();
        CHECK(taken.overflow);
        REQUIRE(taken.list.size() == Vtd::kFaultRecords);
        for (u64 i = 0; i < taken.list.size(); ++i) {
            CHECK(taken.list[i].rid == 0x10);
            CHECK(taken.list[i].info == (0x100 * round + i) * kPageSize);
            CHECK(taken.list[i].write == (i % 2 != 0));
            CHECK(taken.list[i].reason == (i % 2 != 0 ? FaultReason::NoWrite : FaultReason::NoRead));
        }
        CHECK(owner.get32(reg::kFaultStatus) == 0);
    }
    CHECK(owner.sink.sent.empty());  // a guest's interrupt controllers hear nothing
    owner.unit.set_event_sink(nullptr);
    CHECK_FALSE(owner.read8(0x10, 0x1000));
    CHECK(owner.sink.sent.size() == 1);
}
