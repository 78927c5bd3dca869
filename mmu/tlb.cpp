#include "mmu/tlb.h"

#include <sys/random.h>

#include <algorithm>

#include "base/assert.h"
#include "base/bits.h"
#include "mmu/bank_store.h"
#include "mmu/leaf.h"
#include "mmu/slat.h"
#include "mmu/walk_cache.h"

namespace vg::mmu {
namespace {

constexpr u32 kMaxBanks = 32;

u16 pcid_of(const PagingMode& mode) { return mode.pcide ? static_cast<u16>(mode.cr3 & 0xfff) : 0; }

/// What decides a leaf, the tables aside. PGE and PCIDE are left out: changing them flushes everything.
BankKey context_key(const PagingMode& mode, const SlatMode& slat) {
    u64 bits = static_cast<u64>(mode.kind) | static_cast<u64>(slat.kind) << 2;
    bits |= u64{mode.nxe} << 4 | u64{mode.pse} << 5 | u64{mode.gib_pages} << 6 | u64{slat.accessed_dirty} << 7;
    bits |= u64{mode.physical_bits} << 8 | u64{slat.physical_bits} << 16 | u64{pcid_of(mode)} << 24;
    bits |= u64{slat.apic_access} << 36 | u64{slat.tag} << 48;
    bits |= u64{slat.below != 0} << 37 | u64{slat.no_execute} << 38 | u64{slat.user_execute} << 39;
    return {bits, slat.kind == SlatMode::Kind::None ? 0 : slat.root};
}

/// The context plus what decides permissions. Values that make no difference are folded together: user accesses see
/// neither WP nor SMAP nor SMEP, and AC only matters under SMAP.
BankKey bank_key(const PagingMode& mode, const SlatMode& slat, Privilege privilege) {
    BankKey key = context_key(mode, slat);
    const bool user = privilege == Privilege::User;
    const bool smap = mode.smap && privilege == Privilege::Supervisor;
    key.bits |= u64{user} << 40 | u64{mode.pke} << 41;
    if (!user) key.bits |= u64{mode.wp} << 42 | u64{mode.smep} << 43 | u64{smap} << 44;
    return key;
}

/// One address space as flushes see it; an invalid one has generation 0.
struct Context {
    BankKey key;
    WalkContext walk;
    u16 pcid = 0, tag = 0;
    u64 below = 0;  ///< SlatMode::below
    u64 last_used = 0;
};

/// A page address that is not canonical. Guests cannot find it out, and one that guessed it, once in 2^50 accesses to
/// such addresses, would get at BankTables::sink instead of a fault.
u64 random_empty_memo() {
    u64 random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random) random = reinterpret_cast<u64>(&random);
    constexpr u64 kNonCanonical = u64{1} << 62, kFree = kNonCanonical - kPageSize;
    return kNonCanonical | (random & kFree);
}

bool same_root(u64 a, u64 b) { return ((a ^ b) & ~kPageMask) == 0; }

}  // namespace

struct Tlb::Impl {
    PhysicalMemory& memory;
    int state_fd;
    u64 state_offset;
    std::vector<std::unique_ptr<BankStore>> banks;
    BankStore* current = nullptr;
    /// The banks of a mode with its second level, by Privilege; null: look it up.
    struct Siblings {
        PagingMode mode;
        SlatMode slat;
        BankStore* bank[3] = {};
    };
    static constexpr u32 kRecent = 4;  ///< modes that are returned to, as between a hypervisor and its guest
    std::array<Siblings, kRecent> recent{};
    BankStore** siblings = recent[0].bank;  ///< of the current one
    u32 next_recent = 0;
    std::array<Context, WalkCache::kMaxContexts> contexts{};
    SlatCache slat_cache;
    WalkCache walk_cache;
    u64 generation = 1, stamp = 0, jump_generation = 1;
    u32 stress = kTlbEntries;
    u32 edge_count = 1, memo_count = 0;
    const u64 empty_memo = random_empty_memo();

    Impl(PhysicalMemory& m, int fd, u64 offset) : memory(m), state_fd(fd), state_offset(offset) {
        for (u32 i = 0; i < contexts.size(); ++i) contexts[i].walk.index = i;
    }

    [[nodiscard]] const WalkContext& walk_context() const { return contexts[current->context].walk; }
    u32 context_for(const BankKey& key, u16 pcid, const SlatMode& slat);
    BankStore* bank_for(const PagingMode& mode, const SlatMode& slat, Privilege privilege, TlbStats& stats);
    BankStore* new_bank(TlbStats& stats);
    void synchronize(BankStore& bank, u32 pkru);
    void fill(bool write, const EntryRecord& record);
    /// Gives the chosen contexts new generations.
    template <class Choose>
    void flush(bool with_global, u32 pkru, Choose choose);
    void drop_page(u64 gva, u16 pcid, u16 tag, bool globals_elsewhere);
    void choose_siblings(const PagingMode& mode, const SlatMode& slat);
};

void Tlb::Impl::choose_siblings(const PagingMode& mode, const SlatMode& slat) {
    for (Siblings& each : recent) {
        siblings = each.bank;
        if (each.mode == mode && each.slat == slat) return;
    }
    Siblings& fresh = recent[next_recent];
    next_recent = (next_recent + 1) % kRecent;
    fresh = {mode, slat, {}};
    siblings = fresh.bank;
}

u32 Tlb::Impl::context_for(const BankKey& key, u16 pcid, const SlatMode& slat) {
    Context* oldest = nullptr;
    for (Context& context : contexts) {
        if (context.last_used != 0 && context.key == key && context.below == slat.below) {
            context.last_used = ++stamp;
            return context.walk.index;
        }
        const bool in_use = std::any_of(banks.begin(), banks.end(), [&](const auto& bank) {
            return bank->last_used != 0 && bank->context == context.walk.index;
        });
        if (!in_use && (oldest == nullptr || context.last_used < oldest->last_used)) oldest = &context;
    }
    // There are more contexts than banks, so one is always free.
    VG_ASSERT(oldest != nullptr);
    oldest->key = key;
    oldest->pcid = pcid;
    oldest->tag = slat.tag;
    oldest->below = slat.below;
    oldest->last_used = ++stamp;
    oldest->walk.nonglobal = oldest->walk.global = ++generation;
    return oldest->walk.index;
}

BankStore* Tlb::Impl::new_bank(TlbStats& stats) {
    if (banks.size() < kMaxBanks) {
        auto bank = std::make_unique<BankStore>(state_fd, state_offset, empty_memo);
        if (bank->tables() != nullptr) return banks.emplace_back(std::move(bank)).get();
        VG_ASSERT(banks.size() > 1);  // the host cannot even map two banks
    }
    BankStore* oldest = nullptr;
    for (const auto& bank : banks) {
        if (bank.get() != current && (oldest == nullptr || bank->last_used < oldest->last_used)) oldest = bank.get();
    }
    ++stats.bank_evictions;
    oldest->clear_all();
    oldest->last_used = 0;
    for (Siblings& each : recent) std::fill(std::begin(each.bank), std::end(each.bank), nullptr);
    return oldest;
}

BankStore* Tlb::Impl::bank_for(const PagingMode& mode, const SlatMode& slat, Privilege privilege, TlbStats& stats) {
    const BankKey key = bank_key(mode, slat, privilege);
    for (const auto& bank : banks) {
        if (bank->key == key && bank->last_used != 0) return bank.get();
    }
    BankStore* bank = new_bank(stats);
    bank->key = key;
    bank->pcid = pcid_of(mode);
    bank->guest_tag = slat.tag;
    bank->pke = mode.pke;
    bank->pkru = mode.pkru;
    bank->context = context_for(context_key(mode, slat), bank->pcid, slat);
    bank->nonglobal_generation = contexts[bank->context].walk.nonglobal;
    bank->global_generation = contexts[bank->context].walk.global;
    bank->jump_generation = jump_generation;
    return bank;
}

/// Carries out the flushes that happened while the bank was not current.
void Tlb::Impl::synchronize(BankStore& bank, u32 pkru) {
    const WalkContext& context = contexts[bank.context].walk;
    if (bank.global_generation != context.global) {
        bank.clear_all();
    } else if (bank.nonglobal_generation != context.nonglobal) {
        bank.clear_nonglobal();
    }
    bank.global_generation = context.global;
    bank.nonglobal_generation = context.nonglobal;
    if (bank.jump_generation != jump_generation) {
        bank.clear_jumps();
        bank.jump_generation = jump_generation;
    }
    if (bank.pke && bank.pkru != pkru) {
        bank.clear_data();
        bank.pkru = pkru;
    }
}

void Tlb::Impl::fill(bool write, const EntryRecord& record) {
    if (tlb_index(record.entry.tag) < stress) current->fill(write, record);
}

template <class Choose>
void Tlb::Impl::flush(bool with_global, u32 pkru, Choose choose) {
    ++generation;
    for (Context& context : contexts) {
        if (!choose(context)) continue;
        context.walk.nonglobal = generation;
        if (with_global) context.walk.global = generation;
    }
    if (current != nullptr) synchronize(*current, pkru);
}

void Tlb::Impl::drop_page(u64 gva, u16 pcid, u16 tag, bool globals_elsewhere) {
    for (const auto& bank : banks) {
        if (bank->guest_tag != tag) continue;
        const bool own = bank->pcid == pcid;
        if (own || globals_elsewhere) bank->drop_page(gva, !own);
    }
    walk_cache.drop_page(gva);
}

Tlb::Tlb(PhysicalMemory& memory, int state_fd, u64 state_offset)
    : impl_(std::make_unique<Impl>(memory, state_fd, state_offset)) {
    activate();
    memory.add_tlb_observer(this);
}

Tlb::~Tlb() { impl_->memory.remove_tlb_observer(this); }

void Tlb::activate() {
    ++changes_;
    Impl& im = *impl_;
    BankStore*& sibling = im.siblings[static_cast<unsigned>(privilege_)];
    BankStore* bank = sibling;
    if (bank == nullptr) {
        bank = im.bank_for(mode_, slat_, privilege_, stats_);
        sibling = bank;
    }
    if (bank != im.current) ++stats_.bank_switches;
    im.current = bank;
    current_ = bank->tables();
    bank->last_used = ++im.stamp;
    bank->prepare_edges(im.edge_count);
    bank->prepare_memos(im.memo_count);
    im.synchronize(*bank, mode_.pkru);
}

void Tlb::set_context(const PagingMode& mode, const SlatMode& slat, Privilege privilege) {
    if (mode == mode_ && slat == slat_) return set_privilege(privilege);
    mode_ = mode;
    slat_ = slat;
    privilege_ = privilege;
    impl_->choose_siblings(mode, slat);
    activate();
}

void Tlb::set_privilege(Privilege privilege) {
    if (privilege == privilege_) return;
    privilege_ = privilege;
    activate();
}

void Tlb::set_apic_page(Gpa page, ApicSpace space) {
    if (apic_page_ == page && apic_space_ == space) return;
    apic_page_ = page;
    apic_space_ = space;
    flush_all();
}

void Tlb::set_apic_access_page(Spa page) {
    if (apic_access_page_ == page) return;
    apic_access_page_ = page;
    flush_tags();
    flush_tag(0, true);
}

Tlb::Mapping Tlb::resolve(u64 gva, Access access, Privilege privilege) {
    Impl& im = *impl_;
    const bool user = privilege == Privilege::User, ac = privilege == Privilege::SupervisorAc;
    // Another privilege's result must not enter the current bank, unless the bank serves both.
    const bool own = privilege == privilege_ || im.siblings[static_cast<unsigned>(privilege)] == im.current;
    const u64 tag = gva & ~kPageMask, offset = gva & kPageMask;
    const bool write = access == Access::Write;
    Mapping mapping;
    Translation& t = mapping.translation;

    if (own && access == Access::Fetch) {
        if (const BankStore::FetchEntry* hit = im.current->find_fetch(gva)) {
            t.gpa = Gpa(hit->gpa | offset);
            t.spa = Spa(hit->spa | offset);
            t.executable = true;
            t.global = im.current->fetch_is_global(gva);
            mapping.host = const_cast<u8*>(hit->host) + offset;
            return mapping;
        }
        ++stats_.fetch_walks;
    } else if (own) {
        EntryRecord record;
        if (im.current->take_second(write, tag, record)) {
            ++stats_.victim_hits;
            im.fill(write, record);
            t.gpa = Gpa(record.origin.gpa | offset);
            t.spa = Spa(record.origin.spa | offset);
            t.global = record.global;
            (write ? t.writable : t.readable) = true;
            mapping.host = reinterpret_cast<u8*>(gva + record.entry.addend);
            return mapping;
        }
    }

    Leaf leaf;
    u8 rights = 0;
    if (im.walk_cache.find(im.walk_context(), gva, leaf)) rights = rights_of(mode_, leaf, user, ac);
    if ((rights & slat_needs(access)) != 0) {
        ++stats_.walk_cache_hits;
        t = translation_of(leaf, gva, rights);
    } else {
        t = walk_leaf(im.memory, mode_, slat_, Gva(gva), access, user, ac, true, &im.slat_cache, leaf);
        if (t.status != Translation::Status::Ok) return mapping;
        im.walk_cache.insert(im.walk_context(), gva, leaf);
    }
    if (is_apic_page(t) || t.spa.page_base() == apic_access_page()) [[unlikely]] return mapping;

    const Spa page = t.spa.page_base();
    u8* host = nullptr;
    if (write)
        host = im.memory.writable_directly(page) ? im.memory.ram(page) : nullptr;
    else if (access == Access::Fetch || !im.memory.read_watched(page))
        host = const_cast<u8*>(im.memory.readable(page));
    if (host == nullptr) return mapping;
    mapping.host = host + offset;
    if (!own) return mapping;

    if (access == Access::Fetch) {
        im.current->fill_fetch({tag, t.gpa.page_base().value, page.value, host}, t.global, leaf.guest_bits);
        return mapping;
    }
    const EntryRecord record{
        {tag, reinterpret_cast<u64>(host) - tag}, {t.gpa.page_base().value, page.value}, t.global, leaf.guest_bits};
    if (write) {
        ++stats_.write_fills;
        im.memory.page_info(page).note_write_entry(static_cast<u16>(tlb_index(gva)));
        im.fill(true, record);
    } else {
        ++stats_.read_fills;
    }
    if (t.readable && (!write || current_->read[tlb_index(gva)].tag != tag)) im.fill(false, record);
    return mapping;
}

bool Tlb::may_walk(u64 gva, Access access) const {
    const Impl& im = *impl_;
    if (access == Access::Fetch && im.current->find_fetch(gva) != nullptr) return false;
    Leaf leaf;
    if (!im.walk_cache.find(im.walk_context(), gva, leaf)) return true;
    const u8 rights = rights_of(mode_, leaf, privilege_ == Privilege::User, privilege_ == Privilege::SupervisorAc);
    return (rights & slat_needs(access)) == 0;
}

void Tlb::flush_all() {
    ++changes_;
    ++stats_.flushes_all;
    impl_->slat_cache.clear(0);
    impl_->flush(true, mode_.pkru, [](const Context&) { return true; });
}

void Tlb::flush_nonglobal(u16 pcid) {
    ++changes_;
    ++stats_.flushes_context;
    const bool any = !mode_.pcide;
    impl_->flush(false, mode_.pkru,
                 [&](const Context& context) { return context.tag == slat_.tag && (any || context.pcid == pcid); });
}

void Tlb::flush_pcid(u16 pcid) {
    ++changes_;
    ++stats_.flushes_context;
    impl_->flush(false, mode_.pkru,
                 [&](const Context& context) { return context.tag == slat_.tag && context.pcid == pcid; });
}

void Tlb::flush_all_nonglobal() { flush_tag(slat_.tag, false); }

void Tlb::flush_tag(u16 tag, bool with_global) {
    ++changes_;
    ++stats_.flushes_all;
    impl_->flush(with_global, mode_.pkru, [tag](const Context& context) { return context.tag == tag; });
}

void Tlb::flush_tags() {
    ++changes_;
    ++stats_.flushes_all;
    impl_->flush(true, mode_.pkru, [](const Context& context) { return context.tag != 0; });
}

void Tlb::flush_page_tag(u64 gva, u16 tag) {
    ++changes_;
    ++stats_.flushes_page;
    for (const auto& bank : impl_->banks)
        if (bank->guest_tag == tag) bank->drop_page(gva, false);
    impl_->walk_cache.drop_page(gva);
}

void Tlb::flush_page(u64 gva) {
    ++changes_;
    ++stats_.flushes_page;
    impl_->drop_page(gva, pcid_of(mode_), slat_.tag, true);
}

void Tlb::flush_page_pcid(u64 gva, u16 pcid) {
    ++changes_;
    ++stats_.flushes_page;
    impl_->drop_page(gva, pcid, slat_.tag, false);
}

void Tlb::flush_slat(u64 root) {
    ++changes_;
    ++stats_.flushes_all;
    impl_->slat_cache.clear(root);
    impl_->flush(true, mode_.pkru, [&](const Context& context) {
        const bool second_level = ((context.key.bits >> 2) & 3) != static_cast<u64>(SlatMode::Kind::None);
        return (second_level && (root == 0 || same_root(context.key.root, root))) ||
               (context.below != 0 && (root == 0 || same_root(context.below, root)));
    });
}

void Tlb::pkru_changed() {
    ++changes_;
    if (impl_->current->pke) impl_->current->clear_data();
}

void Tlb::drop_write_entries(Spa page) {
    ++changes_;
    const u8* host = impl_->memory.ram(page);
    const u16 slot = impl_->memory.page_info(page).write_slot;
    for (const auto& bank : impl_->banks) bank->drop_writes(reinterpret_cast<u64>(host), slot);
}

void Tlb::drop_read_entries(Spa page) {
    ++changes_;
    const u8* host = impl_->memory.ram(page);
    for (const auto& bank : impl_->banks) bank->drop_reads(reinterpret_cast<u64>(host));
}

void Tlb::fill_jump(u64 rip, u64 host, bool global) { impl_->current->fill_jump(rip, host, global); }

void Tlb::reserve_edges(u32 count) {
    impl_->edge_count = std::max(impl_->edge_count, count);
    impl_->current->prepare_edges(impl_->edge_count);
}

void Tlb::reserve_memos(u32 count) {
    impl_->memo_count = std::max(impl_->memo_count, count);
    impl_->current->prepare_memos(impl_->memo_count);
}

void Tlb::release_memory() {
    ++changes_;
    impl_->edge_count = 1;
    impl_->memo_count = 0;
    for (const auto& bank : impl_->banks) {
        if (bank->last_used != 0) impl_->synchronize(*bank, bank->pkru);  // what it has to forget anyway
        bank->release_memory();
    }
    impl_->current->prepare_edges(1);
}

void Tlb::fill_edge(u32 slot, u64 key, const Edge& edge) {
    reserve_edges(slot + 1);
    impl_->current->fill_edge(slot, key, edge);
}

void Tlb::clear_jump_cache() { impl_->current->clear_jumps(); }

void Tlb::clear_jump_caches() {
    ++impl_->jump_generation;
    impl_->synchronize(*impl_->current, mode_.pkru);
}

void Tlb::set_stress_entries(u32 entries) {
    impl_->stress = std::min(entries, kTlbEntries);
    flush_all();
}

}  // namespace vg::mmu
