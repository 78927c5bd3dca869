#include "hv/page_ledger.h"

#include <string>

#include "base/assert.h"
#include "base/state.h"

namespace vg::hv {

u32 PageLedger::get(Spa page) const {
    auto it = regions_.upper_bound(page.value);
    if (it == regions_.begin()) return 0;
    --it;
    const u64 index = (page.value - it->first) / kPageSize;
    return index < it->second.size() ? it->second[index] : 0;
}

u32* PageLedger::find(Spa page) {
    const mmu::Region* region = memory_.find(page);
    if (region == nullptr || region->kind != mmu::RegionKind::Ram) return nullptr;
    std::vector<u32>& pages = regions_[region->base.value];
    if (pages.empty()) pages.resize(region->size / kPageSize);
    return &pages[(page.value - region->base.value) / kPageSize];
}

bool PageLedger::can_deposit(Spa page) const {
    const mmu::Region* region = memory_.find(page);
    return region != nullptr && region->kind == mmu::RegionKind::Ram && get(page) == 0;
}

bool PageLedger::can_map(Spa first, u64 size) const {
    for (u64 at = 0; at < size; at += kPageSize) {
        const u32 entry = get(first + at);
        if ((entry & kDeposited) != 0 || (entry & kCountMask) >= kCountLimit) return false;
    }
    return true;
}

void PageLedger::set_deposited(Spa page, bool deposited) {
    u32* entry = find(page);
    VG_ASSERT(entry != nullptr && *entry == (deposited ? 0 : kDeposited));
    *entry = deposited ? kDeposited : 0;
}

void PageLedger::add_mappings(Spa first, u64 size) {
    for (u64 at = 0; at < size; at += kPageSize)
        if (u32* entry = find(first + at)) ++*entry;
}

void PageLedger::remove_mappings(Spa first, u64 size) {
    for (u64 at = 0; at < size; at += kPageSize) {
        u32* entry = find(first + at);
        if (entry == nullptr) continue;
        VG_ASSERT((*entry & kCountMask) != 0);
        --*entry;
    }
}

void PageLedger::fields(StateVisitor& v) {
    // Only pages in use: (page number, entry) pairs in ascending order.
    std::vector<u64> pages;
    std::vector<u32> entries;
    for (const auto& [base, region] : regions_) {
        for (std::size_t i = 0; i < region.size(); ++i) {
            if (region[i] == 0) continue;
            pages.push_back(base / kPageSize + i);
            entries.push_back(region[i]);
        }
    }
    constexpr std::size_t kLimit = std::size_t{1} << 28;
    v("pages", pages, kLimit);
    v("entries", entries, kLimit);
    if (!v.loading()) return;
    regions_.clear();
    for (std::size_t i = 0; i < pages.size() && i < entries.size(); ++i)
        if (u32* entry = find(Spa(pages[i] * kPageSize))) *entry = entries[i];
}

}  // namespace vg::hv
