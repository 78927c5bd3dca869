// Big-endian fields of SCSI parameter data.
#pragma once

#include <span>

#include "base/types.h"

namespace vg::hv::vsp {

template <class T>
constexpr T big_endian(std::span<const u8> bytes, std::size_t at) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(u64{value} << 8 | bytes[at + i]);
    return value;
}

template <class T>
constexpr void set_big_endian(std::span<u8> bytes, std::size_t at, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i)
        bytes[at + i] = static_cast<u8>(u64{value} >> (8 * (sizeof(T) - 1 - i)));
}

}  // namespace vg::hv::vsp
