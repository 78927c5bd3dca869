// The TLB against a model of what the architecture allows it to remember: after any mixture of table changes, flushes,
// switches and accesses, each answer must be one that some version of the entry since the last flush justifies.
#include <catch2/catch.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <random>
#include <vector>

#include "mmu/slat_builder.h"
#include "mmu/spec/paging.h"
#include "mmu/tlb.h"

using namespace vg;
using namespace vg::mmu;

namespace {

constexpr u64 kMiB = u64{1} << 20;
constexpr u64 kPcids = 4;
constexpr u64 kMarks = pte::kAccessed | pte::kDirty;

/// A place in the address space whose leaf entry the test rewrites.
struct Site {
    u64 gva;
    bool large;
};

const Site kSites[] = {
    {0x400000, false}, {0x401000, false}, {0x402000, false}, {0x5ff000, false},
    {0x800000, false}, {0x801000, false},  // the same inline entries as the first two
    {0xffff800000000000, false}, {0xffff800000001000, false}, {0xffff800000402000, false},
    {0x40000000, true}, {0x40200000, true}, {0xffff800000800000, true},
};
constexpr u64 kSiteCount = std::size(kSites);

class World {
  public:
    explicit World(u64 seed) : random_(seed) {
        REQUIRE(memory_.add_ram("ram", Spa(0), 96 * kMiB));
        fd_ = memfd_create("state", MFD_CLOEXEC);
        REQUIRE(ftruncate(fd_, kPageSize) == 0);
        tlb_.emplace(memory_, fd_, 0);
        const u64 kind = seed % 3;
        if (kind != 0) build_slat(kind == 2);
        mode_.kind = PagingKind::Level4;
        mode_.wp = mode_.nxe = mode_.pge = mode_.pke = true;
        mode_.pcide = seed % 5 != 0;
        for (u64 pcid = 0; pcid < kPcids; ++pcid) build_tables(pcid);
        if (seed % 4 == 0) tlb_->set_stress_entries(1u << (seed % 11));
        load_cr3(0);
        enter();
    }
    ~World() {
        tlb_.reset();
        close(fd_);
    }

    void step() {
        const u64 what = below(100);
        if (what < 50) return access();
        if (what < 62) return inspect_inline();
        if (what < 74) return change_entry();
        if (what < 80) return flush_page();
        if (what < 85) return switch_cr3();
        if (what < 88) return flush_contexts();
        if (what < 93) return change_mode();
        if (what < 96) return change_code();
        if (slat_) return change_slat();
    }

  private:
    u64 below(u64 n) { return random_() % n; }
    bool chance(u64 percent) { return below(100) < percent; }

    // Guest-physical layout: tables in the first MiB, 64 small pages at 4 MiB, eight large pages from 8 MiB.
    u64 spa_of(u64 gpa) const { return slat_ ? slat_->find(Gpa(gpa)).spa.value : gpa; }
    void put(u64 gpa, u64 entry) { memory_.write<u64>(Spa(spa_of(gpa)), entry); }
    u64 get(u64 gpa) { return memory_.read<u64>(Spa(spa_of(gpa))); }

    void build_slat(bool small) {
        next_slat_page_ = 64 * kMiB;
        slat_.emplace(
            memory_, [this]() -> Result<Spa> { return Spa((next_slat_page_ += kPageSize) - kPageSize); }, [](Spa) {});
        for (u64 at = 0; at < 32 * kMiB; at += small ? kPageSize : 32 * kMiB) {
            REQUIRE(slat_->map(Gpa(at), Spa(32 * kMiB + at), small ? kPageSize : 32 * kMiB, {}));
            // Out of order, so that no large entries could form even by accident.
        }
        slat_mode_ = slat_->mode();
    }

    u64 new_table() { return (next_table_ += kPageSize) - kPageSize; }

    void build_tables(u64 pcid) {
        roots_[pcid] = new_table();
        for (u64 i = 0; i < kSiteCount; ++i) {
            u64 table = roots_[pcid];
            const unsigned last = kSites[i].large ? 1 : 0;
            for (unsigned level = 3; level > last; --level) {
                const u64 at = table + ((kSites[i].gva >> (12 + 9 * level)) & 511) * 8;
                if (get(at) == 0) put(at, new_table() | pte::kPresent | pte::kWrite | pte::kUser);
                table = get(at) & ~kPageMask;
            }
            leaf_at_[pcid][i] = table + ((kSites[i].gva >> (12 + 9 * last)) & 511) * 8;
            set_leaf(pcid, i);
            versions_[pcid][i] = {get(leaf_at_[pcid][i])};
        }
    }

    void set_leaf(u64 pcid, u64 site) {
        u64 e = chance(85) ? pte::kPresent : 0;
        const bool kernel = (kSites[site].gva >> 63) != 0;
        e |= kSites[site].large ? (8 * kMiB + below(8) * 2 * kMiB) | pte::kLarge : 4 * kMiB + below(64) * kPageSize;
        if (chance(70)) e |= pte::kWrite;
        if (chance(kernel ? 20 : 80)) e |= pte::kUser;
        if (chance(kernel ? 60 : 10)) e |= pte::kGlobal;
        if (chance(20)) e |= pte::kNoExecute;
        if (chance(30)) e |= kMarks;
        e |= below(3) << pte::kPkeyLow;
        put(leaf_at_[pcid][site], e);
        versions_[pcid][site].push_back(e);
    }

    // ---- the model
    struct Answer {
        bool ok;
        u64 spa;
    };
    Answer answer(u64 entry, u64 gva, bool large, Access access, Privilege privilege) const {
        const bool user = privilege == Privilege::User, user_page = (entry & pte::kUser) != 0;
        bool ok = (entry & pte::kPresent) != 0 && (!user || user_page);
        const u64 rights = (mode_.pkru >> (2 * ((entry >> pte::kPkeyLow) & 15))) & 3;
        if (access == Access::Fetch) {
            ok = ok && (entry & pte::kNoExecute) == 0 && !(mode_.smep && !user && user_page);
        } else {
            ok = ok && !(mode_.smap && privilege == Privilege::Supervisor && user_page);
            if (user_page) ok = ok && (rights & 1) == 0;
        }
        if (access == Access::Write) {
            if (user || mode_.wp) ok = ok && (entry & pte::kWrite) != 0 && !(user_page && (rights & 2) != 0);
        }
        const u64 mask = large ? 2 * kMiB - 1 : kPageMask;
        const u64 gpa = (entry & ~mask & ((u64{1} << 46) - 1)) | (gva & mask);
        return {ok, ok ? spa_of(gpa) : 0};
    }
    /// Some version justifies that `access` at `gva` reaches `spa`.
    bool justified(u64 site, u64 gva, Access access, Privilege privilege, u64 spa) const {
        const auto& list = versions_[pcid_][site];
        return std::any_of(list.begin(), list.end(), [&](u64 entry) {
            const Answer a = answer(entry, gva, kSites[site].large, access, privilege);
            return a.ok && a.spa == spa;
        });
    }
    /// What a flush leaves: the current entry, and global versions unless those go too.
    void forget(u64 pcid, u64 site, bool global_too) {
        auto& list = versions_[pcid][site];
        const u64 now = get(leaf_at_[pcid][site]);
        std::erase_if(list, [&](u64 e) { return global_too || (e & pte::kGlobal) == 0; });
        list.push_back(now);
    }

    // ---- steps
    u64 some_gva(u64 site) {
        return kSites[site].gva + (kSites[site].large ? below(4) * 0x51000 : 0) + below(2) * 0x123;
    }
    /// Mostly one site for a while, so that what happens to it happens in close succession.
    u64 some_site() {
        if (chance(2)) focus_ = below(kSiteCount);
        return chance(60) ? focus_ : below(kSiteCount);
    }

    void access() {
        const u64 site = some_site(), gva = some_gva(site);
        const Access kind = static_cast<Access>(below(3));
        const Privilege privilege = chance(90) ? tlb_->privilege() : Privilege::Supervisor;
        const u64 before = get(leaf_at_[pcid_][site]);
        const Tlb::Mapping m = tlb_->resolve(gva, kind, privilege);
        const u64 after = get(leaf_at_[pcid_][site]);
        const Answer fresh = answer(before, gva, kSites[site].large, kind, privilege);
        CAPTURE(gva, static_cast<int>(kind), static_cast<int>(privilege), before, m.translation.spa.value, fresh.spa);
        if (m.translation.status == Translation::Status::Ok) {
            REQUIRE(justified(site, gva, kind, privilege, m.translation.spa.value));
            const bool only = versions_[pcid_][site].size() == 1;
            if (only) {
                REQUIRE((after & pte::kAccessed) != 0);
                REQUIRE((kind != Access::Write || (after & pte::kDirty) != 0));
            }
            const bool direct = kind != Access::Write || memory_.writable_directly(m.translation.spa);
            REQUIRE((m.host != nullptr) == direct);
            if (m.host != nullptr) REQUIRE(m.host == memory_.ram(m.translation.spa));
        } else {
            // A fault is never remembered: it must be today's.
            REQUIRE(m.translation.status == Translation::Status::Fault);
            REQUIRE_FALSE(fresh.ok);
        }
        REQUIRE((before & ~kMarks) == (after & ~kMarks));
        if (before != after) REQUIRE(m.translation.status == Translation::Status::Ok);
        if (kind == Access::Fetch && m.host != nullptr && privilege == tlb_->privilege()) {
            tlb_->fill_jump(gva, m.translation.spa.value, m.translation.global);
        }
        inspect(site, gva);
    }

    void inspect_inline() {
        for (u64 site = 0; site < kSiteCount; ++site) inspect(site, some_gva(site));
    }

    void inspect(u64 site, u64 gva) {
        const Privilege privilege = tlb_->privilege();
        CAPTURE(site, gva);
        if (const u8* host = tlb_->find_read(gva)) {
            REQUIRE(justified(site, gva, Access::Read, privilege, spa_of_host(host)));
        }
        if (const u8* host = tlb_->find_write(gva)) {
            const u64 spa = spa_of_host(host);
            REQUIRE(justified(site, gva, Access::Write, privilege, spa));
            REQUIRE(memory_.writable_directly(Spa(spa)));
            REQUIRE((memory_.page_info(Spa(spa)).flags & PageInfo::kWriteCached) != 0);
            if (versions_[pcid_][site].size() == 1) REQUIRE((get(leaf_at_[pcid_][site]) & pte::kDirty) != 0);
        }
        const JumpEntry& jump = tlb_->bank()->jump[jump_index(gva)];
        if (jump.rip == gva) REQUIRE(justified(site, gva, Access::Fetch, privilege, jump.host));
    }
    u64 spa_of_host(const u8* host) const { return static_cast<u64>(host - memory_.ram(Spa(0))); }

    void change_entry() {
        const u64 pcid = chance(70) ? pcid_ : below(kPcids);
        set_leaf(pcid, some_site());
    }

    void flush_page() {
        const u64 site = some_site(), gva = some_gva(site);
        if (!mode_.pcide || chance(70)) {
            tlb_->flush_page(gva);
            for (u64 pcid = 0; pcid < kPcids; ++pcid) {
                if (pcid == pcid_ || !mode_.pcide) {
                    forget(pcid, site, true);
                } else {
                    auto& list = versions_[pcid][site];
                    std::erase_if(list, [](u64 e) { return (e & pte::kGlobal) != 0; });
                    list.push_back(get(leaf_at_[pcid][site]));
                }
            }
        } else {
            const u64 pcid = below(kPcids);
            tlb_->flush_page_pcid(gva, static_cast<u16>(pcid));
            forget(pcid, site, false);
        }
    }

    void load_cr3(u64 pcid) {
        pcid_ = pcid;
        mode_.cr3 = roots_[pcid] | (mode_.pcide ? pcid : 0);
    }

    void switch_cr3() {
        load_cr3(below(kPcids));
        const bool keep = mode_.pcide && chance(60);
        if (chance(50)) enter();  // the order of the two does not matter
        if (!keep) {
            tlb_->flush_nonglobal(static_cast<u16>(mode_.pcide ? pcid_ : 0));
            for (u64 site = 0; site < kSiteCount; ++site) forget(pcid_, site, false);
        }
        if (!mode_.pcide) {
            // Global pages are one address space's to the processor: make them so by flushing.
            tlb_->flush_all();
            for (u64 site = 0; site < kSiteCount; ++site) forget(pcid_, site, true);
        }
        enter();
    }

    void flush_contexts() {
        const u64 what = below(4), pcid = below(kPcids);
        const bool global = what >= 2;
        switch (what) {
            case 0: tlb_->flush_pcid(static_cast<u16>(mode_.pcide ? pcid : 0)); break;
            case 1: tlb_->flush_all_nonglobal(); break;
            case 2: tlb_->flush_all(); break;
            case 3: tlb_->drop_all(); break;
        }
        for (u64 each = 0; each < kPcids; ++each) {
            if (what == 0 && mode_.pcide && each != pcid) continue;
            for (u64 site = 0; site < kSiteCount; ++site) forget(each, site, global);
        }
    }

    void enter() { tlb_->set_context(mode_, slat_mode_, privilege_); }

    void change_mode() {
        switch (below(5)) {
            case 0: privilege_ = static_cast<Privilege>(below(3)); break;
            case 1: mode_.wp = !mode_.wp; break;
            case 2: mode_.smap = !mode_.smap; break;
            case 3: mode_.smep = !mode_.smep; break;
            case 4: {
                mode_.pkru = static_cast<u32>(random_() & random_() & 0x3f);
                tlb_->pkru_changed();
                break;
            }
        }
        enter();
    }

    void change_code() {
        const Spa page(spa_of(4 * kMiB + below(64) * kPageSize));
        if (chance(50)) {
            memory_.mark_code(page + below(kPageSize), 1);
        } else {
            memory_.remark_code(page);
        }
    }

    /// Moves one page of the partition, which its owner follows with a flush of the second level.
    void change_slat() {
        const u64 gpa = 4 * kMiB + below(64) * kPageSize, spa = 32 * kMiB + 4 * kMiB + below(64) * kPageSize;
        REQUIRE(slat_->map(Gpa(gpa), Spa(spa), kPageSize, {}));
        tlb_->flush_slat(chance(50) ? slat_->root() : 0);
        for (u64 pcid = 0; pcid < kPcids; ++pcid) {
            for (u64 site = 0; site < kSiteCount; ++site) forget(pcid, site, true);
        }
    }

    std::mt19937_64 random_;
    PhysicalMemory memory_;
    int fd_ = -1;
    std::optional<Tlb> tlb_;
    std::optional<SlatBuilder> slat_;
    SlatMode slat_mode_;
    u64 next_slat_page_ = 0, next_table_ = 0x10000;
    PagingMode mode_;
    Privilege privilege_ = Privilege::Supervisor;
    u64 pcid_ = 0, focus_ = 0;
    u64 roots_[kPcids] = {};
    u64 leaf_at_[kPcids][kSiteCount] = {};
    std::vector<u64> versions_[kPcids][kSiteCount];
};

}  // namespace

TEST_CASE("tlb: whatever happens, it answers as some legal TLB could", "[mmu][tlb]") {
    for (u64 seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        World world(seed);
        for (unsigned i = 0; i < 4000; ++i) world.step();
    }
}
