// A partition's memory and registers as an ELF core file, as crash(8), drgn and gdb read it.
#pragma once

#include <string>

#include "base/result.h"
#include "machine/machine.h"

namespace vg::machine {

/// Writes one PT_LOAD for each range of the partition's RAM (physical addresses; virtual ones are 0, as in QEMU's
/// dump-guest-memory), an NT_PRSTATUS note for every processor, and the kernel's VMCOREINFO if its memory has one.
/// @param partition  a child's name; "": the first child, or the bare PC
/// Errors: Usage (no such partition, the name is taken), Host.
[[nodiscard]] Result<void> write_vmcore(Machine& machine, const std::string& partition, const std::string& path);

}  // namespace vg::machine
