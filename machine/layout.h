// Where RAM lies: guest-physical layout of a partition or bare PC.
#pragma once

#include <algorithm>
#include <vector>

#include "base/types.h"
#include "machine/acpi_tables.h"
#include "machine/guest_memory.h"

namespace vg::machine {

inline constexpr u64 kFourGiB = u64{1} << 32;

/// RAM below the low MMIO gap and the rest above 4 GiB.
struct RamLayout {
    u64 low = 0, high = 0;
    /// @param gap where RAM below 4 GiB ends: board::kLowGapBase in a partition, board::kPciMemoryBase in the bare PC
    explicit RamLayout(u64 bytes, u64 gap = board::kLowGapBase)
        : low(std::min(bytes, gap)), high(bytes > gap ? bytes - gap : 0) {}
    /// First address behind all RAM, at least 4 GiB.
    [[nodiscard]] u64 top() const { return kFourGiB + high; }
    /// What a kernel is told: E820 with the legacy hole and the ACPI tables' place.
    [[nodiscard]] std::vector<MemoryRange> map() const {
        std::vector<MemoryRange> ranges = {{0, 0xa0000, MemoryRange::kRam},
                                           {board::kAcpiBase, board::kAcpiSize, MemoryRange::kReserved},
                                           {0x100000, low - 0x100000, MemoryRange::kRam}};
        if (high != 0) ranges.push_back({kFourGiB, high, MemoryRange::kRam});
        return ranges;
    }
};

}  // namespace vg::machine
