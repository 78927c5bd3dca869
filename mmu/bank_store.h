// One bank: the tables that emitted code reads, and what C++ must remember about them. Internal to mmu/.
#pragma once

#include <array>
#include <bit>

#include "base/host_memory.h"
#include "base/types.h"
#include "mmu/bank.h"
#include "mmu/large_regions.h"

namespace vg::mmu {

/// Where an inline entry's page comes from.
struct Origin {
    u64 gpa = 0, spa = 0;
};

/// One inline entry with all that is known about it: how entries travel between their places.
struct EntryRecord {
    TlbEntry entry;
    Origin origin;
    bool global = false;
    u8 guest_bits = 12;  ///< log2 of the guest page that it is derived from
    [[nodiscard]] bool large() const { return guest_bits > 12; }
};

/// What decides an inline entry; two equal keys share a bank.
struct BankKey {
    u64 bits = 0;  ///< paging format, permission-relevant mode bits, privilege, PCID
    u64 root = 0;  ///< second-level root
    bool operator==(const BankKey&) const = default;
};

class BankStore {
  public:
    /// Maps the tables behind an alias of the state page. `tables()` is null if the host refuses.
    /// @param empty_memo  tag of memos without a copy: a page that no guest can name but by guessing
    BankStore(int state_fd, u64 state_offset, u64 empty_memo);
    BankStore(const BankStore&) = delete;
    BankStore& operator=(const BankStore&) = delete;

    [[nodiscard]] BankTables* tables() const { return tables_; }

    /// Puts a read (write) entry in its place. Another page's entry that was there goes to its second place.
    void fill(bool write, const EntryRecord& record);
    /// Takes the entry for `page` out of its second place, if it is there.
    bool take_second(bool write, u64 page, EntryRecord& out);
    /// @param global  the page of `rip` is global: the entry outlives flushes of the address space
    void fill_jump(u64 rip, u64 host, bool global);
    void fill_edge(u32 slot, u64 name, const Edge& edge);
    /// Entries of the edge table below `count` can be asked from now on; fresh memory is not an empty entry.
    void prepare_edges(u32 count);
    /// The same for the first memos of each kind.
    void prepare_memos(u32 count);

    /// Fetch translations: the Spa and host address of a code page.
    struct FetchEntry {
        u64 tag = 1;  ///< page address; 1 never matches
        u64 gpa = 0, spa = 0;
        const u8* host = nullptr;
    };
    [[nodiscard]] const FetchEntry* find_fetch(u64 gva) const {
        const FetchEntry& e = fetch_[fetch_index(gva)];
        return e.tag == (gva & ~kPageMask) ? &e : nullptr;
    }
    [[nodiscard]] bool fetch_is_global(u64 gva) const { return (fetch_global_ >> fetch_index(gva) & 1) != 0; }
    void fill_fetch(const FetchEntry& entry, bool global, u8 guest_bits);

    void clear_all();
    void clear_nonglobal();
    void clear_data();  ///< read and write entries only
    void clear_jumps(bool keep_global = false);
    /// Empties jumps, edges and memos, and gives their memory, and that of entries that are not used, back to the host.
    /// Before it is used again, edges and memos have to be prepared.
    void release_memory();
    /// Drops what is derived from the guest page that holds `gva`. @param only_global  the bank of another PCID
    void drop_page(u64 gva, bool only_global);
    /// Drops write entries to one host page; `slot` as in PageInfo::write_slot.
    void drop_writes(u64 host_page, u16 slot);
    void drop_reads(u64 host_page);

    // Owned by Tlb.
    BankKey key;
    u32 context = 0;
    u16 pcid = 0, guest_tag = 0;
    bool pke = false;
    u32 pkru = 0;
    u64 last_used = 0;
    u64 nonglobal_generation = 0, global_generation = 0,
        jump_generation = 0;  ///< generations up to which it has been flushed

  private:
    struct Table {
        SparseSet<kTlbSlots> used;
        BitSet<kTlbSlots> global, large;
        std::array<Origin, kTlbSlots> origins;
        std::array<u8, kTlbSlots> guest_bits;
    };
    /// Of an entry of the edge table that has been used: where it leads, and its neighbours in the list of all that
    /// lead, or led, to pages of one bucket (tlb_index). 0 ends a list.
    struct EdgeLinks {
        u64 target = 0;
        u32 next = 0, previous = 0;
        u32 bucket = 0;  ///< its number plus one; 0: none yet
    };
    /// What is too large for the heap, whose fresh memory costs a page fault per page. Zero at first.
    struct Records {
        std::array<Table, 2> table;  ///< read, write
        std::array<EdgeLinks, kEdgeEntries> edge_links;
    };
    static constexpr u32 kFetchEntries = 64;
    static constexpr u32 fetch_index(u64 gva) { return static_cast<u32>(gva >> 12) & (kFetchEntries - 1); }
    void empty_memo(u32 index) {
        tables_->memo[index] = {empty_memo_, reinterpret_cast<u64>(tables_->sink) - empty_memo_};
    }
    /// Empties every memo for writes (or reads) that holds a copy for which `drop(entry)` is true.
    template <class Drop>
    void drop_memos(bool write, Drop drop);
    /// Takes the entry for the bucket of its target's page into that bucket's list, out of its present one's.
    void list_edge(u32 slot, u32 bucket);
    [[nodiscard]] TlbEntry* entries(bool write) const { return write ? tables_->write : tables_->read; }
    void put(bool write, u32 slot, const EntryRecord& record);
    [[nodiscard]] EntryRecord record_at(bool write, u32 slot) const;
    void empty(bool write, u32 slot);
    void drop_between(bool write, u64 host_page, u32 first, u32 end);
    void drop_large(u64 gva, unsigned bits);
    void drop_large_code(u64 gva, unsigned bits);
    void drop_jumps(u64 gva);
    void drop_region_jumps(u64 gva, unsigned bits);
    /// Whether the code page of `gva` may be derived from a large page: it is not if it was looked up just now.
    [[nodiscard]] bool may_be_large(u64 gva) const {
        return find_fetch(gva) == nullptr || (fetch_large_ >> fetch_index(gva) & 1) != 0;
    }
    template <class T>
    void release_unused(bool write, T* list);
    void empty_edge(u32 slot);
    void empty_jump(u32 index);
    template <u32 N>
    static void clear_entries(JumpEntry* entries, SparseSet<N>& used, const BitSet<N>& global, bool keep_global,
                              u64 (*empty)(u32));
    template <class Keep>
    void sweep(bool write, Keep keep);

    HostMemory memory_;
    HostMemory record_memory_{sizeof(Records), 0, false};
    Table* table_ = nullptr;  ///< of reads, of writes
    EdgeLinks* edge_links_ = nullptr;
    u32 edges_ready_ = 0, memos_ready_ = 0;
    const u64 empty_memo_;
    BankTables* tables_ = nullptr;
    /// Host pages that write entries in second places may lead to, by a hash; emptied with the tables as a whole.
    BitSet<16384> second_writes_;
    static constexpr u32 second_write_bit(u64 host_page) { return static_cast<u32>(host_page >> 12) & 16383; }
    SparseSet<kJumpEntries> jump_used_;
    SparseSet<kEdgeEntries> edge_used_;
    BitSet<kJumpEntries> jump_global_, jump_large_;
    BitSet<kEdgeEntries> edge_global_, edge_large_;
    std::array<u32, kTlbEntries> edge_lists_{};  ///< first of each bucket
    BitSet<kTlbEntries> jump_pages_;             ///< tlb_index of the pages that jump entries lie in
    std::array<FetchEntry, kFetchEntries> fetch_{};
    u64 fetch_used_ = 0, fetch_global_ = 0, fetch_large_ = 0;
    bool any_global_ = false;  ///< whether anything global may be here
    LargeRegions large_data_, large_code_;  ///< where large-derived read and write entries, fetch entries and jumps may be
};

}  // namespace vg::mmu
