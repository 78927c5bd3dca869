// What devices use to touch memory. A device never holds a pointer into guest RAM.
#pragma once

#include "base/types.h"

namespace vg::mmu {

/// Result of a transfer: false means that an address was refused (no memory, or the IOMMU said no) and nothing
/// past the refused byte was transferred.
class Dma {
  public:
    virtual ~Dma() = default;
    [[nodiscard]] virtual bool read(Iova address, void* out, u64 size) = 0;
    [[nodiscard]] virtual bool write(Iova address, const void* data, u64 size) = 0;
};

}  // namespace vg::mmu
