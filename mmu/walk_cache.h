// The second TLB level: leaf results of page walks, set-associative, shared by all contexts of a VP. Internal to mmu/.
#pragma once

#include <array>
#include <memory>

#include "base/bits.h"
#include "base/types.h"
#include "mmu/large_regions.h"
#include "mmu/leaf.h"

namespace vg::mmu {

/// What an entry's validity is checked against: a context is (PCID, paging format, second-level root). A flush gives
/// the context a new generation, which costs nothing per entry.
struct WalkContext {
    u32 index = 0;           ///< below kMaxContexts
    u64 nonglobal = 0;       ///< generation of non-global entries
    u64 global = 0;          ///< generation of global entries
};

class WalkCache {
  public:
    static constexpr u32 kMaxContexts = 64;

    [[nodiscard]] bool find(const WalkContext& context, u64 gva, Leaf& out) const;
    void insert(const WalkContext& context, u64 gva, const Leaf& leaf);
    /// Drops what covers this address in any context, pieces of a larger guest page included (SDM 3A "Operations that
    /// Invalidate TLBs and Paging-Structure Caches": INVLPG drops all entries of the page, however many there are).
    void drop_page(u64 gva);

  private:
    static constexpr u32 kSets = 512, kWays = 8;
    struct Data {
        u64 gpa = 0;  ///< page address; low bits: guest page size, protection key
        u64 spa = 0;  ///< page address; low bits: rights
        u64 generation = 0;
    };
    struct alignas(64) Set {
        u64 tag[kWays] = {};
        Data data[kWays];
    };
    /// Sizes by code 1..3: 4 KiB, 2 MiB (also halves of 4 MiB), 1 GiB.
    static constexpr unsigned bits_of(unsigned code) { return 3 + 9 * code; }
    static constexpr u64 tag_of(u32 context, u64 gva, unsigned code) {
        return ((gva & low_mask(48)) >> bits_of(code) << 16) | (context << 4) | code;
    }
    static constexpr u32 set_of(u64 gva, unsigned code) {
        const u64 page = gva >> bits_of(code);
        return static_cast<u32>(page ^ (page >> 9)) & (kSets - 1);
    }
    void drop_pieces(u64 gva);

    std::unique_ptr<std::array<Set, kSets>> sets_;  ///< null until the first insertion: a processor that never ran costs nothing
    bool used_[4] = {};        ///< by size code: some entry was ever inserted
    LargeRegions pieces_;      ///< where entries smaller than their guest page may be
    u32 next_way_ = 0;
};

}  // namespace vg::mmu
