#include "mmu/slat_builder.h"

#include <fmt/format.h>

#include <array>

#include "base/assert.h"
#include "base/bits.h"
#include "mmu/slat.h"
#include "mmu/spec/ept.h"

namespace vg::mmu {
namespace {

constexpr unsigned kTopLevel = 3;
constexpr unsigned kLargestLeaf = 2;  ///< 1 GiB
constexpr u8 kPhysicalBits = 46;
constexpr u64 kAddress = low_mask(kPhysicalBits) & ~kPageMask;
constexpr u64 kRights = ept::kRead | ept::kWrite | ept::kExecute;

using Table = std::array<u64, kPageSize / sizeof(u64)>;

constexpr u64 size_of(unsigned level) { return u64{1} << (12 + 9 * level); }

bool is_leaf(u64 entry, unsigned level) { return level == 0 || (level <= kLargestLeaf && (entry & ept::kLarge) != 0); }

u64 rights_of(SlatPermissions p) {
    return (p.read ? ept::kRead : 0) | (p.write ? ept::kWrite : 0) | (p.execute ? ept::kExecute : 0);
}

/// The largest level whose pages fit at this place.
unsigned best_level(u64 a, u64 b, u64 size) {
    unsigned level = kLargestLeaf;
    while (level > 0 && (((a | b) & (size_of(level) - 1)) != 0 || size < size_of(level))) --level;
    return level;
}

}  // namespace

SlatBuilder::SlatBuilder(PhysicalMemory& memory, AllocatePage allocate_page, FreePage free_page)
    : memory_(memory), allocate_page_(std::move(allocate_page)), free_page_(std::move(free_page)) {
    if (const Result<u64> table = new_table()) root_ = *table | ept::kEptpWalkLength4 | ept::kTypeWriteBack;
}

SlatBuilder::~SlatBuilder() {
    if (root_ != 0) free_table(root_ & kAddress, kTopLevel);
}

SlatMode SlatBuilder::mode() const {
    return {.kind = SlatMode::Kind::Ept, .root = root_, .accessed_dirty = false, .physical_bits = kPhysicalBits};
}

u64 SlatBuilder::load(u64 table, u64 gpa, unsigned level) const {
    return memory_.read<u64>(Spa(table + ((gpa >> (12 + 9 * level)) & 511) * 8));
}

void SlatBuilder::store(u64 table, u64 gpa, unsigned level, u64 entry) {
    memory_.write<u64>(Spa(table + ((gpa >> (12 + 9 * level)) & 511) * 8), entry);
}

Result<u64> SlatBuilder::new_table() {
    const Result<Spa> page = allocate_page_();
    if (!page) return Unexpected{page.error()};
    VG_ASSERT((page->value & ~kAddress) == 0);
    ++table_pages_;
    return page->value;
}

/// Frees a table and all tables below it.
void SlatBuilder::free_table(u64 table, unsigned level) {
    if (level > 0) {
        for (const u64 entry : memory_.read<Table>(Spa(table))) {
            if ((entry & kRights) != 0 && !is_leaf(entry, level)) free_table(entry & kAddress, level - 1);
        }
    }
    --table_pages_;
    free_page_(Spa(table));
}

Result<u64> SlatBuilder::table_below(u64 table, u64 gpa, unsigned level) {
    const u64 entry = load(table, gpa, level);
    const bool present = (entry & kRights) != 0;
    if (present && !is_leaf(entry, level)) return entry & kAddress;
    Result<u64> below = new_table();
    if (!below) return below;
    if (present) {
        Table pieces;
        for (u64 i = 0; i < pieces.size(); ++i) {
            pieces[i] = entry + i * size_of(level - 1);
            if (level == 1) pieces[i] &= ~ept::kLarge;
        }
        memory_.write(Spa(*below), pieces);
    }
    store(table, gpa, level, *below | kRights);
    return below;
}

Result<void> SlatBuilder::set(Gpa gpa, unsigned level, u64 entry) {
    u64 table = root_ & kAddress;
    for (unsigned at = kTopLevel; at > level; --at) {
        const Result<u64> below = table_below(table, gpa.value, at);
        if (!below) return Unexpected{below.error()};
        table = *below;
    }
    const u64 old = load(table, gpa.value, level);
    store(table, gpa.value, level, entry);
    if ((old & kRights) != 0 && !is_leaf(old, level)) free_table(old & kAddress, level - 1);
    return {};
}

Result<void> SlatBuilder::map(Gpa gpa, Spa spa, u64 size, SlatPermissions permissions) {
    const bool bad = ((gpa.value | spa.value | size) & kPageMask) != 0 || !fits(gpa.value, size, u64{1} << 48) ||
                     !fits(spa.value, size, u64{1} << kPhysicalBits) || (permissions.write && !permissions.read);
    if (bad || root_ == 0) {
        return fail(Error::Code::Usage, fmt::format("cannot map GPA 0x{:x} to SPA 0x{:x}, 0x{:x} bytes", gpa.value,
                                                    spa.value, size));
    }
    const u64 rights = rights_of(permissions);
    if (rights == 0) return unmap(gpa, size);
    while (size != 0) {
        const unsigned level = best_level(gpa.value, spa.value, size);
        const u64 entry = spa.value | rights | (ept::kTypeWriteBack << ept::kMemoryTypeLow) | (level > 0 ? ept::kLarge : 0);
        if (Result<void> r = set(gpa, level, entry); !r) return r;
        gpa = gpa + size_of(level);
        spa = spa + size_of(level);
        size -= size_of(level);
    }
    return {};
}

Result<void> SlatBuilder::unmap(Gpa gpa, u64 size) {
    if (((gpa.value | size) & kPageMask) != 0 || !fits(gpa.value, size, u64{1} << 48) || root_ == 0) {
        return fail(Error::Code::Usage, fmt::format("cannot unmap GPA 0x{:x}, 0x{:x} bytes", gpa.value, size));
    }
    const u64 end = gpa.value + size;
    while (gpa.value < end) {
        // Skip what is not there, at the level where that shows.
        u64 table = root_ & kAddress;
        unsigned level = kTopLevel;
        u64 entry = load(table, gpa.value, level);
        while ((entry & kRights) != 0 && !is_leaf(entry, level)) {
            table = entry & kAddress;
            entry = load(table, gpa.value, --level);
        }
        u64 step = size_of(level) - (gpa.value & (size_of(level) - 1));
        if ((entry & kRights) != 0) {
            const unsigned at = best_level(gpa.value, 0, end - gpa.value);
            step = size_of(at);
            if (Result<void> r = set(gpa, at, 0); !r) return r;
        }
        gpa = gpa + step;
    }
    return {};
}

SlatBuilder::Entry SlatBuilder::find(Gpa gpa) const {
    Entry result;
    if (root_ == 0 || (gpa.value >> 48) != 0) return result;
    u64 table = root_ & kAddress;
    for (unsigned level = kTopLevel;; --level) {
        const u64 entry = load(table, gpa.value, level);
        if ((entry & kRights) == 0) return result;
        if (!is_leaf(entry, level)) {
            table = entry & kAddress;
            continue;
        }
        const u64 offset = gpa.value & (size_of(level) - 1);
        result.present = true;
        result.spa = Spa((entry & kAddress & ~(size_of(level) - 1)) | offset);
        result.permissions = {(entry & ept::kRead) != 0, (entry & ept::kWrite) != 0, (entry & ept::kExecute) != 0};
        result.page_bits = static_cast<u8>(12 + 9 * level);
        return result;
    }
}

}  // namespace vg::mmu
