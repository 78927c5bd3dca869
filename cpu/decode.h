// Bytes to Insn.
#pragma once

#include <span>

#include "cpu/insn.h"

namespace vg::cpu {

enum class DecodeStatus : u8 {
    Ok,
    Truncated,  ///< the bytes end before the instruction does: fetch more (never returned with 15 or more bytes)
    Invalid,    ///< #UD; `length` says how many bytes were looked at
    TooLong     ///< longer than 15 bytes: #GP(0)
};

/// Decodes one instruction as a processor in `mode` would, ignoring CPUID (a feature check is the executor's).
/// Deterministic and pure. LOCK on an instruction that does not allow it is Invalid.
[[nodiscard]] DecodeStatus decode(std::span<const u8> bytes, CodeMode mode, Insn& out);

}  // namespace vg::cpu
