// Limits that a disk advertises in its Block Limits page and enforces.
#pragma once

#include "base/types.h"

namespace vg::hv::vsp {

inline constexpr u32 kMaxUnmapDescriptors = 256;
inline constexpr u32 kMaxUnmapBlocks = 8u << 20;  ///< 4 GiB per UNMAP
inline constexpr u32 kMaxWriteSameBlocks = 8192;  ///< 4 MiB per WRITE SAME: it is really written

}  // namespace vg::hv::vsp
