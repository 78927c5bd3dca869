// Where in an address space cached pieces of large pages may be. Internal to mmu/.
#pragma once

#include <array>

#include "base/types.h"
#include "mmu/bit_set.h"

namespace vg::mmu {

/// INVLPG drops all of a page, however large it is, and caches keep pieces of 4 KiB that do not know their neighbours: this
/// says whether there may be any around an address, so that most INVLPGs need not look. Regions are kept by a hash: none
/// that was added is missed; one in a thousand of the others is taken for one.
class LargeRegions {
  public:
    /// There is a piece of the guest page of 2^`guest_bits` bytes at `gva`; 12 is no large page. @param global  the page is
    void add(u64 gva, u8 guest_bits, bool global) {
        if (guest_bits <= 12) return;
        Sizes& sizes = sizes_[global];
        (guest_bits > kSmall ? sizes.gigantic : sizes.small).set(hash(gva, guest_bits > kSmall ? kGigantic : kSmall));
        sizes.any = true;
    }
    /// log2 of the aligned region around `gva` that holds the rest of its page, if that may be large; 0: it is not.
    [[nodiscard]] unsigned around(u64 gva) const {
        const u32 small = hash(gva, kSmall), gigantic = hash(gva, kGigantic);
        unsigned bits = 0;
        for (const Sizes& sizes : sizes_) {
            if (!sizes.any) continue;
            if (sizes.gigantic.test(gigantic)) return kGigantic;
            if (sizes.small.test(small)) bits = kSmall;
        }
        return bits;
    }
    void clear() { sizes_ = {}; }
    void clear_nonglobal() {
        if (sizes_[false].any) sizes_[false] = {};
    }

  private:
    static constexpr unsigned kSmall = 22, kGigantic = 30;  ///< 2 MiB and 4 MiB; 1 GiB
    static constexpr unsigned kHashBits = 10;
    static constexpr u32 hash(u64 gva, unsigned bits) {
        return static_cast<u32>((gva >> bits) * 0x9e3779b97f4a7c15 >> (64 - kHashBits));
    }
    struct Sizes {
        BitSet<1u << kHashBits> small, gigantic;
        bool any = false;
    };
    std::array<Sizes, 2> sizes_{};  ///< of pages that are not global, and that are
};

}  // namespace vg::mmu
