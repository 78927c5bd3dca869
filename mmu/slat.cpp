#include "mmu/slat.h"

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
EntryView view_ept(u64 entry, unsigned level, u8 physical_bits) {
    EntryView view;
    view.permissions = static_cast<u8>(entry & slat_right::kAll);
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

/// AMD APM 2 "Nested Paging": every guest access is a user access; EFER.NXE of the host counts as set.
EntryView view_npt(u64 entry, unsigned level, u8 physical_bits) {
    EntryView view;
    view.present = (entry & pte::kPresent) != 0;
    if (!view.present) return view;
    view.leaf = level == 0 || (level <= 2 && (entry & pte::kLarge) != 0);
    u64 reserved = low_mask(52) & ~low_mask(physical_bits);
    if (level == 3) reserved |= pte::kLarge;
    if (view.leaf && level > 0) reserved |= leaf_low_bits(level) & ~(u64{1} << 12);  // bit 12 is PAT
    view.misconfigured = (entry & reserved) != 0;
    if ((entry & pte::kUser) == 0) return view;  // no right at all, but present
    view.permissions = slat_right::kRead;
    if ((entry & pte::kWrite) != 0) view.permissions |= slat_right::kWrite;
    if ((entry & pte::kNoExecute) == 0) view.permissions |= slat_right::kExecute;
    return view;
}

struct Slot {
    u64 spa, value;
};

/// One attempt. `retry` is set if an accessed or dirty bit could not be set because the entry changed.
SlatResult walk_once(PhysicalMemory& memory, const SlatMode& slat, u64 gpa, Access access, bool touch, bool& retry) {
    const bool npt = slat.kind == SlatMode::Kind::Npt;
    const bool marks = npt || slat.accessed_dirty;
    const u64 accessed = npt ? pte::kAccessed : ept::kAccessed;
    const u64 dirty = npt ? pte::kDirty : ept::kDirty;
    SlatResult result;
    if ((gpa >> 48) != 0) return result;

    Slot slots[4];
    unsigned used = 0;
    u64 table = slat.root & address_mask(slat.physical_bits);
    u8 permissions = slat_right::kAll;
    for (unsigned level = 3;; --level) {
        const u64 at = table + ((gpa >> (12 + 9 * level)) & 511) * 8;
        const u64 entry = load_entry<u64>(memory, at);
        const EntryView view = npt ? view_npt(entry, level, slat.physical_bits) : view_ept(entry, level, slat.physical_bits);
        if (!view.present) return result;
        if (view.misconfigured) {
            result.misconfigured = result.present = true;
            return result;
        }
        permissions &= view.permissions;
        slots[used++] = {at, entry};
        const u64 base = entry & address_mask(slat.physical_bits);
        if (!view.leaf) {
            table = base;
            continue;
        }
        result.page_bits = static_cast<u8>(12 + 9 * level);
        const u64 offset_mask = low_mask(result.page_bits);
        result.spa = (base & ~offset_mask) | (gpa & offset_mask);
        break;
    }
    result.present = true;
    result.permissions = permissions;
    result.cacheable = permissions;
    if ((permissions & slat_needs(access)) == 0) return result;
    result.ok = true;
    if (!marks) return result;

    for (unsigned i = 0; i < used && touch; ++i) {
        const bool leaf = i + 1 == used;
        const u64 mark = accessed | (leaf && access == Access::Write ? dirty : 0);
        if (!set_entry_bits(memory, slots[i].spa, slots[i].value, mark, 8)) retry = true;
    }
    const bool is_dirty = access == Access::Write || (slots[used - 1].value & dirty) != 0;
    if (!is_dirty) result.cacheable &= static_cast<u8>(~slat_right::kWrite);
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

const SlatResult* SlatCache::find(const SlatMode& slat, u64 gpa, Access access) {
    const u64 generation = generation_of(slat);
    const u64 mask[2] = {low_mask(21), kPageMask};
    const Entry* const entries[2] = {&large_[(gpa >> 21) % kLarge], &small_[(gpa >> 12) % kSmall]};
    for (unsigned i = 0; i < 2; ++i) {
        const Entry& e = *entries[i];
        if (e.tag != ((gpa & ~mask[i]) | 1) || e.generation != generation) continue;
        if ((e.cacheable & slat_needs(access)) == 0) continue;
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
        if (root == 0 || ((mode.slat.root ^ root) & ~kPageMask) == 0) mode.generation = next_generation_++;
    }
}

SlatResult slat_walk(PhysicalMemory& memory, const SlatMode& slat, u64 gpa, Access access, bool touch,
                     SlatCache* cache) {
    if (slat.kind == SlatMode::Kind::None) {
        return {.ok = true, .present = true, .permissions = slat_right::kAll, .cacheable = slat_right::kAll, .page_bits = 48, .spa = gpa};
    }
    if (cache != nullptr) {
        if (const SlatResult* hit = cache->find(slat, gpa, access)) return *hit;
    }
    SlatResult result;
    for (unsigned attempt = 0; attempt < kWalkRetries; ++attempt) {
        bool retry = false;
        result = walk_once(memory, slat, gpa, access, touch, retry);
        if (!retry) break;
    }
    if (cache != nullptr && touch && result.ok) cache->insert(slat, gpa, result);
    return result;
}

}  // namespace vg::mmu
