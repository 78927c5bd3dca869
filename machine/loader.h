// Kernels: bzImage (Linux/x86 boot protocol), ELF with a PVH note, multiboot.
#pragma once

#include <optional>
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

struct LoadRequest {
    std::string kernel, initrd, cmdline;
    std::vector<MemoryRange> memory_map;
    Gpa rsdp;  ///< ACPI root pointer, 0 if none
    std::optional<FrameBuffer> frame_buffer{};
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
};

/// Loads by content: bzImage, PVH ELF or multiboot, in that order of recognition. Errors (Usage) name the file, the
/// offset, what was found, and what would do.
[[nodiscard]] Result<EntryState> load_kernel(GuestMemory& memory, const LoadRequest& request);

/// Puts the processor into the entry state; page tables and descriptor tables go to low memory.
/// False if that memory is not RAM.
[[nodiscard]] bool enter(GuestMemory& memory, cpu::Vp& vp, const EntryState& entry);

/// Whole content of a file. Error (Usage) if it cannot be read or is larger than `limit`.
[[nodiscard]] Result<std::vector<u8>> read_file(const std::string& path, u64 limit);

}  // namespace vg::machine
