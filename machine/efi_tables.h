// What UEFI firmware leaves behind for an operating system: system table, configuration tables, memory map (UEFI 2.10 §4,
// §7.2). There is no firmware: a kernel that is loaded directly into a generation-2 partition is told what it would have
// been told there, because drivers look at it (B-18, D-98). No runtime service works, and the tables say so.
#pragma once

#include <optional>
#include <vector>

#include "base/types.h"
#include "machine/guest_memory.h"
#include "machine/loader.h"

namespace vg::machine {

/// Two pages within the ACPI tables' place, at its end: data, then code.
inline constexpr u64 kEfiTablesSize = 2 * kPageSize;

/// Writes the tables to [base, +kEfiTablesSize), which the memory map of `request` reserves.
/// @param map  of the partition's memory, as the loader is given it
/// Nothing if that is no RAM, or has no room for the map.
[[nodiscard]] std::optional<EfiBoot> write_efi_tables(GuestMemory& memory, u64 base, Gpa rsdp,
                                                      const std::vector<MemoryRange>& map);

}  // namespace vg::machine
