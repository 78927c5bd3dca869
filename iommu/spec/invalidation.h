// Invalidation descriptors, 128 bits. VT-d 4.1 "Queued Invalidation Interface". Layouts only.
#pragma once

#include "base/types.h"

namespace vg::iommu {

struct Descriptor {
    u64 low = 0, high = 0;

    static constexpr unsigned kTypeHigh = 3;
    static constexpr unsigned kTypeUpperLow = 9, kTypeUpperHigh = 11;  ///< bits 6:4 of the type
};
static_assert(sizeof(Descriptor) == 16);

/// What this unit knows; others exist for device TLBs and scalable mode.
enum class DescriptorType : u8 { Context = 1, Iotlb = 2, InterruptEntry = 4, Wait = 5 };

namespace descriptor {
inline constexpr unsigned kGranularityLow = 4, kGranularityHigh = 5;
inline constexpr unsigned kDomainLow = 16, kDomainHigh = 31;

/// "Context-cache Invalidate Descriptor"
inline constexpr unsigned kSourceLow = 32, kSourceHigh = 47, kMaskLow = 48, kMaskHigh = 49;
inline constexpr u64 kContextReservedLow = 0xfffc'0000'0000'f1c0, kContextReservedHigh = ~u64{0};

/// "IOTLB Invalidate Descriptor": DW and DR are accepted, every transfer is complete when it returns.
inline constexpr u64 kIotlbReservedLow = 0xffff'ffff'0000'f100, kIotlbReservedHigh = 0xf80;
inline constexpr u64 kAddressMask = 0x3f;

/// "Interrupt Entry Cache Invalidate Descriptor"
inline constexpr u64 kIndexSelective = 1 << 4;
inline constexpr unsigned kIndexMaskLow = 27, kIndexMaskHigh = 31, kIndexLow = 32, kIndexHigh = 47;
inline constexpr u64 kEntryReservedLow = 0xffff'0000'07ff'f1e0, kEntryReservedHigh = ~u64{0};

/// "Invalidation Wait Descriptor". FN orders what is ordered here anyway; PD needs page requests, which are not there.
inline constexpr u64 kInterruptFlag = 1 << 4, kStatusWrite = 1 << 5, kFence = 1 << 6;
inline constexpr unsigned kStatusDataLow = 32;
inline constexpr u64 kStatusAddress = ~u64{3};
inline constexpr u64 kWaitReservedLow = 0xffff'f180, kWaitReservedHigh = 3;
}  // namespace descriptor

}  // namespace vg::iommu
