// Where RAM lies: guest-physical layout of a partition or bare PC; what its controllers are called.
#pragma once

#include <algorithm>
#include <vector>

#include "base/types.h"
#include "hv/spec/guid.h"
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

/// Instance GUID of the n-th SCSI controller of a partition: fixed, so that a guest's device names are too.
constexpr hv::Guid storage_instance(u32 number) {
    hv::Guid guid = {0x76, 0x65, 0x72, 0x64, 0x69, 0x67, 0x72, 0x49, 0x80, 0x73, 0x63, 0x73, 0x69, 0x00, 0x00, 0x00};
    guid[15] = static_cast<u8>(number);
    return guid;
}
/// The same of its n-th network adapter.
constexpr hv::Guid network_instance(u32 number) {
    hv::Guid guid = {0x76, 0x65, 0x72, 0x64, 0x69, 0x67, 0x72, 0x49, 0x80, 0x6e, 0x65, 0x74, 0x00, 0x00, 0x00, 0x00};
    guid[15] = static_cast<u8>(number);
    return guid;
}

}  // namespace vg::machine
