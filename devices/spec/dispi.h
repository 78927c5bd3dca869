// The display interface registers of Bochs ("VBE display extensions", as PCI function: QEMU's standard-vga
// description).
#pragma once

#include "base/types.h"

namespace vg::devices::dispi {

// Registers of 16 bits, in memory from kOffset of the register BAR on.
inline constexpr u32 kOffset = 0x500;
enum Register : u32 {
    kId,
    kWidth,
    kHeight,
    kBitsPerPixel,
    kEnable,
    kBank,
    kVirtualWidth,
    kVirtualHeight,
    kX,
    kY,
    kMemory64K,
    kRegisterCount
};

inline constexpr u16 kIdentity = 0xb0c5;  ///< linear frame buffer, memory size register
inline constexpr u16 kFirstIdentity = 0xb0c0;  ///< versions that software may ask for, up to kIdentity
inline constexpr u16 kIndexPort = 0x1ce, kDataPort = 0x1cf, kWideDataPort = 0x1d0;  ///< of a VGA
inline constexpr u16 kEnabled = 0x01, kGetCapabilities = 0x02, kLinear = 0x40, kKeepMemory = 0x80;

}  // namespace vg::devices::dispi
