// What devices use to touch memory. A device never holds a pointer into guest RAM.
#pragma once

#include "base/types.h"
#include "mmu/physical_memory.h"
#include "mmu/walk.h"

namespace vg::mmu {

/// Result of a transfer: false means that an address was refused (no memory, or the IOMMU said no) and nothing
/// past the refused byte was transferred.
class Dma {
  public:
    virtual ~Dma() = default;
    [[nodiscard]] virtual bool read(Iova address, void* out, u64 size) = 0;
    [[nodiscard]] virtual bool write(Iova address, const void* data, u64 size) = 0;
};

/// The view without an IOMMU: IOVA is the GPA of the device's partition (the SPA where there is no second level).
/// Reaches RAM, and ROM for reading; MMIO and holes are refused.
class DirectDma final : public Dma {
  public:
    /// @param requester  whom its accesses are told of as (Accessor)
    explicit DirectDma(PhysicalMemory& memory, const SlatMode& slat = {}, u32 requester = Accessor::kUnknown)
        : memory_(memory), slat_(slat), by_{Accessor::Kind::Device, requester} {}
    void set_slat(const SlatMode& slat) { slat_ = slat; }
    /// The same view for this requester.
    [[nodiscard]] DirectDma as(u32 requester) const { return DirectDma(memory_, slat_, requester); }
    [[nodiscard]] bool read(Iova address, void* out, u64 size) override;
    [[nodiscard]] bool write(Iova address, const void* data, u64 size) override;

  private:
    PhysicalMemory& memory_;
    SlatMode slat_;
    Accessor by_;
};

}  // namespace vg::mmu
