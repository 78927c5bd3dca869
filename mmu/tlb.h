// The software TLB of one VP: banks per address space and privilege, filled by page walks.
#pragma once

#include <memory>
#include <vector>

#include "base/types.h"
#include "mmu/bank.h"
#include "mmu/physical_memory.h"
#include "mmu/walk.h"

namespace vg::mmu {

/// Which permissions an access is checked against. Decides, with PagingMode and SlatMode, which bank is current.
enum class Privilege : u8 {
    Supervisor,    ///< CPL 0-2, SMAP in force if enabled
    SupervisorAc,  ///< CPL 0-2 with EFLAGS.AC set: SMAP does not apply
    User           ///< CPL 3
};

struct TlbStats {
    u64 read_fills = 0, write_fills = 0, fetch_walks = 0;
    u64 walk_cache_hits = 0, victim_hits = 0;  ///< victim_hits: found in their second place, by C++
    u64 flushes_all = 0, flushes_context = 0, flushes_page = 0, bank_switches = 0, bank_evictions = 0;
};

/// Single-threaded: belongs to the thread of its VP. Cached translations may be stale exactly as far as the
/// architecture allows; whoever executes MOV CR, INVLPG, INVPCID, WRMSR EFER... calls the matching flush.
class Tlb final : public TlbObserver {
  public:
    /// @param state_page  memfd and offset of the VP's 4 KiB state page, aliased below every bank.
    Tlb(PhysicalMemory& memory, int state_fd, u64 state_offset);
    ~Tlb() override;
    Tlb(const Tlb&) = delete;
    Tlb& operator=(const Tlb&) = delete;

    /// Makes the bank for this combination current (creating or recycling one). Call after anything that changes
    /// the mode, CPL, AC-with-SMAP or the second level; costs little when nothing changed.
    /// A mode whose cr3 differs only in address (CR4.PCIDE=0) is a new context: MOV CR3 must also call flush_nonglobal.
    void set_context(const PagingMode& mode, const SlatMode& slat, Privilege privilege);
    /// The same when only the privilege changed (SYSCALL, IRET, STAC): a pointer load in the common case.
    void set_privilege(Privilege privilege);
    /// In whose addresses the xAPIC page is: a guest-physical one, or behind the second level.
    enum class ApicSpace : u8 { Guest, System };
    /// A page that is never accessed directly although RAM may lie there: the xAPIC page (kNoPage: none).
    void set_apic_page(Gpa page, ApicSpace space = ApicSpace::Guest);
    static constexpr Gpa kNoPage{~u64{0}};
    [[nodiscard]] bool is_apic_page(Gpa page, ApicSpace space) const {
        return space == apic_space_ && page.page_base() == apic_page_;
    }
    [[nodiscard]] bool is_apic_page(const Translation& t) const {
        // With a level below, the guest-physical space of t.gpa is another: there the page is found as one that is withheld.
        if (apic_space_ == ApicSpace::Guest) return slat_.below == 0 && t.gpa.page_base().value == apic_page_.value;
        return t.spa.page_base().value == apic_page_.value;
    }
    /// The same for the page that stands for the APIC of guests whose SlatMode says so. Accesses to it are told apart by
    /// whoever makes them.
    void set_apic_access_page(Spa page);
    [[nodiscard]] Spa apic_access_page() const { return slat_.apic_access ? apic_access_page_ : Spa(~u64{0}); }

    /// Base register value of the current bank: start of its BankTables.
    [[nodiscard]] BankTables* bank() const { return current_; }
    [[nodiscard]] const PagingMode& mode() const { return mode_; }
    [[nodiscard]] const SlatMode& slat() const { return slat_; }
    [[nodiscard]] Privilege privilege() const { return privilege_; }

    /// Hit test of the inline tables: host address of the byte, or nullptr. [gva, gva+size) must lie in one page.
    [[nodiscard]] u8* find_read(u64 gva) const {
        const TlbEntry& e = current_->read[tlb_index(gva)];
        return e.tag == (gva & ~kPageMask) ? reinterpret_cast<u8*>(gva + e.addend) : nullptr;
    }
    [[nodiscard]] u8* find_write(u64 gva) const {
        const TlbEntry& e = current_->write[tlb_index(gva)];
        return e.tag == (gva & ~kPageMask) ? reinterpret_cast<u8*>(gva + e.addend) : nullptr;
    }

    /// Walks for one access within one page (canonical address) and, where allowed, fills the inline entry.
    /// On success says where the page is; `host` is set if the access may be done directly.
    struct Mapping {
        Translation translation;
        u8* host = nullptr;  ///< host address of the byte: RAM (ROM for reads and fetches) and direct access allowed
    };
    /// @param privilege  usually privilege(); an implicit supervisor access (descriptor tables, TSS) passes
    ///                   Supervisor and then fills nothing in the current bank if that differs.
    [[nodiscard]] Mapping resolve(u64 gva, Access access, Privilege privilege);

    /// Whether resolve, for the current privilege, might have to walk the tables, which sets bits in them.
    [[nodiscard]] bool may_walk(u64 gva, Access access) const;

    /// Instruction fetch translation of the current context: cached in its own structure.
    [[nodiscard]] Mapping resolve_fetch(u64 gva) { return resolve(gva, Access::Fetch, privilege_); }

    // A flush by the guest's own instructions concerns its own tag (SlatMode::tag) only, whatever its second-level root.
    /// Everything, global entries too, all contexts of all tags.
    void flush_all();
    /// The same for one tag: the current one (CR0.PG, CR4.PGE/PAE/SMEP..., EFER.NXE, PCIDE changes), or another.
    void flush_tag() { flush_tag(slat_.tag, true); }
    void flush_tag(u16 tag, bool with_global);
    /// All tags but 0.
    void flush_tags();
    /// One address, in all address spaces of a tag.
    void flush_page_tag(u64 gva, u16 tag);
    /// MOV CR3 with bit 63 clear: all non-global entries of this PCID (of every context when PCIDE=0).
    void flush_nonglobal(u16 pcid);
    /// INVLPG: the page in the current PCID, and global entries in all.
    void flush_page(u64 gva);
    /// INVPCID type 0: one address in one PCID, non-global.
    void flush_page_pcid(u64 gva, u16 pcid);
    /// INVPCID types 1 (one PCID, non-global), 2 (all with global), 3 (all non-global).
    void flush_pcid(u16 pcid);
    void flush_all_nonglobal();
    /// INVEPT and hv map changes: everything derived from this second-level root (0: any), on the level below too.
    void flush_slat(u64 root);
    /// The protection-key register changed; set_context with the new value must come too, before or after.
    void pkru_changed();

    void drop_write_entries(Spa page) override;
    void drop_read_entries(Spa page) override;
    void drop_all() override { flush_all(); }

    /// Records in the current bank that linear address `rip` is translated code at host address `host`. The jump
    /// cache must be written only through here: flushes rely on knowing which entries are in use.
    /// @param global  its page is: the entry outlives flushes of the address space
    void fill_jump(u64 rip, u64 host, bool global);
    /// The same for entry `slot` of the current bank's edge table, looked up by `key`.
    void fill_edge(u32 slot, u64 key, const Edge& edge);
    /// Emitted code asks for entries below `count` of the edge table, whichever bank is current. Call before it runs.
    void reserve_edges(u32 count);
    /// The same for the first `count` memos of each kind (at most kMemoEntries). Emitted code fills them.
    void reserve_memos(u32 count);
    /// The current bank's jump cache is emptied (its entries are for another mode).
    void clear_jump_cache();
    /// The jump cache of every bank is emptied (code was invalidated or moved).
    void clear_jump_caches();

    /// Gives memory back to the host that caches of translated code took, all of which are emptied, and what of the others
    /// is empty. Nothing is asked for any more that reserve_edges and reserve_memos were told.
    void release_memory();

    /// For tests: only this many inline entries are ever filled (0..kTlbEntries); exactness must not depend on it.
    void set_stress_entries(u32 entries);
    /// Grows whenever an earlier answer may have become stale: flushes, dropped entries, another bank.
    [[nodiscard]] u64 changes() const { return changes_; }
    [[nodiscard]] const TlbStats& stats() const { return stats_; }

  private:
    struct Impl;
    void activate();
    BankTables* current_ = nullptr;
    PagingMode mode_;
    SlatMode slat_;
    Privilege privilege_ = Privilege::Supervisor;
    TlbStats stats_;
    u64 changes_ = 0;
    Gpa apic_page_ = kNoPage;
    ApicSpace apic_space_ = ApicSpace::Guest;
    Spa apic_access_page_{~u64{0}};
    std::unique_ptr<Impl> impl_;
};

}  // namespace vg::mmu
