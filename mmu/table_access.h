// How walks read and update entries of paging structures in memory. Internal to mmu/.
#pragma once

#include <atomic>
#include <cstring>

#include "base/types.h"
#include "mmu/physical_memory.h"

namespace vg::mmu {

/// One entry, read once. Tables in MMIO or holes read as all-ones, so that a walk never reaches a device.
template <class T>
[[nodiscard]] inline T load_entry(const PhysicalMemory& memory, u64 spa) {
    const u8* host = memory.readable(Spa(spa));
    if (host == nullptr) [[unlikely]] return static_cast<T>(~T{0});
    return __atomic_load_n(reinterpret_cast<const T*>(host), __ATOMIC_RELAXED);
}

/// Sets `bits` in an entry that was read as `value`. False if the entry has changed since: walk again. Entries that
/// are not in RAM keep their value (a write to ROM is dropped) and that counts as done.
[[nodiscard]] inline bool set_entry_bits(PhysicalMemory& memory, u64 spa, u64 value, u64 bits, unsigned size) {
    if ((value & bits) == bits) return true;
    if (memory.compare_exchange(Spa(spa), value, value | bits, size)) return true;
    return memory.ram(Spa(spa)) == nullptr;
}

/// How often a walk starts again because another processor changed an entry under it. Enough for any real race;
/// a bound, because an endless loop must not be possible.
inline constexpr unsigned kWalkRetries = 64;

}  // namespace vg::mmu
