#include "mmu/slat.h"

#include <algorithm>

#include "base/assert.h"
#include "base/bits.h"
#include "mmu/spec/ept.h"
#include "mmu/spec/paging.h"
#include "mmu/table_access.h"

namespace vg::mmu {
namespace {

constexpr u64 address_mask(u8 physical_bits) { return low_mask(physical_bits) & ~kPageMask; }

/// Reserved bits of a leaf's address field: a large page must be aligned.
constexpr u64 leaf_low_bits(unsigned level) { return low_mask(12 + 9 * level) & ~low_mask(12); }

/// One walk's view of a table format.
struct EntryView {
    bool present = false, misconfigured = false, leaf = false;
    u8 permissions = 0;
};

/// SDM 3C "EPT Misconfigurations".
EntryView view_ept(u64 entry, unsigned level, const SlatMode& slat) {
    const u8 physical_bits = slat.physical_bits;
    EntryView view;
    view.permissions = static_cast<u8>(entry & slat_right::kAll);
    if (slat.user_execute && (entry & ept::kUserExecute) != 0) view.permissions |= slat_right::kUserExecute;
    view.present = view.permissions != 0;
    if (!view.present) return view;
    view.leaf = level == 0 || (level <= 2 && (entry & ept::kLarge) != 0);
    u64 reserved = low_mask(52) & ~low_mask(physical_bits);
    if (view.leaf) {
        reserved |= leaf_low_bits(level);
        const u64 type = bits(entry, ept::kMemoryTypeHigh, ept::kMemoryTypeLow);
        if (type == 2 || type == 3 || type == 7) view.misconfigured = true;
    } else {
        reserved |= level == 3 ? 0xf8 : 0x78;
    }
    const bool write_only = (entry & (ept::kRead | ept::kWrite)) == ept::kWrite;
    view.misconfigured = view.misconfigured || write_only || (entry & reserved) != 0;
    return view;
}

/// AMD APM 2 "Nested Paging": every guest access is a user access, so of the host's registers EFER.NXE alone decides.
EntryView view_npt(u64 entry, unsigned level, const SlatMode& slat) {
    EntryView view;
    view.present = (entry & pte::kPresent) != 0;
    if (!view.present) return view;
    view.leaf = level == 0 || (level <= 2 && (entry & pte::kLarge) != 0);
    u64 reserved = low_mask(52) & ~low_mask(slat.physical_bits);
    if (!slat.no_execute) reserved |= pte::kNoExecute;
    if (level == 3) reserved |= pte::kLarge | pte::kGlobal;  // bits 8:7 of a PML4 entry must be 0
    if (view.leaf && level > 0) reserved |= leaf_low_bits(level) & ~(u64{1} << 12);  // bit 12 is PAT
    view.misconfigured = (entry & reserved) != 0;
    if ((entry & pte::kUser) == 0) return view;  // no right at all, but present
    view.permissions = slat_right::kRead;
    if ((entry & pte::kWrite) != 0) view.permissions |= slat_right::kWrite;
    if ((entry & pte::kNoExecute) == 0) view.permissions |= slat_right::kExecute;
    return view;
}

/// An entry as it was read, and where it can be changed.
struct Slot {
    u64 spa = 0, value = 0;
    bool writable = true;  ///< the level below lets it be
};

/// One attempt at a walk; what its steps share.
class SlatWalk {
  public:
    SlatWalk(PhysicalMemory& memory, const SlatMode& slat, u64 gpa, Access access, SlatCache* cache, u8 needs)
        : memory_(memory), slat_(slat), gpa_(gpa), access_(access), cache_(cache), needs_(needs) {}

    /// Finds the page. False: `result` says why not.
    bool descend(SlatResult& result);
    /// Sets accessed and dirty bits. False: an entry changed meanwhile, or there is no room to log the page.
    bool mark(SlatResult& result, bool& retry);
    /// Whether the page's entry had its dirty bit set.
    [[nodiscard]] bool written(u64 dirty) const { return (slots_[used_ - 1].value & dirty) != 0; }
    /// Sends the page through the level below.
    void compose(SlatResult& result, bool touch);

  private:
    [[nodiscard]] bool npt() const { return slat_.kind == SlatMode::Kind::Npt; }
    [[nodiscard]] Slot load(u64 at);

    PhysicalMemory& memory_;
    const SlatMode& slat_;
    const u64 gpa_;
    const Access access_;
    SlatCache* const cache_;
    const u8 needs_;
    Slot slots_[4];
    unsigned used_ = 0;
};

/// An entry of a table that the level below withholds reads as all-ones, like one outside memory.
Slot SlatWalk::load(u64 at) {
    if (slat_.below == 0) return {at, load_entry<u64>(memory_, at)};
    const SlatResult where = slat_walk(memory_, slat_below(slat_), at, Access::Read, true, cache_);
    if (!where.ok) return {0, ~u64{0}, false};
    return {where.spa, load_entry<u64>(memory_, where.spa), (where.permissions & slat_right::kWrite) != 0};
}

bool SlatWalk::descend(SlatResult& result) {
    if ((gpa_ >> 48) != 0) return false;
    u64 table = slat_.root & address_mask(slat_.physical_bits);
    u8 permissions = slat_right::kAll | slat_right::kUserExecute;
    for (unsigned level = 3;; --level) {
        const Slot slot = load(table + ((gpa_ >> (12 + 9 * level)) & 511) * 8);
        const EntryView view = npt() ? view_npt(slot.value, level, slat_) : view_ept(slot.value, level, slat_);
        result.convertible = !npt() && (slot.value & ept::kSuppressException) == 0;
        if (!view.present) return false;
        if (view.misconfigured) {
            result.misconfigured = result.present = true;
            return false;
        }
        permissions &= view.permissions;
        slots_[used_++] = slot;
        const u64 base = slot.value & address_mask(slat_.physical_bits);
        if (!view.leaf) {
            table = base;
            continue;
        }
        result.page_bits = static_cast<u8>(12 + 9 * level);
        const u64 offset_mask = low_mask(result.page_bits);
        result.spa = (base & ~offset_mask) | (gpa_ & offset_mask);
        break;
    }
    result.present = true;
    result.permissions = result.cacheable = permissions;
    result.ok = (permissions & needs_) != 0;
    return result.ok;
}

bool SlatWalk::mark(SlatResult& result, bool& retry) {
    const u64 accessed = npt() ? pte::kAccessed : ept::kAccessed, dirty = npt() ? pte::kDirty : ept::kDirty;
    const Slot& last = slots_[used_ - 1];
    const bool logs = slat_.log != nullptr && access_ == Access::Write && (last.value & dirty) == 0;
    if (logs && slat_.log->full()) {
        result.ok = false;
        result.log_full = true;
        return false;
    }
    for (unsigned i = 0; i < used_; ++i) {
        const u64 bits = accessed | (i + 1 == used_ && access_ == Access::Write ? dirty : 0);
        if (!slots_[i].writable) continue;
        if (!set_entry_bits(memory_, slots_[i].spa, slots_[i].value, bits, 8)) {
            retry = true;
            result.ok = false;
            return false;
        }
    }
    if (logs) {
        const u64 page = gpa_ & ~kPageMask;
        memory_.write(Spa(slat_.log->spa + 8 * u64{slat_.log->index}), &page, sizeof page);
        --slat_.log->index;  // below 0: full
    }
    return true;
}

void SlatWalk::compose(SlatResult& result, bool touch) {
    const SlatResult where = slat_walk(memory_, slat_below(slat_), result.spa, access_, touch, cache_);
    if (!where.ok) {
        result.ok = false;
        result.below = true;
        return;
    }
    result.spa = where.spa;
    result.page_bits = std::min(result.page_bits, where.page_bits);
    result.cacheable &= where.cacheable | slat_right::kUserExecute;
    if ((where.cacheable & slat_right::kExecute) == 0) result.cacheable &= static_cast<u8>(~slat_right::kUserExecute);
}

/// One attempt. `retry` is set if an accessed or dirty bit could not be set because the entry changed.
SlatResult walk_once(PhysicalMemory& memory, const SlatMode& slat, u64 gpa, Access access, bool touch, SlatCache* cache,
                     bool user_page, bool& retry) {
    SlatResult result;
    SlatWalk walk(memory, slat, gpa, access, cache, slat_needs(slat, access, user_page));
    if (slat.kind == SlatMode::Kind::None) {
        result = {.ok = true, .present = true, .permissions = slat_right::kAll, .cacheable = slat_right::kAll, .page_bits = 48, .spa = gpa};
    } else {
        if (!walk.descend(result)) return result;
        const bool npt = slat.kind == SlatMode::Kind::Npt;
        if (npt || slat.accessed_dirty) {
            if (touch && !walk.mark(result, retry)) return result;
            if (access != Access::Write && !walk.written(npt ? pte::kDirty : ept::kDirty))
                result.cacheable &= static_cast<u8>(~slat_right::kWrite);
        }
    }
    if (slat.below != 0) walk.compose(result, touch);
    return result;
}

}  // namespace

u64 SlatCache::generation_of(const SlatMode& slat) {
    if (modes_[current_].generation != 0 && modes_[current_].slat == slat) return modes_[current_].generation;
    for (u32 i = 0; i < kModes; ++i) {
        if (modes_[i].generation != 0 && modes_[i].slat == slat) {
            current_ = i;
            return modes_[i].generation;
        }
    }
    victim_ = (victim_ + 1) % kModes;
    current_ = victim_;
    modes_[current_] = {slat, next_generation_++};
    return modes_[current_].generation;
}

const SlatResult* SlatCache::find(const SlatMode& slat, u64 gpa, u8 needs) {
    const u64 generation = generation_of(slat);
    const u64 mask[2] = {low_mask(21), kPageMask};
    const Entry* const entries[2] = {&large_[(gpa >> 21) % kLarge], &small_[(gpa >> 12) % kSmall]};
    for (unsigned i = 0; i < 2; ++i) {
        const Entry& e = *entries[i];
        if (e.tag != ((gpa & ~mask[i]) | 1) || e.generation != generation) continue;
        if ((e.cacheable & needs) == 0) continue;
        hit_.ok = true;
        hit_.permissions = e.permissions;
        hit_.cacheable = e.cacheable;
        hit_.page_bits = i == 0 ? 21 : 12;
        hit_.spa = e.spa | (gpa & mask[i]);
        return &hit_;
    }
    return nullptr;
}

void SlatCache::insert(const SlatMode& slat, u64 gpa, const SlatResult& result) {
    const bool large = result.page_bits >= 21;  // 1 GiB pages are kept in 2 MiB pieces
    const u64 mask = large ? low_mask(21) : kPageMask;
    Entry& e = large ? large_[(gpa >> 21) % kLarge] : small_[(gpa >> 12) % kSmall];
    e = {(gpa & ~mask) | 1, generation_of(slat), result.spa & ~mask, result.permissions, result.cacheable};
}

void SlatCache::clear(u64 root) {
    for (Mode& mode : modes_) {
        const bool own = ((mode.slat.root ^ root) & ~kPageMask) == 0;
        const bool below = mode.slat.below != 0 && ((mode.slat.below ^ root) & ~kPageMask) == 0;
        if (root == 0 || own || below) mode.generation = next_generation_++;
    }
}

SlatResult slat_walk(PhysicalMemory& memory, const SlatMode& slat, u64 gpa, Access access, bool touch,
                     SlatCache* cache, bool user_page) {
    if (slat.kind == SlatMode::Kind::None && slat.below == 0) {
        return {.ok = true, .present = true, .permissions = slat_right::kAll, .cacheable = slat_right::kAll, .page_bits = 48, .spa = gpa};
    }
    if (cache != nullptr) {
        if (const SlatResult* hit = cache->find(slat, gpa, slat_needs(slat, access, user_page))) return *hit;
    }
    SlatResult result;
    for (unsigned attempt = 0; attempt < kWalkRetries; ++attempt) {
        bool retry = false;
        result = walk_once(memory, slat, gpa, access, touch, cache, user_page, retry);
        if (!retry) break;
    }
    if (cache == nullptr || !touch || !result.ok) return result;
    SlatResult kept = result;
    // Whoever logs pages clears dirty bits to hear of the next write: the right to write is not kept here, behind flushes of
    // the linear mappings that such writes come through.
    if (slat.log != nullptr) kept.cacheable &= static_cast<u8>(~slat_right::kWrite);
    cache->insert(slat, gpa, kept);
    return result;
}

}  // namespace vg::mmu
