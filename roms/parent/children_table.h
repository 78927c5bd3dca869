// The table of children, `children.conf` in the store: which partitions there are and what they are made of.
//
//     exit = when-children-stop
//
//     [child web]
//     kernel = vmlinuz
//     initrd = initrd.img
//     cmdline = console=ttyS0
//     memory = 256
//     processors = 1
//     disk = web.vhd
//     autostart = yes
//
// One `key = value` a line; `#` begins a comment line. The value goes to the end of the line, without quotes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace vg::parent {

struct ChildEntry {
    std::string name;
    std::string kernel;   ///< member of the archive: a bzImage
    std::string initrd;   ///< likewise; empty: none
    std::string cmdline;  ///< may be empty
    u64 memory_bytes = u64{256} << 20;
    u32 processors = 1;
    std::vector<std::string> disks;  ///< members: fixed VHDs, in the order of their unit numbers
    bool autostart = false;
};

/// When the parent powers the machine off by itself.
enum class ExitRule : u8 {
    Never,
    WhenChildrenStop  ///< every child with autostart has stopped
};

struct ChildrenTable {
    static constexpr u32 kMaxBytes = 64 * 1024;
    static constexpr u32 kMaxChildren = 64, kMaxDisks = 8, kMaxProcessors = 64;
    static constexpr u32 kMaxNameBytes = 32, kMaxCmdlineBytes = 2047, kMaxPathBytes = 256;
    static constexpr u64 kMinMemoryMib = 16, kMaxMemoryMib = 1024 * 1024;

    ExitRule exit = ExitRule::Never;
    std::vector<ChildEntry> children;

    /// Error (Usage): what is wrong, with the number of its line.
    static Result<ChildrenTable> parse(std::string_view text);
};

}  // namespace vg::parent
