#include "mmu/bank_store.h"

#include <sys/mman.h>

#include <cstring>

#include "base/bits.h"

namespace vg::mmu {
namespace {

static_assert(sizeof(BankTables) % kPageSize == 0);

/// Entries of the growing tables that memory is taken for at once.
constexpr u32 kEntriesAtOnce = 2048;
static_assert(kEdgeEntries % kEntriesAtOnce == 0 && kMemoEntries % kEntriesAtOnce == 0);

}  // namespace

BankStore::BankStore(int state_fd, u64 state_offset, u64 empty_memo)
    : memory_(sizeof(BankTables), kPageSize, false), empty_memo_(empty_memo) {
    if (memory_.data() == nullptr || record_memory_.data() == nullptr) return;
    void* state = mmap(memory_.data() - kPageSize, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, state_fd,
                       static_cast<off_t>(state_offset));
    if (state == MAP_FAILED) return;
    tables_ = reinterpret_cast<BankTables*>(memory_.data());
    populate(tables_, offsetof(BankTables, edge));
    auto& records = *reinterpret_cast<Records*>(record_memory_.data());
    table_ = records.table.data();
    edge_links_ = records.edge_links.data();
    populate(&records.table, sizeof records.table);
    for (const u32 slot : {0u, kTlbEntries}) tables_->read[slot].tag = tables_->write[slot].tag = empty_tag(slot);
    for (const u32 index : {0u, 1u}) tables_->jump[index].rip = empty_rip(index);
    prepare_edges(1);
}

void BankStore::prepare_edges(u32 count) {
    for (; edges_ready_ < count; ++edges_ready_) {
        if (edges_ready_ % kEntriesAtOnce == 0) {
            populate(tables_->edge + edges_ready_, kEntriesAtOnce * sizeof(JumpEntry));
            populate(&edge_links_[edges_ready_], kEntriesAtOnce * sizeof(EdgeLinks));
        }
        tables_->edge[edges_ready_].rip = kEmptyEdge;
    }
}

void BankStore::prepare_memos(u32 count) {
    for (; memos_ready_ < count; ++memos_ready_) {
        for (const u32 index : {memos_ready_, kMemoEntries + memos_ready_}) {
            if (memos_ready_ % kEntriesAtOnce == 0) populate(tables_->memo + index, kEntriesAtOnce * sizeof(TlbEntry));
            empty_memo(index);
        }
    }
}

void BankStore::empty(bool write, u32 slot) {
    entries(write)[slot].tag = empty_tag(slot);
    table_[write].used.remove(slot);
}

EntryRecord BankStore::record_at(bool write, u32 slot) const {
    const Table& table = table_[write];
    return {entries(write)[slot], table.origins[slot], table.global.test(slot), table.guest_bits[slot]};
}

void BankStore::put(bool write, u32 slot, const EntryRecord& record) {
    Table& table = table_[write];
    entries(write)[slot] = record.entry;
    table.origins[slot] = record.origin;
    table.used.add(slot);
    table.global.set(slot, record.global);
    any_global_ = any_global_ || record.global;
    table.guest_bits[slot] = record.guest_bits;
    table.large.set(slot, record.large());
}

void BankStore::fill(bool write, const EntryRecord& record) {
    const u32 slot = tlb_index(record.entry.tag);
    if (table_[write].used.test(slot) && entries(write)[slot].tag != record.entry.tag) {
        const EntryRecord evicted = record_at(write, slot);
        put(write, second_index(evicted.entry.tag), evicted);
        if (write) second_writes_.set(second_write_bit(evicted.entry.tag + evicted.entry.addend));
    }
    put(write, slot, record);
    large_data_.add(record.entry.tag, record.guest_bits, record.global);
}

bool BankStore::take_second(bool write, u64 page, EntryRecord& out) {
    const u32 slot = second_index(page);
    if (entries(write)[slot].tag != page || !table_[write].used.test(slot)) return false;
    out = record_at(write, slot);
    empty(write, slot);
    return true;
}

void BankStore::fill_fetch(const FetchEntry& entry, bool global, u8 guest_bits) {
    const u32 index = fetch_index(entry.tag);
    const u64 bit = u64{1} << index;
    fetch_[index] = entry;
    fetch_used_ |= bit;
    fetch_global_ = global ? fetch_global_ | bit : fetch_global_ & ~bit;
    any_global_ = any_global_ || global;
    fetch_large_ = guest_bits > 12 ? fetch_large_ | bit : fetch_large_ & ~bit;
    large_code_.add(entry.tag, guest_bits, global);
}

void BankStore::fill_jump(u64 rip, u64 host, bool global) {
    const u32 index = jump_index(rip), other = other_jump_index(index);
    if (jump_used_.test(index) && tables_->jump[index].rip != rip) {
        tables_->jump[other] = tables_->jump[index];
        jump_used_.add(other);
        jump_global_.set(other, jump_global_.test(index));
        jump_large_.set(other, jump_large_.test(index));
    } else if (jump_used_.test(other) && tables_->jump[other].rip == rip) {
        empty_jump(other);  // what it leads to may be of the past
    }
    tables_->jump[index] = {rip, host};
    jump_used_.add(index);
    jump_global_.set(index, global);
    jump_large_.set(index, may_be_large(rip));
    jump_pages_.set(tlb_index(rip));
}

void BankStore::fill_edge(u32 slot, u64 name, const Edge& edge) {
    tables_->edge[slot] = {name, edge.host};
    edge_used_.add(slot);
    edge_global_.set(slot, edge.global);
    edge_large_.set(slot, may_be_large(edge.target));
    edge_links_[slot].target = edge.target;
    list_edge(slot, tlb_index(edge.target));
    jump_pages_.set(tlb_index(edge.target));
}

/// Empties every used entry for which `keep(table, word)` does not have the bit set.
template <class Keep>
void BankStore::sweep(bool write, Keep keep) {
    Table& table = table_[write];
    TlbEntry* const list = entries(write);
    table.used.each_word([&](u32 word, u64& members) {
        u64 going = members & ~keep(table, word);
        members &= ~going;
        for (; going != 0; going &= going - 1) {
            const u32 index = word * 64 + static_cast<u32>(std::countr_zero(going));
            list[index].tag = empty_tag(index);
        }
    });
}

template <class Drop>
void BankStore::drop_memos(bool write, Drop drop) {
    constexpr u32 kMarksAtOnce = sizeof(u64);
    static_assert(kMemoEntries % (kMemosPerMark * kMarksAtOnce) == 0);
    const u32 first = write ? kMemoEntries : 0, end = first + memos_ready_;
    for (u32 index = first; index < end; index += kMemosPerMark * kMarksAtOnce) {
        u8* const marks = tables_->memo_marks + index / kMemosPerMark;
        u64 any;
        std::memcpy(&any, marks, sizeof any);
        for (u32 k = 0; any != 0 && k < kMarksAtOnce; ++k) {
            if (marks[k] == 0) continue;
            bool left = false;
            for (u32 each = index + k * kMemosPerMark; each < index + (k + 1) * kMemosPerMark; ++each) {
                const TlbEntry& memo = tables_->memo[each];
                if (memo.tag == empty_memo_) continue;
                if (drop(memo))
                    empty_memo(each);
                else
                    left = true;
            }
            if (!left) marks[k] = 0;
        }
    }
}

void BankStore::clear_data() {
    for (const bool write : {false, true}) {
        sweep(write, [](const Table&, u32) { return u64{0}; });
        drop_memos(write, [](const TlbEntry&) { return true; });
    }
    second_writes_.clear();
    large_data_.clear();
}

void BankStore::clear_all() {
    clear_data();
    clear_jumps();
    for (u64 going = fetch_used_; going != 0; going &= going - 1)
        fetch_[static_cast<u32>(std::countr_zero(going))].tag = 1;
    fetch_used_ = 0;
    any_global_ = false;
    large_code_.clear();
}

void BankStore::clear_nonglobal() {
    for (const bool write : {false, true}) {
        // Whether a copy is of a global page is known as long as the entry is there.
        drop_memos(write, [this, write](const TlbEntry& memo) {
            const u32 index = tlb_index(memo.tag);
            return entries(write)[index].tag != memo.tag || !table_[write].global.test(index);
        });
        sweep(write, [](const Table& table, u32 word) { return table.global.words[word]; });
    }
    clear_jumps(true);
    const u64 gone = fetch_used_ & ~fetch_global_;
    for (u64 going = gone; going != 0; going &= going - 1) fetch_[static_cast<u32>(std::countr_zero(going))].tag = 1;
    fetch_used_ &= ~gone;
    large_data_.clear_nonglobal();
    large_code_.clear_nonglobal();
}

template <u32 N>
void BankStore::clear_entries(JumpEntry* entries, SparseSet<N>& used, const BitSet<N>& global, bool keep_global,
                              u64 (*empty)(u32)) {
    used.each_word([&](u32 word, u64& members) {
        const u64 kept = keep_global ? members & global.words[word] : 0;
        for (u64 going = members & ~kept; going != 0; going &= going - 1) {
            const u32 index = word * 64 + static_cast<u32>(std::countr_zero(going));
            entries[index] = {empty(index), 0};
        }
        members = kept;
    });
}

void BankStore::clear_jumps(bool keep_global) {
    clear_entries(tables_->jump, jump_used_, jump_global_, keep_global,
                  [](u32 index) { return empty_rip(index); });
    clear_entries(tables_->edge, edge_used_, edge_global_, keep_global, [](u32) { return kEmptyEdge; });
    if (!keep_global) jump_pages_.clear();
}

/// Gives the memory of elements back whose slots are not used.
template <class T>
void BankStore::release_unused(bool write, T* list) {
    const auto& used = table_[write].used;
    u32 first = 0;
    for (u32 slot = 0; slot <= kTlbSlots; ++slot) {
        // The empty entries of these two are not zero.
        if (slot < kTlbSlots && !used.test(slot) && slot != 0 && slot != kTlbEntries) continue;
        give_back(list + first, (slot - first) * sizeof(T));
        first = slot + 1;
    }
}

void BankStore::release_memory() {
    clear_jumps();
    give_back(tables_->jump, sizeof tables_->jump);
    for (const u32 index : {0u, 1u}) tables_->jump[index].rip = empty_rip(index);
    give_back(tables_->edge, sizeof tables_->edge);
    give_back(edge_links_, kEdgeEntries * sizeof(EdgeLinks));
    edge_lists_.fill(0);
    edges_ready_ = 0;
    give_back(tables_->memo, sizeof tables_->memo);
    std::memset(tables_->memo_marks, 0, sizeof tables_->memo_marks);
    memos_ready_ = 0;
    for (const bool write : {false, true}) {
        release_unused(write, entries(write));
        release_unused(write, table_[write].origins.data());
    }
}

void BankStore::list_edge(u32 slot, u32 bucket) {
    EdgeLinks& links = edge_links_[slot];
    if (links.bucket == bucket + 1) return;
    if (links.bucket != 0) {
        (links.previous != 0 ? edge_links_[links.previous].next : edge_lists_[links.bucket - 1]) = links.next;
        if (links.next != 0) edge_links_[links.next].previous = links.previous;
    }
    links.bucket = bucket + 1;
    links.previous = 0;
    links.next = edge_lists_[bucket];
    if (links.next != 0) edge_links_[links.next].previous = slot;
    edge_lists_[bucket] = slot;
}

void BankStore::empty_edge(u32 slot) {
    tables_->edge[slot] = {kEmptyEdge, 0};
    edge_used_.remove(slot);
}

void BankStore::empty_jump(u32 index) {
    tables_->jump[index] = {empty_rip(index), 0};
    jump_used_.remove(index);
}

/// What leads to the page of `gva`.
void BankStore::drop_jumps(u64 gva) {
    const u64 page = gva >> 12;
    static_assert(kJumpEntries >= kPageSize / 4, "the entries for one page lie side by side");
    const u32 first = jump_index(gva & ~kPageMask);
    for (u32 word = first / 64; word < (first + kPageSize / 4) / 64; ++word) {
        for (u64 each = jump_used_.word(word); each != 0; each &= each - 1) {
            const u32 index = word * 64 + static_cast<u32>(std::countr_zero(each));
            if (tables_->jump[index].rip >> 12 == page) empty_jump(index);
        }
    }
    for (u32 slot = edge_lists_[tlb_index(gva)]; slot != 0; slot = edge_links_[slot].next)
        if (edge_used_.test(slot) && edge_links_[slot].target >> 12 == page) empty_edge(slot);
}

/// What leads to large pages in the region of 2^bits bytes around `gva`.
void BankStore::drop_region_jumps(u64 gva, unsigned bits) {
    const u64 region = gva >> bits;
    jump_used_.each_word([&](u32 word, u64 members) {
        for (u64 each = members & jump_large_.words[word]; each != 0; each &= each - 1) {
            const u32 index = word * 64 + static_cast<u32>(std::countr_zero(each));
            if (tables_->jump[index].rip >> bits == region) empty_jump(index);
        }
    });
    edge_used_.each_word([&](u32 word, u64 members) {
        for (u64 each = members & edge_large_.words[word]; each != 0; each &= each - 1) {
            const u32 slot = word * 64 + static_cast<u32>(std::countr_zero(each));
            if (edge_links_[slot].target >> bits == region) empty_edge(slot);
        }
    });
}

void BankStore::drop_page(u64 gva, bool only_global) {
    if (only_global && !any_global_) return;
    const u64 tag = gva & ~kPageMask;
    const u32 index = tlb_index(gva);
    for (const bool write : {false, true}) {
        drop_memos(write, [tag](const TlbEntry& memo) { return memo.tag == tag; });
        // The sets are asked first: they are small, while the entries of banks that are not current are far from all caches.
        const Table& table = table_[write];
        for (const u32 slot : {index, second_index(gva)}) {
            if (!table.used.test(slot) || (only_global && !table.global.test(slot))) continue;
            if (entries(write)[slot].tag == tag) empty(write, slot);
        }
    }
    FetchEntry& fetch = fetch_[fetch_index(gva)];
    if (fetch.tag == tag) {
        fetch.tag = 1;
        fetch_used_ &= ~(u64{1} << fetch_index(gva));
    }
    if (jump_pages_.test(index)) drop_jumps(gva);
    if (const unsigned bits = large_data_.around(gva); bits != 0) drop_large(gva, bits);
    if (const unsigned bits = large_code_.around(gva); bits != 0) drop_large_code(gva, bits);
}

/// All that is derived from large pages in the region of 2^bits bytes around `gva` goes, which includes the page in
/// question whatever its size.
void BankStore::drop_large(u64 gva, unsigned bits) {
    const u64 region = gva >> bits;
    for (const bool write : {false, true}) {
        const TlbEntry* const list = entries(write);
        sweep(write, [&](const Table& table, u32 word) {
            u64 keep = ~u64{0};
            for (u64 each = table.used.word(word) & table.large.words[word]; each != 0; each &= each - 1) {
                const u32 bit = static_cast<u32>(std::countr_zero(each));
                if (list[word * 64 + bit].tag >> bits == region) keep &= ~(u64{1} << bit);
            }
            return keep;
        });
        drop_memos(write, [region, bits](const TlbEntry& memo) { return memo.tag >> bits == region; });
    }
}

void BankStore::drop_large_code(u64 gva, unsigned bits) {
    for (u64 each = fetch_used_ & fetch_large_; each != 0; each &= each - 1) {
        const u32 index = static_cast<u32>(std::countr_zero(each));
        if (fetch_[index].tag >> bits != gva >> bits) continue;
        fetch_[index].tag = 1;
        fetch_used_ &= ~(u64{1} << index);
    }
    drop_region_jumps(gva, bits);
}

void BankStore::drop_writes(u64 host_page, u16 slot) {
    drop_memos(true, [host_page](const TlbEntry& memo) { return memo.tag + memo.addend == host_page; });
    if (slot < kTlbEntries)
        drop_between(true, host_page, slot, slot + 1);
    else
        drop_between(true, host_page, 0, kTlbEntries);
    if (second_writes_.test(second_write_bit(host_page))) drop_between(true, host_page, kTlbEntries, kTlbSlots);
}

void BankStore::drop_reads(u64 host_page) {
    drop_memos(false, [host_page](const TlbEntry& memo) { return memo.tag + memo.addend == host_page; });
    drop_between(false, host_page, 0, kTlbSlots);
}

void BankStore::drop_between(bool write, u64 host_page, u32 first, u32 end) {
    const Table& table = table_[write];
    for (u32 word = first / 64; word <= (end - 1) / 64; ++word) {
        u64 each = table.used.word(word);
        if (end - first == 1) each &= u64{1} << (first % 64);
        for (; each != 0; each &= each - 1) {
            const u32 slot = word * 64 + static_cast<u32>(std::countr_zero(each));
            const TlbEntry& entry = entries(write)[slot];
            if (entry.tag + entry.addend == host_page) empty(write, slot);
        }
    }
}

}  // namespace vg::mmu
