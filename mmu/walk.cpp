#include "mmu/walk.h"

#include <algorithm>

#include "base/assert.h"
#include "base/bits.h"
#include "mmu/leaf.h"
#include "mmu/spec/paging.h"
#include "mmu/table_access.h"

namespace vg::mmu {
namespace {

constexpr u64 kAddressField = low_mask(52) & ~kPageMask;

/// The error code bits that describe the access itself. SDM 3A "Page-Fault Exceptions": the I/D flag is only used
/// with SMEP, or with NXE in the formats that have an XD bit.
u32 access_bits(const PagingMode& mode, Access access, bool user) {
    u32 code = user ? pf::kUser : 0;
    if (access == Access::Write) code |= pf::kWrite;
    const bool has_xd = mode.nxe && mode.kind != PagingKind::Bits32;
    if (access == Access::Fetch && (mode.smep || has_xd)) code |= pf::kFetch;
    return code;
}

/// True if PKRU denies a data access to a user-mode address. Write-disable binds supervisors only with CR0.WP.
bool pkey_denies(const PagingMode& mode, const Leaf& leaf, Access access, bool user) {
    if (!mode.pke || mode.kind != PagingKind::Level4 || !leaf.user || access == Access::Fetch) return false;
    const u32 rights = (mode.pkru >> (2 * leaf.pkey)) & 3;
    const bool access_disable = (rights & 1) != 0, write_disable = (rights & 2) != 0;
    return access_disable || (write_disable && access == Access::Write && (user || mode.wp));
}

bool denied(const PagingMode& mode, const Leaf& leaf, Access access, bool user, bool ac) {
    if (user && !leaf.user) return true;
    switch (access) {
        case Access::Fetch: return !leaf.execute || (!user && leaf.user && mode.smep);
        case Access::Write:
            if (!leaf.write && (user || mode.wp)) return true;
            break;
        case Access::Read: break;
    }
    return !user && leaf.user && mode.smap && !ac;
}

/// Reserved bits of a present entry at `level` (0: the last). SDM 3A "Paging", the figures of entry formats.
u64 reserved_bits(const PagingMode& mode, unsigned level, bool large) {
    if (mode.kind == PagingKind::Bits32) {
        if (!large) return 0;
        // PSE-36: bits 20:13 carry address bits 39:32, as far as the processor has them; bit 21 is reserved.
        const unsigned width = std::clamp<unsigned>(mode.physical_bits, 32, 40);
        return low_mask(22) & ~low_mask(width - 19);
    }
    u64 mask = low_mask(52) & ~low_mask(mode.physical_bits);
    if (!mode.nxe) mask |= pte::kNoExecute;
    if (mode.kind == PagingKind::Pae) mask |= low_mask(63) & ~low_mask(52);
    if (level == 3 || (level == 2 && !mode.gib_pages)) mask |= pte::kLarge;
    if (large) mask |= low_mask(12 + 9 * level) & ~low_mask(13);  // bit 12 is PAT
    return mask;
}

bool is_large(const PagingMode& mode, unsigned level, u64 entry) {
    if ((entry & pte::kLarge) == 0) return false;
    switch (mode.kind) {
        case PagingKind::Bits32: return level == 1 && mode.pse;
        case PagingKind::Pae: return level == 1;
        case PagingKind::Level4: return level == 1 || (level == 2 && mode.gib_pages);
        case PagingKind::None: break;
    }
    return false;
}

/// Physical address and size of the page that a leaf entry maps.
u64 leaf_address(const PagingMode& mode, unsigned level, u64 entry, u8& page_bits) {
    if (mode.kind == PagingKind::Bits32) {
        page_bits = level == 0 ? 12 : 22;
        if (level == 0) return entry & 0xfffff000;
        return (entry & 0xffc00000) | (bits(entry, 20, 13) << 32);
    }
    page_bits = static_cast<u8>(12 + 9 * level);
    return entry & kAddressField & ~low_mask(page_bits);
}

/// One walk of the guest's tables; the state that its steps share.
class GuestWalk {
  public:
    GuestWalk(PhysicalMemory& memory, const PagingMode& mode, const SlatMode& slat, u64 gva, Access access, bool user,
              bool touch, SlatCache* cache)
        : memory_(memory), mode_(mode), slat_(slat), gva_(gva), access_(access), user_(user), touch_(touch), cache_(cache) {}

    /// Fills `leaf` from the guest's tables (not yet its spa). False: `out` has the fault.
    bool descend(Leaf& leaf, Translation& out);
    /// Sends the page through the second level.
    bool finish(Leaf& leaf, Translation& out);
    /// Sets accessed bits on the path and the dirty bit of a written leaf. `retry`: an entry changed meanwhile.
    bool mark(Leaf& leaf, Translation& out, bool& retry);

  private:
    struct Slot {
        u64 gpa, spa, value;
    };
    bool through_slat(u64 gpa, Access access, bool during_walk, SlatResult& result, Translation& out, bool user_page = false);
    void fault(Translation& out, u32 extra) const {
        out.status = Translation::Status::Fault;
        out.fault.error_code = access_bits(mode_, access_, user_) | extra;
    }
    [[nodiscard]] u64 load(const SlatResult& where) const;
    [[nodiscard]] unsigned entry_size() const { return mode_.kind == PagingKind::Bits32 ? 4 : 8; }

    PhysicalMemory& memory_;
    const PagingMode& mode_;
    const SlatMode& slat_;
    u64 gva_;
    Access access_;
    bool user_, touch_;
    SlatCache* cache_;
    Slot slots_[4];
    unsigned used_ = 0;
};

bool GuestWalk::through_slat(u64 gpa, Access access, bool during_walk, SlatResult& result, Translation& out, bool user_page) {
    result = slat_walk(memory_, slat_, gpa, access, touch_, cache_, user_page);
    if (result.ok) [[likely]] return true;
    out.status = Translation::Status::SlatFault;
    out.slat_fault = result.fault(gpa, access, during_walk);
    out.gpa = out.slat_fault.gpa;
    return false;
}

bool GuestWalk::descend(Leaf& leaf, Translation& out) {
    unsigned level = 1, index_bits = 9;
    u64 table = 0;
    switch (mode_.kind) {
        case PagingKind::None:
            leaf.gpa = gva_ & ~kPageMask;
            leaf.user = leaf.write = leaf.execute = leaf.dirty = true;
            return true;
        case PagingKind::Bits32:
            index_bits = 10;
            table = mode_.cr3 & 0xfffff000;
            break;
        case PagingKind::Pae: {
            const u64 pdpte = mode_.pdpte[(gva_ >> 30) & 3];
            if ((pdpte & pte::kPresent) == 0) return fault(out, 0), false;
            table = pdpte & kAddressField & low_mask(mode_.physical_bits);
            break;
        }
        case PagingKind::Level4:
            level = 3;
            table = mode_.cr3 & kAddressField & low_mask(mode_.physical_bits);
            break;
    }

    leaf.user = leaf.write = leaf.execute = true;
    for (;; --level) {
        const u64 gpa = table + ((gva_ >> (12 + index_bits * level)) & low_mask(index_bits)) * entry_size();
        SlatResult where;
        if (!through_slat(gpa, slat_walk_access(slat_), true, where, out) && !where.below) return false;
        const u64 entry = load(where);
        if ((entry & pte::kPresent) == 0) return fault(out, 0), false;
        const bool large = is_large(mode_, level, entry);
        if ((entry & reserved_bits(mode_, level, large)) != 0) return fault(out, pf::kPresent | pf::kReserved), false;
        slots_[used_++] = {gpa, where.spa, entry};
        leaf.user = leaf.user && (entry & pte::kUser) != 0;
        leaf.write = leaf.write && (entry & pte::kWrite) != 0;
        leaf.execute = leaf.execute && (entry_size() == 4 || (entry & pte::kNoExecute) == 0);
        if (level != 0 && !large) {
            table = entry & (entry_size() == 4 ? 0xfffff000 : kAddressField);
            continue;
        }
        leaf.gpa = leaf_address(mode_, level, entry, leaf.guest_bits);
        leaf.page_bits = leaf.guest_bits;
        leaf.global = mode_.pge && (entry & pte::kGlobal) != 0;
        leaf.dirty = (entry & pte::kDirty) != 0;
        if (mode_.kind == PagingKind::Level4) leaf.pkey = static_cast<u8>(bits(entry, pte::kPkeyHigh, pte::kPkeyLow));
        return true;
    }
}

bool GuestWalk::finish(Leaf& leaf, Translation& out) {
    const u64 gpa = leaf.gpa | (gva_ & low_mask(leaf.guest_bits));
    SlatResult where;
    if (!through_slat(gpa, access_, false, where, out, leaf.user)) return false;
    leaf.page_bits = std::min(leaf.guest_bits, where.page_bits);
    leaf.gpa = gpa & ~low_mask(leaf.page_bits);
    leaf.spa = where.spa & ~low_mask(leaf.page_bits);
    leaf.slat = slat_rights_of(slat_, where.cacheable, leaf.user);
    return true;
}

bool GuestWalk::mark(Leaf& leaf, Translation& out, bool& retry) {
    for (unsigned i = 0; i < used_; ++i) {
        const bool last = i + 1 == used_;
        const u64 mark = pte::kAccessed | (last && access_ == Access::Write ? pte::kDirty : 0);
        Slot& slot = slots_[i];
        if ((slot.value & mark) == mark) continue;
        SlatResult where;
        if (!through_slat(slot.gpa, Access::Write, true, where, out)) {
            if (where.below) continue;
            return false;
        }
        if (!set_entry_bits(memory_, where.spa, slot.value, mark, entry_size())) {
            retry = true;
            return true;
        }
    }
    if (access_ == Access::Write) leaf.dirty = true;
    return true;
}

/// An entry where the second level found it. What a level below that withholds is not there: all-ones, as outside memory.
u64 GuestWalk::load(const SlatResult& where) const {
    if (!where.ok) return entry_size() == 4 ? u64{0xffffffff} : ~u64{0};
    return entry_size() == 4 ? load_entry<u32>(memory_, where.spa) : load_entry<u64>(memory_, where.spa);
}

}  // namespace

u32 violation(const PagingMode& mode, const Leaf& leaf, Access access, bool user, bool ac) {
    if (mode.kind == PagingKind::None) return 0;
    const bool pkey = pkey_denies(mode, leaf, access, user);
    if (!pkey && !denied(mode, leaf, access, user, ac)) [[likely]] return 0;
    return access_bits(mode, access, user) | pf::kPresent | (pkey ? pf::kPkey : 0);
}

Translation translation_of(const Leaf& leaf, u64 gva, u8 rights) {
    const u64 offset = gva & low_mask(leaf.page_bits);
    Translation t;
    t.gpa = Gpa(leaf.gpa | offset);
    t.spa = Spa(leaf.spa | offset);
    t.page_bits = leaf.page_bits;
    t.global = leaf.global;
    t.readable = (rights & slat_right::kRead) != 0;
    t.writable = (rights & slat_right::kWrite) != 0;
    t.executable = (rights & slat_right::kExecute) != 0;
    return t;
}

Translation walk_leaf(PhysicalMemory& memory, const PagingMode& mode, const SlatMode& slat, Gva gva, Access access,
                      bool user, bool ac, bool touch, SlatCache* cache, Leaf& leaf) {
    Translation out;
    for (unsigned attempt = 0; attempt < kWalkRetries; ++attempt) {
        leaf = {};
        GuestWalk walk(memory, mode, slat, gva.value, access, user, touch, cache);
        if (!walk.descend(leaf, out)) return out;
        if (const u32 code = violation(mode, leaf, access, user, ac)) {
            out.status = Translation::Status::Fault;
            out.fault.error_code = code;
            return out;
        }
        if (!walk.finish(leaf, out)) return out;
        bool retry = false;
        if (touch && !walk.mark(leaf, out, retry)) return out;
        if (!retry) return translation_of(leaf, gva.value, rights_of(mode, leaf, user, ac));
    }
    // Somebody keeps rewriting the entry; a page fault is what a processor may answer while it is in flux.
    out.status = Translation::Status::Fault;
    out.fault.error_code = access_bits(mode, access, user);
    return out;
}

Translation translate_gpa(PhysicalMemory& memory, const SlatMode& slat, Gpa gpa, Access access, bool during_walk) {
    const SlatResult result = slat_walk(memory, slat, gpa.value, access, true, nullptr);
    Translation t;
    t.gpa = gpa;
    if (!result.ok) {
        t.status = Translation::Status::SlatFault;
        t.slat_fault = result.fault(gpa.value, access, during_walk);
        return t;
    }
    t.spa = Spa(result.spa);
    t.page_bits = result.page_bits;
    t.readable = (result.cacheable & slat_right::kRead) != 0;
    t.writable = (result.cacheable & slat_right::kWrite) != 0;
    t.executable = (result.cacheable & slat_right::kExecute) != 0;
    return t;
}

Translation walk(PhysicalMemory& memory, const PagingMode& mode, const SlatMode& slat, Gva gva, Access access, bool user,
                 bool ac) {
    Leaf leaf;
    return walk_leaf(memory, mode, slat, gva, access, user, ac, true, nullptr, leaf);
}

Translation peek_walk(PhysicalMemory& memory, const PagingMode& mode, const SlatMode& slat, Gva gva, Access access,
                      bool user) {
    Leaf leaf;
    // A debugger is not stopped by SMAP.
    return walk_leaf(memory, mode, slat, gva, access, user, true, false, nullptr, leaf);
}

bool load_pdptes(PhysicalMemory& memory, const SlatMode& slat, u64 cr3, u8 physical_bits, u64 out[4],
                 std::optional<SlatFault>* refused) {
    const u64 table = cr3 & 0xffffffe0;
    const Access access = slat_walk_access(slat);
    const SlatResult where = slat_walk(memory, slat, table, access, true, nullptr);
    if (!where.ok && refused != nullptr)
        *refused = where.fault(table, access, true);
    if (!where.ok || memory.readable(Spa(where.spa)) == nullptr) return false;
    const u64 reserved = reserved_pdpte_bits(physical_bits);
    u64 loaded[4];
    for (unsigned i = 0; i < 4; ++i) {
        loaded[i] = load_entry<u64>(memory, where.spa + 8 * i);
        if ((loaded[i] & pte::kPresent) != 0 && (loaded[i] & reserved) != 0) return false;
    }
    std::copy(std::begin(loaded), std::end(loaded), out);
    return true;
}

}  // namespace vg::mmu
