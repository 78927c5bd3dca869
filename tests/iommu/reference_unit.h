// A second implementation of the lookups, written from the specification's tables and not from iommu/: no caches, one
// question at a time, whole entries as bit strings.
#pragma once

#include <functional>
#include <optional>

#include "base/types.h"

namespace vg::test {

/// What the unit offers, as the reference sees it.
struct ReferenceUnit {
    std::function<std::optional<u64>(u64)> qword;  ///< memory; nothing outside RAM
    u64 rtaddr = 0;
    u64 irta = 0;
    unsigned haw = 46;
    bool three = true, four = true, two_mib = true, one_gib = true, pass = true, snoop = true;
    bool compatibility = false;

    struct Dma {
        unsigned fault = 0;  ///< 0: done
        bool quiet = false;  ///< FPD
        u64 spa = 0;
    };
    [[nodiscard]] Dma dma(u16 rid, u64 iova, bool write) const;

    struct Interrupt {
        unsigned fault = 0;
        bool quiet = false;
        u64 address = 0;
        u32 data = 0;
    };
    [[nodiscard]] Interrupt interrupt(u16 rid, u64 address, u32 data) const;
};

}  // namespace vg::test
