#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>
#include <random>

#include "base/bits.h"
#include "mmu/spec/ept.h"
#include "mmu/spec/paging.h"
#include "mmu/walk.h"
#include "reference_walk.h"

using namespace vg;
using namespace vg::mmu;

namespace {

constexpr u64 kPages = 16;
constexpr u64 kBytes = kPages * kPageSize;
constexpr u64 kP = pte::kPresent, kW = pte::kWrite, kU = pte::kUser, kA = pte::kAccessed, kD = pte::kDirty,
              kPs = pte::kLarge, kG = pte::kGlobal, kXd = pte::kNoExecute;

struct Fixture {
    PhysicalMemory memory;
    Fixture() { REQUIRE(memory.add_ram("ram", Spa(0), kBytes)); }
    void put(u64 at, u64 entry) { memory.write<u64>(Spa(at), entry); }
    u64 get(u64 at) { return memory.read<u64>(Spa(at)); }
};

PagingMode level4(u64 cr3 = 0x1000) {
    PagingMode m;
    m.kind = PagingKind::Level4;
    m.wp = m.nxe = m.pge = true;
    m.cr3 = cr3;
    return m;
}

/// Tables at 0x1000..0x4000 mapping the first 2 MiB; the leaf of page 5 is given.
struct Level4Fixture : Fixture {
    static constexpr u64 kLeaf = 0x4000 + 5 * 8;
    explicit Level4Fixture(u64 leaf, u64 upper = kP | kW | kU) {
        put(0x1000, 0x2000 | upper);
        put(0x2000, 0x3000 | upper);
        put(0x3000, 0x4000 | upper);
        put(kLeaf, leaf);
    }
    Translation go(const PagingMode& mode, Access access, bool user, bool ac = false) {
        return walk(memory, mode, {}, Gva(0x5123), access, user, ac);
    }
};

class Random {
  public:
    explicit Random(u64 seed) : engine_(seed) {}
    u64 operator()() { return engine_(); }
    u64 below(u64 n) { return engine_() % n; }
    bool chance(unsigned percent) { return below(100) < percent; }

  private:
    std::mt19937_64 engine_;
};

/// Mostly well-formed entries with a sprinkle of everything else.
u64 random_entry(Random& r, u64 pages, bool small) {
    u64 e = r.below(pages) << 12;
    if (r.chance(96)) e |= kP;
    if (r.chance(85)) e |= kW;
    if (r.chance(75)) e |= kU;
    if (r.chance(50)) e |= kA;
    if (r.chance(30)) e |= kD;
    if (r.chance(12)) e = (e | kPs) & ~u64{r.chance(90) ? low_mask(22) & ~low_mask(12) : 0};
    if (r.chance(30)) e |= kG;
    if (r.chance(10)) e |= 0x18;
    if (small) {
        if (r.chance(15)) e |= r.below(256) << 13;
        return e & 0xffffffff;
    }
    if (r.chance(8)) e |= kXd;
    if (r.chance(40)) e |= r.below(16) << pte::kPkeyLow;
    if (r.chance(3)) e |= u64{1} << r.below(64);
    return e;
}

u64 random_ept_entry(Random& r, u64 page, bool npt, bool leaf) {
    u64 e = page << 12;
    if (npt) {
        if (r.chance(97)) e |= kP;
        if (r.chance(95)) e |= kW;
        if (r.chance(97)) e |= kU;
        if (r.chance(5)) e |= kXd;
        if (r.chance(50)) e |= kA;
        if (r.chance(50)) e |= kD;
    } else {
        e |= r.chance(88) ? 7 : r.below(8);
        if (r.chance(80)) e |= ept::kUserExecute;
        if (leaf) e |= (r.chance(97) ? 6 : r.below(8)) << 3;
        if (r.chance(50)) e |= ept::kAccessed;
        if (r.chance(50)) e |= ept::kDirty;
    }
    if (r.chance(2)) e |= u64{1} << r.below(64);
    return e;
}

PagingMode random_mode(Random& r, u64 guest_pages) {
    PagingMode m;
    m.kind = static_cast<PagingKind>(r.chance(5) ? 0 : 1 + r.below(3));
    m.wp = r.chance(60);
    m.smep = r.chance(50);
    m.smap = r.chance(50);
    m.pke = r.chance(50);
    m.nxe = r.chance(80);
    m.pse = r.chance(80);
    m.pge = r.chance(70);
    m.gib_pages = r.chance(70);
    m.physical_bits = static_cast<u8>(36 + r.below(3) * 5);
    m.pkru = static_cast<u32>(r() & r());
    m.cr3 = r.below(guest_pages) << 12 | r.below(4096);
    for (u64& pdpte : m.pdpte) pdpte = r.below(guest_pages) << 12 | (r.chance(90) ? 1 : 0);
    return m;
}

/// Guest tables in pages 0..11 (indices 0..3 filled), second-level tables in 12..15.
void random_tables(Random& r, std::vector<u8>& bytes, const PagingMode& mode, const SlatMode& slat) {
    const u64 guest_pages = slat.kind == SlatMode::Kind::None ? kPages : 12;
    const auto store = [&](u64 at, u64 value, unsigned size) { std::memcpy(bytes.data() + at, &value, size); };
    const bool small = mode.kind == PagingKind::Bits32;
    for (u64 page = 0; page < guest_pages; ++page) {
        for (u64 i = 0; i < 4; ++i) {
            const u64 entry = random_entry(r, r.chance(98) ? guest_pages : kPages + 4, small);
            store(page * kPageSize + i * (small ? 4 : 8), entry, small ? 4 : 8);
        }
    }
    if (slat.kind == SlatMode::Kind::None) return;
    const bool npt = slat.kind == SlatMode::Kind::Npt;
    store(12 * kPageSize, random_ept_entry(r, 13, npt, false), 8);
    store(13 * kPageSize, r.chance(96) ? random_ept_entry(r, 14, npt, false) : random_ept_entry(r, 0, npt, true) | ept::kLarge, 8);
    store(14 * kPageSize, r.chance(92) ? random_ept_entry(r, 15, npt, false) : random_ept_entry(r, 0, npt, true) | ept::kLarge, 8);
    for (u64 i = 0; i < 16; ++i) store(15 * kPageSize + i * 8, random_ept_entry(r, r.below(guest_pages), npt, true), 8);
}

u64 random_gva(Random& r, PagingKind kind) {
    const u64 offset = r.below(kPageSize);
    switch (kind) {
        case PagingKind::None: return r.below(kBytes);
        case PagingKind::Bits32: return r.below(4) << 22 | r.below(4) << 12 | offset;
        case PagingKind::Pae: return r.below(4) << 30 | r.below(4) << 21 | r.below(4) << 12 | offset;
        case PagingKind::Level4: return r.below(4) << 39 | r.below(4) << 30 | r.below(4) << 21 | r.below(4) << 12 | offset;
    }
    return 0;
}

using Kind = reference::Outcome::Kind;

bool agrees(const Translation& t, const reference::Outcome& o) {
    switch (o.kind) {
        case Kind::Fault: return t.status == Translation::Status::Fault && t.fault.error_code == o.error_code;
        case Kind::Slat:
            return t.status == Translation::Status::SlatFault && t.slat_fault.gpa.value == o.gpa &&
                   t.slat_fault.misconfigured == o.misconfigured && t.slat_fault.during_walk == o.during_walk &&
                   t.slat_fault.permissions == o.permissions && t.slat_fault.access == o.slat_access;
        case Kind::Ok:
            return t.status == Translation::Status::Ok && t.gpa.value == o.gpa && t.spa.value == o.spa &&
                   t.page_bits == o.page_bits;
    }
    return false;
}

/// One random case; returns the reference's kind so that the caller can see that all kinds occur.
Kind compare_once(Fixture& f, u64 seed) {
    Random r(seed);
    SlatMode slat;
    slat.kind = static_cast<SlatMode::Kind>(r.chance(40) ? 0 : 1 + r.below(2));
    if (slat.kind != SlatMode::Kind::None) slat.root = 12 * kPageSize | 0x1e;
    slat.accessed_dirty = slat.kind == SlatMode::Kind::Ept && r.chance(50);
    slat.physical_bits = 40;
    slat.user_execute = slat.kind == SlatMode::Kind::Ept && r.chance(30);
    slat.no_execute = slat.kind != SlatMode::Kind::Npt || r.chance(70);
    const PagingMode mode = random_mode(r, slat.kind == SlatMode::Kind::None ? kPages : 12);
    reference::Memory ref{std::vector<u8>(kBytes)};
    random_tables(r, ref.bytes, mode, slat);
    u8* const ram = f.memory.ram(Spa(0));
    std::memcpy(ram, ref.bytes.data(), kBytes);

    const u64 gva = random_gva(r, mode.kind);
    const Access access = static_cast<Access>(r.below(3));
    const bool user = r.chance(50), ac = !user && r.chance(40);
    const reference::Memory before = ref;

    const Translation peeked = peek_walk(f.memory, mode, slat, Gva(gva), access, user);
    const bool peek_clean = std::memcmp(ram, before.bytes.data(), kBytes) == 0;
    const Translation t = walk(f.memory, mode, slat, Gva(gva), access, user, ac);
    const reference::Outcome o = reference::translate(ref, mode, slat, gva, access, user, ac);
    const bool memory_agrees = std::memcmp(ram, ref.bytes.data(), kBytes) == 0;
    const bool peek_agrees = t.status != Translation::Status::Ok || (peeked.status == t.status && peeked.spa == t.spa);
    if (!agrees(t, o) || !memory_agrees || !peek_clean || !peek_agrees) {
        CAPTURE(seed, gva, static_cast<int>(mode.kind), static_cast<int>(slat.kind), static_cast<int>(access), user, ac,
                static_cast<int>(o.kind), o.error_code, static_cast<int>(t.status), t.fault.error_code, t.spa.value, o.spa,
                memory_agrees, peek_clean, peek_agrees);
        FAIL("walk and reference disagree");
    }
    return o.kind;
}

/// Memory whose pages a level below has shuffled: page p of the space above is kShuffled + order[p], in one table of that level.
struct Below {
    static constexpr u64 kShuffled = kPages, kTables = 2 * kPages, kAll = 2 * kPages + 4;
    PhysicalMemory memory;
    u64 order[kPages];

    explicit Below(Random& r) {
        REQUIRE(memory.add_ram("ram", Spa(0), kAll * kPageSize));
        for (u64 p = 0; p < kPages; ++p) order[p] = p;
        for (u64 p = kPages; p-- > 1;) std::swap(order[p], order[r.below(p + 1)]);
        for (u64 level = 0; level < 3; ++level)
            memory.write<u64>(Spa((kTables + level) * kPageSize), (kTables + level + 1) << 12 | 7);
        for (u64 p = 0; p < kPages; ++p)
            memory.write<u64>(Spa((kTables + 3) * kPageSize + 8 * p), (kShuffled + order[p]) << 12 | 0x37);
    }
    [[nodiscard]] u64 place(u64 address) const { return (kShuffled + order[address >> 12]) << 12 | (address & kPageMask); }
    u8* page(u64 p) { return memory.ram(Spa(place(p << 12))); }
};

/// The same tables once in plain memory and once above a level below: everything but the places must be equal.
Kind compare_composed(Fixture& f, Below& below, u64 seed) {
    Random r(seed);
    SlatMode slat;
    slat.kind = static_cast<SlatMode::Kind>(r.chance(30) ? 0 : 1 + r.below(2));
    if (slat.kind != SlatMode::Kind::None) slat.root = 12 * kPageSize | 0x1e;
    slat.accessed_dirty = slat.kind == SlatMode::Kind::Ept && r.chance(50);
    slat.physical_bits = 40;
    slat.user_execute = slat.kind == SlatMode::Kind::Ept && r.chance(30);
    const PagingMode mode = random_mode(r, slat.kind == SlatMode::Kind::None ? kPages : 12);
    std::vector<u8> bytes(kBytes);
    random_tables(r, bytes, mode, slat);
    std::memcpy(f.memory.ram(Spa(0)), bytes.data(), kBytes);
    for (u64 p = 0; p < kPages; ++p) std::memcpy(below.page(p), bytes.data() + p * kPageSize, kPageSize);

    const u64 gva = random_gva(r, mode.kind);
    const Access access = static_cast<Access>(r.below(3));
    const bool user = r.chance(50), ac = !user && r.chance(40);
    const Translation plain = walk(f.memory, mode, slat, Gva(gva), access, user, ac);
    slat.below = Below::kTables * kPageSize | 0x1e;
    const Translation t = walk(below.memory, mode, slat, Gva(gva), access, user, ac);

    bool same = true;
    // What is outside memory the level below refuses: the page, which plain memory finds out later or not at all, or a
    // table, which reads as all-ones there.
    const bool page_outside = plain.status == Translation::Status::Ok && plain.spa.value >= kBytes;
    const bool refused = t.status == Translation::Status::SlatFault && t.slat_fault.below;
    const bool outside = page_outside || refused;
    if (refused && !page_outside) {
        same = t.slat_fault.gpa.value >= kBytes;
    } else if (outside) {
        same = t.status == Translation::Status::SlatFault && t.slat_fault.below && t.slat_fault.gpa.value == plain.spa.value &&
               !t.slat_fault.during_walk && t.slat_fault.access == access;
    } else if (plain.status == Translation::Status::Ok) {
        same = t.status == plain.status && t.gpa == plain.gpa && t.spa.value == below.place(plain.spa.value) && t.page_bits == 12 &&
               t.readable == plain.readable && t.writable == plain.writable && t.executable == plain.executable;
    } else if (plain.status == Translation::Status::Fault) {
        same = t.status == plain.status && t.fault.error_code == plain.fault.error_code;
    } else {
        const SlatFault &a = t.slat_fault, &b = plain.slat_fault;
        same = t.status == plain.status && a.gpa == b.gpa && a.access == b.access && a.permissions == b.permissions && !a.below &&
               a.misconfigured == b.misconfigured && a.during_walk == b.during_walk && a.present == b.present;
    }
    // Behind a refusal from below the guest's own accessed and dirty bits are not set: memory is compared for the rest.
    for (u64 p = 0; p < kPages && !outside; ++p)
        same = same && std::memcmp(below.page(p), f.memory.ram(Spa(p * kPageSize)), kPageSize) == 0;
    if (!same) {
        CAPTURE(seed, gva, static_cast<int>(mode.kind), static_cast<int>(slat.kind), static_cast<int>(access), user, ac, outside,
                static_cast<int>(plain.status), static_cast<int>(t.status), plain.spa.value, t.spa.value,
                plain.slat_fault.gpa.value, t.slat_fault.gpa.value, t.slat_fault.below, plain.slat_fault.during_walk,
                t.slat_fault.during_walk, plain.slat_fault.permissions, t.slat_fault.permissions,
                plain.slat_fault.misconfigured, t.slat_fault.misconfigured);
        FAIL("a walk above another level differs from the walk in plain memory");
    }
    return outside                                          ? Kind::Slat
           : plain.status == Translation::Status::Ok        ? Kind::Ok
           : plain.status == Translation::Status::SlatFault ? Kind::Slat
                                                            : Kind::Fault;
}

}  // namespace

TEST_CASE("walk: above a level below, random tables mean what they mean in plain memory", "[mmu][walk][ept]") {
    Fixture f;
    Random r(77);
    unsigned seen[3] = {};
    for (u64 part = 0; part < 20; ++part) {
        Below below(r);
        for (u64 n = 0; n < 3000; ++n) ++seen[static_cast<unsigned>(compare_composed(f, below, part * 100000 + n))];
    }
    CAPTURE(seen[0], seen[1], seen[2]);
    for (const unsigned count : seen) CHECK(count > 3000);
}

TEST_CASE("walk: what becomes dirty is logged once, and a full log refuses", "[mmu][walk][ept]") {
    Level4Fixture f(0x7000 | kP | kW | kU);
    f.put(0xc000, 0xd007);
    f.put(0xd000, 0xe007);
    f.put(0xe000, 0xf007);
    for (u64 i = 0; i < 8; ++i) f.put(0xf000 + i * 8, i << 12 | 0x37);
    PageLog log{.spa = 0x9000, .index = 1};
    SlatMode slat{.kind = SlatMode::Kind::Ept, .root = 0xc01e, .accessed_dirty = true};
    slat.log = &log;
    const auto write = [&](u64 gpa) { return translate_gpa(f.memory, slat, Gpa(gpa), Access::Write); };
    CHECK(translate_gpa(f.memory, slat, Gpa(0x6123), Access::Read).status == Translation::Status::Ok);
    CHECK(log.index == 1);
    CHECK(write(0x6123).status == Translation::Status::Ok);
    CHECK(write(0x6456).status == Translation::Status::Ok);
    CHECK(log.index == 0);
    CHECK(f.get(0x9008) == 0x6000);
    CHECK(write(0x5000).status == Translation::Status::Ok);
    CHECK(f.get(0x9000) == 0x5000);
    CHECK(log.full());
    const Translation refused = write(0x7abc);
    CHECK(refused.status == Translation::Status::SlatFault);
    CHECK(refused.slat_fault.log_full);
    CHECK(refused.slat_fault.gpa.value == 0x7abc);
    CHECK((f.get(0xf000 + 7 * 8) & ept::kDirty) == 0);
    CHECK(write(0x6123).status == Translation::Status::Ok);  // it is dirty already
}

TEST_CASE("walk: random tables agree with the reference in result and in every bit of memory", "[mmu][walk]") {
    Fixture f;
    unsigned seen[3] = {};
    for (u64 seed = 1; seed <= 200000; ++seed) ++seen[static_cast<unsigned>(compare_once(f, seed))];
    CAPTURE(seen[0], seen[1], seen[2]);
    CHECK(seen[0] > 20000);
    CHECK(seen[1] > 20000);
    CHECK(seen[2] > 20000);
}

TEST_CASE("walk: what a successful walk says may be cached is what further walks grant", "[mmu][walk]") {
    Fixture f;
    unsigned compared = 0;
    for (u64 seed = 1; seed <= 20000; ++seed) {
        Random r(seed);
        const PagingMode mode = random_mode(r, kPages);
        std::vector<u8> bytes(kBytes);
        random_tables(r, bytes, mode, {});
        std::memcpy(f.memory.ram(Spa(0)), bytes.data(), kBytes);
        const u64 gva = random_gva(r, mode.kind);
        const bool user = r.chance(50), ac = !user && r.chance(50);
        const Access access = static_cast<Access>(r.below(3));
        const Translation t = walk(f.memory, mode, {}, Gva(gva), access, user, ac);
        if (t.status != Translation::Status::Ok) continue;
        ++compared;
        std::memcpy(bytes.data(), f.memory.ram(Spa(0)), kBytes);
        for (const Access other : {Access::Read, Access::Write, Access::Fetch}) {
            const Translation again = walk(f.memory, mode, {}, Gva(gva), other, user, ac);
            const bool clean = again.status == Translation::Status::Ok &&
                               std::memcmp(bytes.data(), f.memory.ram(Spa(0)), kBytes) == 0;
            const bool claimed = other == Access::Read ? t.readable : other == Access::Write ? t.writable : t.executable;
            CAPTURE(seed, static_cast<int>(other));
            REQUIRE(claimed == clean);
            std::memcpy(f.memory.ram(Spa(0)), bytes.data(), kBytes);
        }
    }
    CHECK(compared > 2000);
}

TEST_CASE("walk: error codes of 4-level paging", "[mmu][walk]") {
    struct Row {
        const char* what;
        u64 leaf, upper;
        Access access;
        bool user, ac, smep, smap, wp, nxe;
        u32 pkru;
        bool ok;
        u32 error;
    };
    constexpr u64 full = kP | kW | kU;
    const Row rows[] = {
        {"not present", 0, full, Access::Read, false, false, false, false, true, true, 0, false, 0},
        {"not present, user write", 0, full, Access::Write, true, false, false, false, true, true, 0, false, 6},
        {"not present, fetch with NX", 0, full, Access::Fetch, true, false, false, false, true, true, 0, false, 0x14},
        {"not present, fetch without NX or SMEP", 0, full, Access::Fetch, true, false, false, false, true, false, 0, false, 4},
        {"not present, fetch with SMEP", 0, full, Access::Fetch, false, false, true, false, true, false, 0, false, 0x10},
        {"user reads supervisor page", kP | kW, full, Access::Read, true, false, false, false, true, true, 0, false, 5},
        {"user reads below supervisor table", full, kP | kW, Access::Read, true, false, false, false, true, true, 0, false, 5},
        {"user writes read-only", kP | kU, full, Access::Write, true, false, false, false, false, true, 0, false, 7},
        {"supervisor writes read-only with WP", kP, full, Access::Write, false, false, false, false, true, true, 0, false, 3},
        {"supervisor writes read-only without WP", kP, full, Access::Write, false, false, false, false, false, true, 0, true, 0},
        {"SMAP read", full, full, Access::Read, false, false, false, true, true, true, 0, false, 1},
        {"SMAP read with AC", full, full, Access::Read, false, true, false, true, true, true, 0, true, 0},
        {"SMAP write", full, full, Access::Write, false, false, false, true, true, true, 0, false, 3},
        {"SMEP", full, full, Access::Fetch, false, true, true, false, true, true, 0, false, 0x11},
        {"SMAP does not bind fetches", full, full, Access::Fetch, false, false, false, true, true, true, 0, true, 0},
        {"no-execute", full | kXd, full, Access::Fetch, true, false, false, false, true, true, 0, false, 0x15},
        {"no-execute bit reserved without NXE", full | kXd, full, Access::Read, true, false, false, false, true, false, 0, false, 0xd},
        {"reserved address bit", full | u64{1} << 46, full, Access::Write, false, false, false, false, true, true, 0, false, 0xb},
        {"last address bit is not reserved", full | u64{1} << 45, full, Access::Write, false, false, false, false, true, true, 0, true, 0},
        {"ignored bit", full | u64{1} << 52, full, Access::Write, false, false, false, false, true, true, 0, true, 0},
        {"key denies access", full | u64{3} << 59, full, Access::Read, true, false, false, false, true, true, 1 << 6, false, 0x25},
        {"key denies supervisor access", full | u64{3} << 59, full, Access::Read, false, false, false, false, true, true, 1 << 6, false, 0x21},
        {"key denies write", full | u64{3} << 59, full, Access::Write, true, false, false, false, true, true, 2 << 6, false, 0x27},
        {"key write-disable without WP", full | u64{3} << 59, full, Access::Write, false, false, false, false, false, true, 2 << 6, true, 0},
        {"keys do not bind fetches", full | u64{3} << 59, full, Access::Fetch, true, false, false, false, true, true, 3 << 6, true, 0},
        {"keys do not bind supervisor pages", kP | kW | u64{3} << 59, full, Access::Read, false, false, false, false, true, true, 3 << 6, true, 0},
    };
    for (const Row& row : rows) {
        DYNAMIC_SECTION(row.what) {
            Level4Fixture f(row.leaf, row.upper);
            PagingMode mode = level4();
            mode.smep = row.smep;
            mode.smap = row.smap;
            mode.wp = row.wp;
            mode.nxe = row.nxe;
            mode.pke = true;
            mode.pkru = row.pkru;
            const Translation t = f.go(mode, row.access, row.user, row.ac);
            CHECK((t.status == Translation::Status::Ok) == row.ok);
            if (!row.ok) CHECK(t.fault.error_code == row.error);
            const u64 expected = row.ok ? row.leaf | kA | (row.access == Access::Write ? kD : 0) : row.leaf;
            CHECK(f.get(Level4Fixture::kLeaf) == expected);
            CHECK(f.get(0x1000) == (0x2000 | row.upper | (row.ok ? kA : 0)));
        }
    }
}

TEST_CASE("walk: large pages and their reserved bits", "[mmu][walk]") {
    Level4Fixture f(0);
    PagingMode mode = level4();
    f.put(0x3000, 0x40000000 | kP | kW | kPs | kG | u64{1} << 12);
    Translation t = walk(f.memory, mode, {}, Gva(0x5123), Access::Write, false, false);
    REQUIRE(t.status == Translation::Status::Ok);
    CHECK(t.spa.value == 0x40005123);
    CHECK(t.page_bits == 21);
    CHECK(t.global);
    CHECK(f.get(0x3000) == (0x40000000 | kP | kW | kPs | kG | kA | kD | u64{1} << 12));
    f.put(0x3000, 0x40002000 | kP | kPs);
    CHECK(walk(f.memory, mode, {}, Gva(0), Access::Read, false, false).fault.error_code == 9);

    f.put(0x2000, 0x80000000 | kP | kPs);
    t = walk(f.memory, mode, {}, Gva(0x12345678), Access::Read, false, false);
    CHECK(t.spa.value == 0x92345678);
    CHECK(t.page_bits == 30);
    mode.gib_pages = false;
    CHECK(walk(f.memory, mode, {}, Gva(0), Access::Read, false, false).fault.error_code == 9);
    f.put(0x1000, 0x2000 | kP | kPs);
    CHECK(walk(f.memory, mode, {}, Gva(0), Access::Read, false, false).fault.error_code == 9);
}

TEST_CASE("walk: 32-bit paging with 4 MiB pages above 4 GiB", "[mmu][walk]") {
    Fixture f;
    PagingMode mode;
    mode.kind = PagingKind::Bits32;
    mode.pse = true;
    mode.cr3 = 0x1000;
    f.memory.write<u32>(Spa(0x1004), 0xc0000000 | 0x12 << 13 | static_cast<u32>(kP | kW | kPs));
    const Translation t = walk(f.memory, mode, {}, Gva(0x7abcde), Access::Write, false, false);
    REQUIRE(t.status == Translation::Status::Ok);
    CHECK(t.spa.value == 0x12c03abcde);
    CHECK(t.page_bits == 22);
    mode.physical_bits = 36;  // bits 39:36 (entry bits 20:17) become reserved
    CHECK(walk(f.memory, mode, {}, Gva(0x7abcde), Access::Read, true, false).fault.error_code == 0xd);
    mode.pse = false;  // PS is ignored: the entry names a table, in a hole here
    CHECK(walk(f.memory, mode, {}, Gva(0x7abcde), Access::Read, false, false).status == Translation::Status::Ok);
}

TEST_CASE("walk: PDPTEs are checked when they are loaded", "[mmu][walk]") {
    Fixture f;
    const u64 good[4] = {0x2001, 0, 0x1fe, 0x3019};
    for (u64 i = 0; i < 4; ++i) f.put(0x1020 + 8 * i, good[i]);
    u64 out[4] = {};
    REQUIRE(load_pdptes(f.memory, {}, 0x1020, 46, out));
    CHECK(out[0] == 0x2001);
    CHECK(out[3] == 0x3019);
    for (const u64 bad : {u64{1} << 1, u64{1} << 2, u64{1} << 5, u64{1} << 8, u64{1} << 46, u64{1} << 63}) {
        CAPTURE(bad);
        f.put(0x1020, 0x2001 | bad);
        CHECK_FALSE(load_pdptes(f.memory, {}, 0x1020, 46, out));
        CHECK(out[0] == 0x2001);
        f.put(0x1020, 0x2000 | bad);
        CHECK(load_pdptes(f.memory, {}, 0x1020, 46, out));
        out[0] = 0x2001;
    }
    CHECK_FALSE(load_pdptes(f.memory, {}, 0x12340000, 46, out));
}

TEST_CASE("walk: EPT faults say where and what, and set nothing in the guest's tables", "[mmu][walk][ept]") {
    Level4Fixture f(0x7000 | kP | kW | kU);
    // GPA identity for pages 0..7, tables in pages 12..15.
    f.put(0xc000, 0xd007);
    f.put(0xd000, 0xe007);
    f.put(0xe000, 0xf007);
    for (u64 i = 0; i < 8; ++i) f.put(0xf000 + i * 8, i << 12 | 0x37);
    SlatMode slat{.kind = SlatMode::Kind::Ept, .root = 0xc01e};
    const PagingMode mode = level4();
    const auto go = [&](Access a) { return walk(f.memory, mode, slat, Gva(0x5678), a, true, false); };

    f.put(0xf000 + 7 * 8, 0x7000 | 0x35);  // the page: no write
    Translation t = go(Access::Write);
    CHECK(t.status == Translation::Status::SlatFault);
    CHECK(t.slat_fault.gpa.value == 0x7678);
    CHECK(t.slat_fault.permissions == 5);
    CHECK_FALSE(t.slat_fault.during_walk);
    CHECK(f.get(Level4Fixture::kLeaf) == (0x7000 | kP | kW | kU));

    f.put(0xf000 + 4 * 8, 0x4000 | 0x31);  // the last table: no write, so its accessed bit cannot be set
    t = go(Access::Read);
    CHECK(t.status == Translation::Status::SlatFault);
    CHECK(t.slat_fault.during_walk);
    CHECK(t.slat_fault.access == Access::Write);
    CHECK(t.slat_fault.gpa.value == Level4Fixture::kLeaf);
    f.put(Level4Fixture::kLeaf, 0x7000 | kP | kW | kU | kA);
    CHECK(go(Access::Read).status == Translation::Status::Ok);
    slat.accessed_dirty = true;  // then reading a table counts as a write
    t = go(Access::Read);
    CHECK(t.slat_fault.during_walk);
    CHECK(t.slat_fault.permissions == 1);

    slat.accessed_dirty = false;
    for (const u64 bad : {u64{0x7032}, u64{0x7036}, u64{0x7017}, u64{0x703f}, u64{0x7037} | u64{1} << 46}) {
        CAPTURE(bad);
        f.put(0xf000 + 7 * 8, bad);
        t = go(Access::Read);
        CHECK(t.status == Translation::Status::SlatFault);
        CHECK(t.slat_fault.misconfigured);
    }
    f.put(0xf000 + 7 * 8, 0x7034);  // execute-only
    CHECK(go(Access::Fetch).status == Translation::Status::Ok);
    CHECK(go(Access::Read).slat_fault.permissions == 4);
}

TEST_CASE("walk: tables in holes and loops among tables end", "[mmu][walk]") {
    Fixture f;
    PagingMode mode = level4(0x1000);
    f.put(0x1000, 0x1000 | kP | kW | kU);  // the table is its own child at every level
    const Translation t = walk(f.memory, mode, {}, Gva(0x10), Access::Write, true, false);
    REQUIRE(t.status == Translation::Status::Ok);
    CHECK(t.spa.value == 0x1010);
    CHECK(f.get(0x1000) == (0x1000 | kP | kW | kU | kA | kD));
    mode.cr3 = 0x40000000;
    CHECK(walk(f.memory, mode, {}, Gva(0), Access::Read, false, false).fault.error_code == 9);
}
