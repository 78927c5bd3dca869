// What the unit remembers of tables in memory. Nothing here is looked up again before software invalidates it, so what
// is stale stays stale: the caches are part of the unit's state. VT-d 4.1 "Caching Translation Information".
#pragma once

#include <array>

#include "base/types.h"
#include "iommu/spec/irte.h"
#include "iommu/spec/registers.h"
#include "iommu/spec/root_context.h"

namespace vg {
class StateVisitor;
}

namespace vg::iommu {

/// Context entries by source-id. With caching mode also entries that are absent or wrong, under domain 0.
class ContextCache {
  public:
    struct Entry {
        bool valid = false;
        u16 source = 0, domain = 0;
        ContextEntry context{};
        FaultReason reason = FaultReason::None;  ///< what using it means; None: use it
    };
    [[nodiscard]] const Entry* find(u16 source) const;
    void insert(const Entry& entry);
    void clear();
    void clear_domain(u16 domain);
    /// Source-ids that agree with `source` in all bits but those of `ignored`, within `domain`.
    void clear_source(u16 source, u16 ignored, u16 domain);
    void fields(StateVisitor& v);

  private:
    static constexpr u32 kEntries = 64;
    [[nodiscard]] static u32 slot_of(u16 source) { return (source ^ (source >> 8)) % kEntries; }
    std::array<Entry, kEntries> entries_{};
};

/// Translations by source-id, domain-id and address, at the size of the page that they came from.
class Iotlb {
  public:
    struct Entry {
        bool valid = false;
        u16 source = 0, domain = 0;
        u8 page_bits = 12;                       ///< 12, 21 or 30
        u8 rights = 0;                           ///< slpte::kRead, kWrite
        u64 iova = 0, spa = 0;                   ///< of the page
        FaultReason reason = FaultReason::None;  ///< with caching mode: a walk that failed
    };
    [[nodiscard]] const Entry* find(u16 source, u16 domain, u64 iova) const;
    void insert(const Entry& entry);
    void clear();
    void clear_domain(u16 domain);
    /// Every page that overlaps the 2^mask pages of 4 KiB around `iova`. @param mask  0..52
    void clear_pages(u16 domain, u64 iova, unsigned mask);
    void fields(StateVisitor& v);

  private:
    static constexpr u32 kSets = 64, kWays = 4;
    [[nodiscard]] static u32 set_of(u16 source, u64 iova, u8 page_bits);
    template <class Matches>
    void clear_if(Matches matches);
    std::array<Entry, kSets * kWays> entries_{};
    std::array<u8, kSets> victims_{};
};

/// Interrupt remapping table entries by index. With caching mode also those that are not present.
class InterruptCache {
  public:
    struct Entry {
        bool valid = false;
        u16 index = 0;
        Irte irte{};
    };
    [[nodiscard]] const Entry* find(u16 index) const;
    void insert(u16 index, const Irte& irte);
    void clear();
    /// The 2^mask entries around `index`. @param mask  0..16
    void clear_range(u16 index, unsigned mask);
    void fields(StateVisitor& v);

  private:
    static constexpr u32 kEntries = 64;
    std::array<Entry, kEntries> entries_{};
};

}  // namespace vg::iommu
