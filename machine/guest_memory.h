// Guest-physical memory as loaders and table builders see it.
#pragma once

#include <span>

#include "base/types.h"

namespace vg::machine {

/// Memory of one partition or of the bare PC, before it runs.
class GuestMemory {
  public:
    virtual ~GuestMemory() = default;
    /// False if part of the range is not RAM.
    [[nodiscard]] virtual bool write(Gpa gpa, std::span<const u8> data) = 0;
    [[nodiscard]] virtual bool read(Gpa gpa, std::span<u8> out) = 0;
};

/// A range of RAM or reserved memory, for E820 and its relatives. Types as in ACPI "INT 15H, E820H".
struct MemoryRange {
    u64 base = 0, size = 0;
    u32 type = 1;
    static constexpr u32 kRam = 1, kReserved = 2, kAcpi = 3;
};

}  // namespace vg::machine
