#include "mmu/walk_cache.h"

namespace vg::mmu {
namespace {

// Low bits of Data::spa.
constexpr u64 kUser = 1, kWrite = 2, kExecute = 4, kGlobal = 8, kDirty = 16;
constexpr unsigned kSlatLow = 5, kSlatHigh = 7;
// Low bits of Data::gpa.
constexpr unsigned kGuestBitsLow = 0, kGuestBitsHigh = 4, kPkeyLow = 5, kPkeyHigh = 8;

constexpr unsigned code_of(u8 page_bits) { return page_bits >= 30 ? 3 : page_bits >= 21 ? 2 : 1; }

}  // namespace

bool WalkCache::find(const WalkContext& context, u64 gva, Leaf& out) const {
    for (unsigned code = 1; code <= 3; ++code) {
        if (!used_[code]) continue;
        const Set& set = (*sets_)[set_of(gva, code)];
        const u64 tag = tag_of(context.index, gva, code);
        for (u32 way = 0; way < kWays; ++way) {
            if (set.tag[way] != tag) continue;
            const Data& data = set.data[way];
            const bool global = (data.spa & kGlobal) != 0;
            if (data.generation != (global ? context.global : context.nonglobal)) continue;
            out.gpa = data.gpa & ~kPageMask;
            out.spa = data.spa & ~kPageMask;
            out.page_bits = static_cast<u8>(bits_of(code));
            out.guest_bits = static_cast<u8>(bits(data.gpa, kGuestBitsHigh, kGuestBitsLow));
            out.pkey = static_cast<u8>(bits(data.gpa, kPkeyHigh, kPkeyLow));
            out.user = (data.spa & kUser) != 0;
            out.write = (data.spa & kWrite) != 0;
            out.execute = (data.spa & kExecute) != 0;
            out.global = global;
            out.dirty = (data.spa & kDirty) != 0;
            out.slat = static_cast<u8>(bits(data.spa, kSlatHigh, kSlatLow));
            return true;
        }
    }
    return false;
}

void WalkCache::insert(const WalkContext& context, u64 gva, const Leaf& leaf) {
    const unsigned code = code_of(leaf.page_bits);
    const u64 tag = tag_of(context.index, gva, code);
    if (sets_ == nullptr) sets_ = std::make_unique<std::array<Set, kSets>>();
    Set& set = (*sets_)[set_of(gva, code)];
    u32 way = next_way_++ % kWays;
    for (u32 i = 0; i < kWays; ++i) {
        if (set.tag[i] == tag) way = i;
    }
    // A 4 MiB page is kept as the half that holds the address.
    const u64 within = gva & low_mask(leaf.page_bits) & ~low_mask(bits_of(code));
    set.tag[way] = tag;
    Data& data = set.data[way];
    data.gpa = (leaf.gpa | within) | (u64{leaf.guest_bits} << kGuestBitsLow) | (u64{leaf.pkey} << kPkeyLow);
    data.spa = (leaf.spa | within) | (leaf.user ? kUser : 0) | (leaf.write ? kWrite : 0) |
               (leaf.execute ? kExecute : 0) | (leaf.global ? kGlobal : 0) | (leaf.dirty ? kDirty : 0) |
               (u64{leaf.slat} << kSlatLow);
    data.generation = leaf.global ? context.global : context.nonglobal;
    used_[code] = true;
    if (leaf.guest_bits > bits_of(code)) pieces_.add(gva & low_mask(48), leaf.guest_bits, leaf.global);
}

void WalkCache::drop_page(u64 gva) {
    constexpr u64 kContextField = u64{0xfff} << 4;
    for (unsigned code = 1; code <= 3; ++code) {
        if (!used_[code]) continue;
        Set& set = (*sets_)[set_of(gva, code)];
        const u64 tag = tag_of(0, gva, code);
        for (u64& each : set.tag) {
            if ((each & ~kContextField) == tag) each = 0;
        }
    }
    if (pieces_.around(gva & low_mask(48)) != 0) drop_pieces(gva);
}

void WalkCache::drop_pieces(u64 gva) {
    const u64 address = gva & low_mask(48);
    for (Set& set : *sets_) {
        for (u32 way = 0; way < kWays; ++way) {
            const unsigned code = set.tag[way] & 15;
            if (code == 0) continue;
            const unsigned guest_bits = static_cast<unsigned>(bits(set.data[way].gpa, kGuestBitsHigh, kGuestBitsLow));
            if (guest_bits <= bits_of(code)) continue;
            const u64 base = set.tag[way] >> 16 << bits_of(code);
            if ((base >> guest_bits) == (address >> guest_bits)) set.tag[way] = 0;
        }
    }
}

}  // namespace vg::mmu
