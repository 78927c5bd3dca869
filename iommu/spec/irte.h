// Interrupt requests and interrupt remapping table entries. VT-d 4.1 "Interrupt Requests on Intel 64 Compatible
// Platforms", "Interrupt Remapping Table Entry (IRTE) for Remapped Interrupts". Layouts only.
#pragma once

#include "base/types.h"

namespace vg::iommu {

struct Irte {
    u64 low = 0, high = 0;

    static constexpr u64 kPresent = 1 << 0, kFaultDisable = 1 << 1;
    static constexpr u64 kLogical = 1 << 2, kRedirectionHint = 1 << 3, kLevel = 1 << 4;
    static constexpr unsigned kDeliveryLow = 5, kDeliveryHigh = 7;
    static constexpr u64 kPosted = 1 << 15;  ///< IM: reserved without posted interrupts
    static constexpr u64 kReservedLow = 0xff00'7000;
    static constexpr unsigned kVectorLow = 16, kVectorHigh = 23;
    static constexpr unsigned kDestinationLow = 32, kDestinationHigh = 63;  ///< x2APIC mode
    static constexpr unsigned kShortDestinationLow = 40,
                              kShortDestinationHigh = 47;  ///< xAPIC mode; the rest is reserved
    static constexpr u64 kReservedShort = 0xffff'00ff'0000'0000;
    static constexpr unsigned kSourceLow = 0, kSourceHigh = 15;  ///< in the high half
    static constexpr unsigned kQualifierLow = 16, kQualifierHigh = 17;
    static constexpr unsigned kValidationLow = 18, kValidationHigh = 19;
    static constexpr u64 kReservedHigh = 0xffff'ffff'fff0'0000;
};
static_assert(sizeof(Irte) == 16);

/// Irte SVT.
enum class SourceValidation : u8 { None = 0, SourceId = 1, BusRange = 2, Reserved = 3 };

/// Address and data of an interrupt request, and of the message that leaves the unit.
namespace request {
inline constexpr u64 kBase = 0xfee00000, kSize = 0x100000;
inline constexpr u64 kRemappable = 1 << 4;
inline constexpr u64 kSubhandleValid = 1 << 3;
inline constexpr u64 kHandleBit15 = 1 << 2;
inline constexpr unsigned kHandleLow = 5, kHandleHigh = 19;
inline constexpr u32 kReservedData = 0xffff0000;

inline constexpr u64 kLogical = 1 << 2, kRedirectionHint = 1 << 3;
inline constexpr unsigned kDestinationLow = 12;
inline constexpr unsigned kDestinationUpperLow = 40;  ///< bits 31:8 of an x2APIC destination, as in FEUADDR
inline constexpr u32 kLevel = 1 << 15, kAssert = 1 << 14;
inline constexpr unsigned kDeliveryLow = 8;
}  // namespace request

}  // namespace vg::iommu
