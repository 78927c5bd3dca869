// A bzImage in a child's memory, entered by the 64-bit boot protocol (Linux "The Linux/x86 Boot Protocol").
#pragma once

#include "base/types.h"

namespace vg::vmm {

struct LinuxEntry {
    u64 rip, rsi, cr3, gdt;
};

/// False: no such file, no bzImage with a 64-bit entry, or too large for the memory.
bool load_bzimage(const char* path, const char* cmdline, u8* memory, u64 size, LinuxEntry& entry);

}  // namespace vg::vmm
