// Which VPs a processor mask or a generic VP set names. TLFS 6.0b "Virtual Processor Sets"; K-102..K-106, H-46.
#pragma once

#include <bit>

#include "hv/hypercalls/bodies.h"
#include "hv/partition.h"
#include "hv/vp.h"

namespace vg::hv::hypercalls {

/// Calls `use(Vp&)` for each existing VP of a mask of the first 64, in index order. Indices without a VP are ignored.
template <class F>
void for_mask(Partition& partition, u64 mask, F&& use) {
    for (; mask != 0; mask &= mask - 1)
        if (Vp* vp = partition.find_vp(static_cast<u32>(std::countr_zero(mask)))) use(*vp);
}

template <class F>
void for_all(Partition& partition, F&& use) {
    for (const auto& vp : partition.vps()) use(*vp);
}

/// The same for a generic set: `banks` holds one mask for each bit of `valid_bank_mask`.
/// InvalidHypercallInput for an unknown format or too few banks (H-46).
template <class F>
HvStatus for_set(Partition& partition, u64 format, u64 valid_bank_mask, VariableHeader banks, F&& use) {
    if (format == kVpSetAll) {
        for_all(partition, use);
        return HvStatus::Success;
    }
    if (format != kVpSetSparse4k || banks.size() < static_cast<std::size_t>(std::popcount(valid_bank_mask)))
        return HvStatus::InvalidHypercallInput;
    std::size_t next = 0;
    for (; valid_bank_mask != 0; valid_bank_mask &= valid_bank_mask - 1) {
        const u32 first = static_cast<u32>(std::countr_zero(valid_bank_mask)) * 64;
        for (u64 mask = banks[next++]; mask != 0; mask &= mask - 1)
            if (Vp* vp = partition.find_vp(first + static_cast<u32>(std::countr_zero(mask)))) use(*vp);
    }
    return HvStatus::Success;
}

}  // namespace vg::hv::hypercalls
