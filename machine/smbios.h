// SMBIOS tables of a PC that boots firmware (DMTF DSP0134 2.8).
#pragma once

#include <vector>

#include "base/types.h"

namespace vg::machine {

struct Smbios {
    std::vector<u8> anchor;  ///< 32-bit entry point; its table address is zero and the firmware's to fill in
    std::vector<u8> tables;
};

/// System, board, chassis, processors, memory.
[[nodiscard]] Smbios build_smbios(u64 memory_bytes, u32 processors);

}  // namespace vg::machine
