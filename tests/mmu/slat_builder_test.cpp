#include <catch2/catch.hpp>

#include <map>
#include <random>
#include <set>

#include "mmu/slat_builder.h"
#include "mmu/walk.h"

using namespace vg;
using namespace vg::mmu;

namespace {

constexpr u64 kMiB = u64{1} << 20, kGiB = u64{1} << 30;

struct Fixture {
    PhysicalMemory memory;
    std::set<u64> taken;
    u64 next = 0, limit = 4096;
    std::vector<u64> freed;
    std::unique_ptr<SlatBuilder> slat;

    Fixture() {
        REQUIRE(memory.add_ram("ram", Spa(0), 32 * kMiB));
        slat = std::make_unique<SlatBuilder>(
            memory, [this] { return allocate(); },
            [this](Spa page) {
                REQUIRE(taken.erase(page.value) == 1);
                freed.push_back(page.value);
            });
    }
    ~Fixture() {
        slat.reset();
        CHECK(taken.empty());
    }
    Result<Spa> allocate() {
        if (taken.size() >= limit) return fail(Error::Code::Host, "no pages left");
        u64 page = 0;
        if (!freed.empty()) {
            page = freed.back();
            freed.pop_back();
            const std::vector<u8> zeros(kPageSize);
            memory.write(Spa(page), zeros.data(), kPageSize);
        } else {
            page = (next += kPageSize);
        }
        taken.insert(page);
        return Spa(page);
    }
    /// The tables and `find` must say the same.
    void check(u64 gpa, bool present, u64 spa = 0, SlatPermissions p = {}) {
        CAPTURE(gpa);
        const SlatBuilder::Entry e = slat->find(Gpa(gpa));
        REQUIRE(e.present == present);
        const u8 rights = static_cast<u8>(present ? (p.read ? 1 : 0) | (p.write ? 2 : 0) | (p.execute ? 4 : 0) : 0);
        if (present) {
            REQUIRE(e.spa.value == spa);
            REQUIRE(e.permissions == p);
        }
        for (const Access access : {Access::Read, Access::Write, Access::Fetch}) {
            const Translation t = translate_gpa(memory, slat->mode(), Gpa(gpa), access);
            const bool ok = ((rights >> static_cast<unsigned>(access)) & 1) != 0;
            REQUIRE((t.status == Translation::Status::Ok) == ok);
            if (ok) {
                REQUIRE(t.spa.value == spa);
                REQUIRE(t.page_bits == e.page_bits);
            } else {
                REQUIRE_FALSE(t.slat_fault.misconfigured);
                REQUIRE(t.slat_fault.permissions == rights);
            }
        }
    }
};

}  // namespace

TEST_CASE("slat builder: uses large entries and splits them", "[mmu][slat]") {
    Fixture f;
    REQUIRE(f.slat->root() != 0);
    REQUIRE(f.slat->map(Gpa(kGiB), Spa(4 * kGiB), 2 * kGiB, {}));
    CHECK(f.slat->table_pages() == 2);
    CHECK(f.slat->find(Gpa(kGiB)).page_bits == 30);
    f.check(2 * kGiB + 0x1234567, true, 5 * kGiB + 0x1234567);
    const SlatPermissions read_only{.read = true, .write = false, .execute = false};
    REQUIRE(f.slat->map(Gpa(kGiB + 3 * kMiB), Spa(0x5000), 0x1000, read_only));
    CHECK(f.slat->table_pages() == 4);
    f.check(kGiB + 3 * kMiB + 5, true, 0x5005, read_only);
    f.check(kGiB + 3 * kMiB - 1, true, 4 * kGiB + 3 * kMiB - 1);
    f.check(kGiB + 3 * kMiB + 0x1000, true, 4 * kGiB + 3 * kMiB + 0x1000);
    CHECK(f.slat->find(Gpa(kGiB + 3 * kMiB + 0x1000)).page_bits == 12);
    CHECK(f.slat->find(Gpa(kGiB + 8 * kMiB)).page_bits == 21);
    REQUIRE(f.slat->map(Gpa(kGiB), Spa(8 * kGiB), kGiB, {}));
    CHECK(f.slat->table_pages() == 2);
    CHECK(f.slat->find(Gpa(kGiB)).page_bits == 30);
}

TEST_CASE("slat builder: unmapping leaves holes and skips them", "[mmu][slat]") {
    Fixture f;
    REQUIRE(f.slat->map(Gpa(0), Spa(0), 16 * kMiB, {}));
    REQUIRE(f.slat->unmap(Gpa(0x1ff000), 0x2000));
    f.check(0x1ff000, false);
    f.check(0x200fff, false);
    f.check(0x201000, true, 0x201000);
    REQUIRE(f.slat->unmap(Gpa(0), u64{1} << 48));
    f.check(0, false);
    f.check(8 * kMiB, false);
    CHECK(f.slat->table_pages() <= 3);
    CHECK_FALSE(f.slat->unmap(Gpa(0x800), 0x1000));
}

TEST_CASE("slat builder: refuses what EPT cannot say and reports missing pages", "[mmu][slat]") {
    Fixture f;
    CHECK_FALSE(f.slat->map(Gpa(0), Spa(0), 0x1000, {.read = false, .write = true, .execute = false}));
    CHECK_FALSE(f.slat->map(Gpa(0), Spa(0x800), 0x1000, {}));
    CHECK_FALSE(f.slat->map(Gpa((u64{1} << 48) - 0x1000), Spa(0), 0x2000, {}));
    CHECK_FALSE(f.slat->map(Gpa(0), Spa(u64{1} << 46), 0x1000, {}));
    CHECK(f.slat->map(Gpa((u64{1} << 48) - 0x1000), Spa(0), 0x1000, {}));
    f.limit = f.taken.size() + 1;
    CHECK_FALSE(f.slat->map(Gpa(0), Spa(0), 0x1000, {}));
    f.check(0, false);
    f.limit += 3;
    CHECK(f.slat->map(Gpa(0), Spa(0), 0x1000, {}));
    f.check(0, true, 0);
    const Result<void> r = f.slat->map(Gpa(0), Spa(0), 0x1000, {.read = false, .write = false, .execute = false});
    CHECK(r);
    f.check(0, false);
}

TEST_CASE("slat builder: agrees with a page map after random changes", "[mmu][slat]") {
    Fixture f;
    std::mt19937_64 random(7);
    struct Page {
        u64 spa;
        SlatPermissions p;
    };
    std::map<u64, Page> model;
    const u64 base = 3 * kGiB - 8 * kMiB;  // across a 1 GiB boundary
    for (unsigned step = 0; step < 400; ++step) {
        const bool big = random() % 3 == 0;
        const u64 unit = big ? 2 * kMiB : kPageSize;
        const u64 gpa = base + random() % (16 * kMiB / unit) * unit;
        const u64 size = std::min((1 + random() % 3) * unit, base + 16 * kMiB - gpa);
        if (random() % 3 == 0) {
            REQUIRE(f.slat->unmap(Gpa(gpa), size));
            for (u64 at = gpa; at < gpa + size; at += kPageSize) model.erase(at);
        } else {
            const u64 spa = (random() % 1000) * 2 * kMiB + (random() % 2) * kPageSize;
            const SlatPermissions p{.read = true, .write = random() % 2 == 0, .execute = random() % 2 == 0};
            REQUIRE(f.slat->map(Gpa(gpa), Spa(spa), size, p));
            for (u64 at = gpa; at < gpa + size; at += kPageSize) model[at] = {spa + (at - gpa), p};
        }
        for (unsigned i = 0; i < 40; ++i) {
            const u64 at = base + random() % 4096 * kPageSize;
            const auto found = model.find(at);
            if (found == model.end()) {
                f.check(at, false);
            } else {
                f.check(at + 0x123, true, found->second.spa + 0x123, found->second.p);
            }
        }
    }
}
