// Kernels: bzImage (Linux/x86 boot protocol), ELF with a PVH note, multiboot.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "machine/guest_memory.h"

namespace vg::cpu {
class Vp;
}

namespace vg::machine {

/// A linear frame buffer that firmware has set up: 32 bits per pixel, blue in the lowest byte.
struct FrameBuffer {
    u64 base = 0, size_bytes = 0;
    u16 width = 0, height = 0, stride_bytes = 0;
};

/// What a kernel is told of the UEFI firmware that started it (machine/efi_tables.h). Below 4 GiB.
struct EfiBoot {
    u64 system_table = 0, memory_map = 0;
    u32 map_bytes = 0, descriptor_bytes = 0;
};

struct LoadRequest {
    std::string kernel, initrd, cmdline;
    std::vector<MemoryRange> memory_map;
    Gpa rsdp;  ///< ACPI root pointer, 0 if none
    std::optional<FrameBuffer> frame_buffer{};
    std::string kernel_name{};  ///< multiboot's argv[0]; "": the file's name
    std::optional<EfiBoot> efi{};  ///< bzImage only
};

/// How the first processor starts.
struct EntryState {
    enum class Mode : u8 {
        Long64,      ///< 64-bit, identity-mapped first 4 GiB, flat segments (Linux boot protocol)
        Protected32  ///< 32-bit flat, paging off (PVH, multiboot)
    };
    Mode mode = Mode::Long64;
    std::string kind;  ///< "bzImage 6.1.0-…", "PVH ELF", "multiboot": for messages
    u64 rip = 0, rsi = 0, rbx = 0, rax = 0, rsp = 0;
    bool x87_ready = false;  ///< the x87 is as FNINIT leaves it, not as a reset does
};

/// Contents of the files that a request names. No initrd: empty.
struct BootImages {
    std::span<const u8> kernel, initrd;
};

/// Loads by content: bzImage, PVH ELF or multiboot, in that order of recognition. Errors (Usage) name the file, the
/// offset, what was found, and what would do.
[[nodiscard]] Result<EntryState> load_images(GuestMemory& memory, const LoadRequest& request, const BootImages& images);
/// The same with the request's files (loader_file.cpp).
[[nodiscard]] Result<EntryState> load_kernel(GuestMemory& memory, const LoadRequest& request);

/// An entry state as register values, flat segments from base 0 to 4 GiB. Everything else is as after a reset.
struct EntryRegisters {
    u64 rip = 0, rax = 0, rbx = 0, rsi = 0, rsp = 0, rflags = 0;
    u64 cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;
    u64 gdt_base = 0;
    u16 gdt_limit = 0;
    u16 code_selector = 0, code_attributes = 0;  ///< attributes as in a segment's hidden part, [15:12] AVL L DB G
    u16 data_selector = 0, data_attributes = 0;
};
/// Writes page tables and descriptor tables to low memory. Nothing if that memory is not RAM.
[[nodiscard]] std::optional<EntryRegisters> prepare_entry(GuestMemory& memory, const EntryState& entry);
/// Puts the processor into the entry state. False if low memory is not RAM.
[[nodiscard]] bool enter(GuestMemory& memory, cpu::Vp& vp, const EntryState& entry);

/// Whole content of a file. Error (Usage) if it cannot be read or is larger than `limit`.
[[nodiscard]] Result<std::vector<u8>> read_file(const std::string& path, u64 limit);

}  // namespace vg::machine
