// Integer and address types used everywhere.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace vg {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
__extension__ using u128 = unsigned __int128;
__extension__ using s128 = __int128;

/// An address of one address space. Spaces do not mix: converting needs `.value` in plain sight.
template <class Tag>
struct Address {
    u64 value = 0;

    constexpr Address() = default;
    constexpr explicit Address(u64 v) : value(v) {}
    constexpr auto operator<=>(const Address&) const = default;
    constexpr Address operator+(u64 bytes) const { return Address(value + bytes); }
    constexpr Address operator-(u64 bytes) const { return Address(value - bytes); }
    constexpr u64 operator-(Address other) const { return value - other.value; }
    /// Number of the 4 KiB page.
    [[nodiscard]] constexpr u64 page() const { return value >> 12; }
    /// Offset within the 4 KiB page.
    [[nodiscard]] constexpr u32 offset() const { return static_cast<u32>(value & 0xfff); }
    /// Start of the 4 KiB page.
    [[nodiscard]] constexpr Address page_base() const { return Address(value & ~u64{0xfff}); }
};

using Gva = Address<struct GvaTag>;    ///< guest virtual (after segmentation: linear)
using Gpa = Address<struct GpaTag>;    ///< guest physical
using Spa = Address<struct SpaTag>;    ///< system physical: the emulated machine's own memory space
using Iova = Address<struct IovaTag>;  ///< what a device puts on the bus

inline constexpr u64 kPageSize = 4096;
inline constexpr u64 kPageMask = kPageSize - 1;

}  // namespace vg
