#include "iommu/caches.h"

#include <string>

#include "base/bits.h"
#include "base/state.h"

namespace vg::iommu {
namespace {

/// Lists the valid entries of an array under their slot's number; loading empties all others. `one` visits an entry.
template <class Entries, class One>
void visit_valid(StateVisitor& v, std::string_view name, Entries& entries, One one) {
    const VisitScope scope(v, name);
    u32 count = 0;
    for (const auto& entry : entries) count += entry.valid ? 1 : 0;
    v("count", count, Fmt::Dec);
    if (v.loading()) {
        entries = {};
        for (u32 i = 0; i < count && i < entries.size(); ++i) {
            const VisitScope at(v, std::to_string(i));
            u32 slot = 0;
            v("slot", slot, Fmt::Dec);
            auto& entry = entries[slot % entries.size()];
            one(entry);
            entry.valid = true;
        }
        return;
    }
    u32 number = 0;
    for (u32 slot = 0; slot < entries.size(); ++slot) {
        if (!entries[slot].valid) continue;
        const VisitScope at(v, std::to_string(number++));
        v("slot", slot, Fmt::Dec);
        one(entries[slot]);
    }
}

}  // namespace

const ContextCache::Entry* ContextCache::find(u16 source) const {
    const Entry& entry = entries_[slot_of(source)];
    return entry.valid && entry.source == source ? &entry : nullptr;
}

void ContextCache::insert(const Entry& entry) {
    Entry& slot = entries_[slot_of(entry.source)];
    slot = entry;
    slot.valid = true;
}

void ContextCache::clear() { entries_ = {}; }

void ContextCache::clear_domain(u16 domain) {
    for (Entry& entry : entries_) {
        if (entry.domain == domain) entry = {};
    }
}

void ContextCache::clear_source(u16 source, u16 ignored, u16 domain) {
    for (Entry& entry : entries_) {
        if (((entry.source ^ source) & ~ignored) == 0 && entry.domain == domain) entry = {};
    }
}

void ContextCache::fields(StateVisitor& v) {
    visit_valid(v, "context_cache", entries_, [&](Entry& entry) {
        v("source", entry.source);
        v("domain", entry.domain);
        v("low", entry.context.low);
        v("high", entry.context.high);
        v("reason", entry.reason);
    });
}

u32 Iotlb::set_of(u16 source, u64 iova, u8 page_bits) {
    const u64 page = iova >> page_bits;
    return static_cast<u32>((page ^ (page >> 6) ^ source ^ (source >> 3)) % kSets);
}

const Iotlb::Entry* Iotlb::find(u16 source, u16 domain, u64 iova) const {
    for (const u8 page_bits : {u8{12}, u8{21}, u8{30}}) {
        const Entry* set = &entries_[set_of(source, iova, page_bits) * kWays];
        for (u32 way = 0; way < kWays; ++way) {
            const Entry& entry = set[way];
            if (entry.valid && entry.page_bits == page_bits && entry.iova == (iova & ~low_mask(page_bits)) &&
                entry.source == source && entry.domain == domain) {
                return &entry;
            }
        }
    }
    return nullptr;
}

void Iotlb::insert(const Entry& entry) {
    const u32 set = set_of(entry.source, entry.iova, entry.page_bits);
    u32 way = 0;
    while (way < kWays && entries_[set * kWays + way].valid) ++way;
    if (way == kWays) {
        way = victims_[set];
        victims_[set] = static_cast<u8>((way + 1) % kWays);
    }
    Entry& slot = entries_[set * kWays + way];
    slot = entry;
    slot.valid = true;
    slot.iova &= ~low_mask(entry.page_bits);
    slot.spa &= ~low_mask(entry.page_bits);
}

template <class Matches>
void Iotlb::clear_if(Matches matches) {
    for (Entry& entry : entries_) {
        if (entry.valid && matches(entry)) entry = {};
    }
}

void Iotlb::clear() {
    entries_ = {};
    victims_ = {};
}

void Iotlb::clear_domain(u16 domain) {
    clear_if([&](const Entry& entry) { return entry.domain == domain; });
}

void Iotlb::clear_pages(u16 domain, u64 iova, unsigned mask) {
    clear_if([&](const Entry& entry) {
        const unsigned bits = std::max<unsigned>(entry.page_bits, 12 + mask);
        return entry.domain == domain && ((entry.iova ^ iova) & ~low_mask(bits)) == 0;
    });
}

void Iotlb::fields(StateVisitor& v) {
    visit_valid(v, "iotlb", entries_, [&](Entry& entry) {
        v("source", entry.source);
        v("domain", entry.domain);
        v("page_bits", entry.page_bits, Fmt::Dec);
        if (entry.page_bits != 21 && entry.page_bits != 30) entry.page_bits = 12;
        v("rights", entry.rights);
        v("iova", entry.iova);
        v("spa", entry.spa);
        v("reason", entry.reason);
    });
    v("iotlb_victims", victims_);
    if (!v.loading()) return;
    for (u8& victim : victims_) victim %= kWays;
}

const InterruptCache::Entry* InterruptCache::find(u16 index) const {
    const Entry& entry = entries_[index % kEntries];
    return entry.valid && entry.index == index ? &entry : nullptr;
}

void InterruptCache::insert(u16 index, const Irte& irte) { entries_[index % kEntries] = {true, index, irte}; }

void InterruptCache::clear() { entries_ = {}; }

void InterruptCache::clear_range(u16 index, unsigned mask) {
    for (Entry& entry : entries_) {
        if (((entry.index ^ index) & ~low_mask(mask)) == 0) entry = {};
    }
}

void InterruptCache::fields(StateVisitor& v) {
    visit_valid(v, "interrupt_cache", entries_, [&](Entry& entry) {
        v("index", entry.index);
        v("low", entry.irte.low);
        v("high", entry.irte.high);
    });
}

}  // namespace vg::iommu
