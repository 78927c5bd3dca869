// Layouts of boot protocols. Linux Documentation/arch/x86/boot.rst and zero-page.rst; Xen "x86/HVM direct boot ABI";
// "Multiboot Specification version 0.6.96".
#pragma once

#include "base/types.h"

namespace vg::machine::boot {

// Offsets in a bzImage file and in boot_params ("zero page"): the setup header sits at the same place in both.
inline constexpr u32 kSetupSects = 0x1f1;
inline constexpr u32 kSysSize = 0x1f4;      ///< protected-mode code in units of 16 bytes
inline constexpr u32 kBootFlag = 0x1fe;     ///< 0xAA55
inline constexpr u32 kJump = 0x200;         ///< second byte + 0x202 is the header's end
inline constexpr u32 kHeaderMagic = 0x202;  ///< "HdrS"
inline constexpr u32 kVersion = 0x206;
inline constexpr u32 kKernelVersion = 0x20e;
inline constexpr u32 kTypeOfLoader = 0x210;
inline constexpr u32 kLoadFlags = 0x211;    ///< bit 0 LOADED_HIGH
inline constexpr u32 kRamdiskImage = 0x218;
inline constexpr u32 kRamdiskSize = 0x21c;
inline constexpr u32 kCmdLinePtr = 0x228;
inline constexpr u32 kInitrdAddrMax = 0x22c;
inline constexpr u32 kXLoadFlags = 0x236;   ///< bit 0: 64-bit entry point at +0x200
inline constexpr u32 kCmdlineSize = 0x238;
inline constexpr u32 kSetupData = 0x250;    ///< first of a list of setup_data
inline constexpr u32 kPrefAddress = 0x258;
inline constexpr u32 kInitSize = 0x260;
inline constexpr u32 kHeaderEnd = 0x290;
/// struct screen_info, at the start of boot_params: what of it describes a linear frame buffer.
inline constexpr u32 kScreenVideoType = 0x0f, kScreenWidth = 0x12, kScreenHeight = 0x14, kScreenDepth = 0x16, kScreenBase = 0x18,
                     kScreenSize64K = 0x1c, kScreenStride = 0x24, kScreenColours = 0x26, kScreenPages = 0x32,
                     kScreenAttributes = 0x34;
inline constexpr u8 kVideoTypeLinear = 0x23;        ///< VIDEO_TYPE_VLFB
inline constexpr u16 kScreenColourLinear = 0x009b;  ///< VBE mode attributes: supported, colour, graphics, linear
inline constexpr u32 kZeroRsdp = 0x070;
/// struct efi_info: signature "EL64", system table, descriptor size and version, memory map and its size (low halves).
inline constexpr u32 kZeroEfi = 0x1c0;
inline constexpr u32 kEfiLoader64 = 0x34364c45;
inline constexpr u32 kZeroE820Entries = 0x1e8;
inline constexpr u32 kZeroE820Table = 0x2d0;
inline constexpr u32 kE820EntryBytes = 20, kE820Max = 128;

struct SetupData {
    u64 next;
    u32 type, size;  ///< bytes that follow
};
inline constexpr u32 kSetupRngSeed = 9;

// PVH
inline constexpr u32 kPvhNoteType = 18;  ///< XEN_ELFNOTE_PHYS32_ENTRY
inline constexpr u32 kHvmStartMagic = 0x336ec578;
struct HvmStartInfo {
    u32 magic, version, flags, nr_modules;
    u64 modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
    u32 memmap_entries, reserved;
};
static_assert(sizeof(HvmStartInfo) == 56);
struct HvmModule {
    u64 paddr, size, cmdline_paddr, reserved;
};
struct HvmMemmapEntry {
    u64 addr, size;
    u32 type, reserved;
};

// Multiboot 1
inline constexpr u32 kMultibootMagic = 0x1badb002;
inline constexpr u32 kMultibootBootMagic = 0x2badb002;
struct MultibootInfo {
    u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr;
    u32 drives_length, drives_addr, config_table, boot_loader_name, apm_table;
};
struct MultibootModule {
    u32 start, end, cmdline, reserved;
};

// The words of the BIOS data area that kernels of multiboot loaders look for: those start on PCs with a BIOS.
inline constexpr u64 kBiosEbdaSegment = 0x40e, kBiosMemoryKib = 0x413;
inline constexpr u16 kEbdaSegment = 0x9fc0, kLowMemoryKib = 639;

// Where loaders put things in low memory (all below 640 KiB).
inline constexpr u64 kGdt = 0x1000;
inline constexpr u64 kPageTables = 0x2000;  ///< PML4, PDPT, four PDs: 6 pages
inline constexpr u64 kZeroPage = 0x10000;
inline constexpr u64 kInfo = 0x11000;       ///< hvm_start_info or multiboot info, modules, memory map; setup_data
inline constexpr u64 kModules = kInfo + 0x100, kMemoryMap = kInfo + 0x200, kMemoryMapEnd = kInfo + 0xa00;
inline constexpr u32 kModulesMax = 8;       ///< the initrd is one
inline constexpr u64 kCommandLine = 0x20000;  ///< those of modules behind it
inline constexpr u32 kCommandLineMax = 0x10000;
inline constexpr u64 kStackTop = 0x9000;
inline constexpr u64 kLowEnd = kCommandLine + kCommandLineMax;  ///< kernels start above

}  // namespace vg::machine::boot
