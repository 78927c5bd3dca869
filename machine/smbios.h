// SMBIOS tables of a PC that boots firmware and of generation-1 partitions (DMTF DSP0134 2.8).
#pragma once

#include <string_view>
#include <vector>

#include "base/types.h"

namespace vg::machine {

struct Smbios {
    std::vector<u8> anchor;  ///< 32-bit entry point; its table address is zero and the firmware's to fill in
    std::vector<u8> tables;
};

/// What the system is called.
struct SystemNames {
    std::string_view maker = "Verdigris", product = "PC", version = "1";
};
/// System, board, chassis, processors, memory.
[[nodiscard]] Smbios build_smbios(u64 memory_bytes, u32 processors, const SystemNames& names = {});
/// Completes the anchor for tables at this address.
void place_tables(Smbios& smbios, u32 address);

}  // namespace vg::machine
