// The moves between a register and memory that drivers use on device memory, decoded from an intercept's bytes.
#pragma once

#include "base/types.h"

namespace vg::vmm {

struct MmioMove {
    bool store = false, immediate = false, zero_extend = false;
    u8 reg = 0;       ///< register number, RAX = 0
    u8 size = 0;      ///< bytes of memory
    u8 length = 0;    ///< of the instruction
    u64 value = 0;    ///< of a store of an immediate
};

/// @param count  bytes at `bytes`, at most 16
/// @param wide   64-bit code; else the address and operand sizes are those of 16-bit code
/// False: another instruction, or registers AH..BH.
bool decode_move(const u8* bytes, unsigned count, bool wide, MmioMove& out);

}  // namespace vg::vmm
